"""Receipts are put together from a template; they are what the encoder makes of the record."""

import itertools

import msgspec
import pytest

from gateway.api.receipts import encoded_receipt
from gateway.files.store import Written
from gateway.wire.files import Receipt
from storage import FileHead, Incarnation, Milliseconds, Sequence, Version

_PATHS = ("a.md", "notes/b c.md", 'say "hello".md', "back\\slash", "<script>&amp;", "d/e/été", "日本/😀.md", "\u200d")


@pytest.mark.parametrize("path", _PATHS)
def test_the_body_of_a_receipt_is_the_encoded_record(path: str) -> None:
    for version, time, changed, merged, vector in itertools.product(
        (1, 2**53), (0, 1_764_460_800_007, 253_402_300_799_999), (True, False), (False, True), (None, b"\0")
    ):
        head = FileHead(
            path,
            Version(version),
            Incarnation("0123456789"),
            Sequence(version + 3),
            Milliseconds(time),
            7,
            False,
            Version(1),
            Sequence(1),
        )
        written = Written(head, "abcdefghij", changed, state_vector=vector, merged=merged)
        status, lines, body = encoded_receipt(written)
        assert status == 200
        assert body == msgspec.json.encode(written.receipt())
        assert msgspec.json.decode(body, type=Receipt) == written.receipt()
        assert b"content-length: %d\r\n" % len(body) in lines
