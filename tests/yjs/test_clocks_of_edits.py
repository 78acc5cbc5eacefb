"""A document's clocks follow the gateway's own edits of its texts without its whole state vector."""

from typing import NoReturn

import pycrdt
import pytest

from gateway.yjs import document as document_module
from gateway.yjs.document import LiveDocument
from gateway.yjs.lib0 import var_uint
from gateway.yjs.revisions import NewText
from gateway.yjs.state_vectors import read_state_vector
from gateway.yjs.updates import build_document

_CLIENTS = 500


def _written_by_many() -> bytes:
    structs = (b"\1" + var_uint(client) + b"\0\x04\1\7content\1x" for client in range(_CLIENTS, 0, -1))
    return var_uint(_CLIENTS) + b"".join(structs) + b"\0"


def test_an_edit_of_a_text_reads_no_state_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    built = build_document([_written_by_many()])
    live = LiveDocument(built)
    long = "x" * _CLIENTS

    def refuse(encoded: bytes) -> NoReturn:
        raise AssertionError("the whole state vector was read")

    with monkeypatch.context() as patched:
        patched.setattr(document_module, "read_state_vector", refuse)
        for text in ("a" + long, "a" + long, "a" + long + "\N{GRINNING FACE}b", "b", "", "c\N{GRINNING FACE}"):
            live.edit_text("content", NewText(text), make=True, encoded_size=0, most_steps=1_000_000)
    assert str(built.get("content", type=pycrdt.Text)) == "c\N{GRINNING FACE}"
    assert live.clients == _CLIENTS + 1
    assert live._clocks == read_state_vector(built.get_state())
