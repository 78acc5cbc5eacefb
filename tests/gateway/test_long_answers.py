"""JSON answers with long lists: encoded and sent in slices, and the same bytes as if they were encoded at once."""

import asyncio
from collections import Counter
from typing import Any

import httpx
import msgspec
import pytest

from gateway.http.long_answers import PLACE, json_with_list, msgpack_with_list, response_of
from gateway.wire.changes import SyncAnswer, SyncChange
from gateway.wire.files import FileEntry, FileListing, History, VersionEntry
from gateway.wire.turns import Block, Turn
from storage import AppendUpdate, Version
from storage.sqlite import SQLiteStorage
from tests.support.iterations import Iterations


def _listing(count: int, length: int) -> FileListing:
    entries = [
        FileEntry(f"{number}/" + "\u00e9" * length, number, "2025-01-06T10:00:00.000Z", 7) for number in range(count)
    ]
    return FileListing(entries, "a.1", "the last")


@pytest.mark.parametrize("count", [0, 1, 32, 33, 5_000])
def test_an_answer_is_what_it_would_be_if_it_were_encoded_at_once(count: int) -> None:
    listing = _listing(count, 3)
    assert asyncio.run(json_with_list(listing, "files")) == msgspec.json.encode(listing)


_LONG = bytes(range(256)) * 2**11 + b"odd"


def _sync(*updates: bytes | msgspec.UnsetType) -> SyncAnswer:
    changes = [
        SyncChange(f"{number}", "2025-01-06T10:00:00.000Z", 1, "created", update=update, from_version=0)
        for number, update in enumerate(updates)
    ]
    return SyncAnswer({"a": 1}, changes, "a.1", False)


_SYNCS = [
    _sync(),
    _sync(b"x", msgspec.UNSET),
    _sync(_LONG),
    _sync(b"x", _LONG, msgspec.UNSET, _LONG[1:], _LONG[2:], b""),
    _sync(*[b"x"] * 100, _LONG),
    _sync(*[_LONG[:1000]] * 70_000),
]


@pytest.mark.parametrize("answer", _SYNCS, ids=["nothing", "short", "long", "some", "many", "very many"])
def test_long_updates_are_encoded_in_slices_and_never_copied_for_msgpack(answer: SyncAnswer) -> None:
    async def main() -> None:
        iterations = Iterations()
        for encode, decoder in (
            (json_with_list, msgspec.json.Decoder(SyncAnswer)),
            (msgpack_with_list, msgspec.msgpack.Decoder(SyncAnswer)),
        ):
            began = iterations.count
            encoded = await encode(answer, "changes")
            body = encoded if isinstance(encoded, bytes) else b"".join(encoded)
            assert decoder.decode(body) == answer
            size = sum(len(each.update) for each in answer.changes if isinstance(each.update, bytes))
            if encode is json_with_list and size > 2**20:
                assert iterations.count - began >= size // 2**20
            if size > 2**20:
                assert isinstance(encoded, list)
                longest = max(map(len, encoded))
                assert longest <= (2**19 if encode is json_with_list else max(2**17, len(_LONG)))
            for each in answer.changes:
                if encode is msgpack_with_list and isinstance(encoded, list) and len(each.update or b"") > 2**17:
                    assert any(part is each.update for part in encoded)
        iterations.stop()

    asyncio.run(main())


def test_fields_around_the_list_may_hold_anything() -> None:
    entries = [VersionEntry(number, "\0[]", number, '"versions":[]') for number in range(100)]
    history = History(entries, 7)
    assert asyncio.run(json_with_list(history, "versions")) == msgspec.json.encode(history)


@pytest.mark.parametrize("places", [(0,), (2,), (0, 1, 2), (40, 99)])
def test_a_long_value_of_an_entry_is_put_in_without_a_copy(places: tuple[int, ...]) -> None:
    value = b'"' + b"v" * 3_000_000 + b'"'
    count = 3 if max(places) < 3 else 100
    whole, parted = (
        Turn(
            id="t",
            session_id="s",
            prompt="p",
            status="running",
            block_count=count,
            error=None,
            created_at="c",
            started_at=None,
            completed_at=None,
            last_updated="l",
            blocks=[
                Block(f"t.{place}", place, "text", msgspec.Raw(long if place in places else b"1"), "c")
                for place in range(count)
            ],
        )
        for long in (value, PLACE)
    )
    encoded = asyncio.run(json_with_list(parted, "blocks", dict.fromkeys(places, value)))
    assert isinstance(encoded, list)
    assert b"".join(encoded) == msgspec.json.encode(whole)
    assert [part is value for part in encoded].count(True) == len(places)


def test_a_long_list_is_encoded_and_sent_a_slice_per_iteration() -> None:
    listing = _listing(5_000, 500)
    sent: list[tuple[int, dict[str, Any]]] = []

    async def main() -> None:
        iterations = Iterations()

        async def send(message: Any) -> None:
            sent.append((iterations.count, message))

        began = iterations.count
        encoded = await json_with_list(listing, "files")
        assert isinstance(encoded, list)
        assert iterations.count - began >= len(listing.files) // 512
        response = response_of(encoded, {"ETag": '"x"'})
        await response({"type": "http", "method": "GET"}, None, send)  # type: ignore[arg-type]
        iterations.stop()

    asyncio.run(main())
    (_, start), *parts = sent
    body = b"".join(part["body"] for _, part in parts)
    assert body == msgspec.json.encode(listing)
    headers = dict(start["headers"])
    assert (headers[b"content-length"], headers[b"etag"]) == (str(len(body)).encode(), b'"x"')
    assert headers[b"content-type"] == b"application/json"
    assert [part["more_body"] for _, part in parts] == [True] * (len(parts) - 1) + [False]
    assert max(len(part["body"]) for _, part in parts) < 70_000
    assert set(Counter(iteration for iteration, _ in parts).values()) == {1}


def test_a_listing_of_megabytes_is_the_same_in_every_coding(shared_project: httpx.Client) -> None:
    names = [f"{number:04}/" + "\u00e9" * 500 for number in range(1_500)]
    shared_project.post("/sync", json={"updates": dict.fromkeys(names, "AAA=")}).raise_for_status()
    answers = [
        shared_project.get("/files", params={"limit": 10_000}, headers={"Accept-Encoding": coding})
        for coding in ("identity", "gzip", "br", "zstd")
    ]
    assert [answer.headers.get("Content-Encoding") for answer in answers[:2]] == [None, "gzip"]
    assert [entry["path"] for entry in answers[0].json()["files"]] == names
    assert int(answers[0].headers["Content-Length"]) == len(answers[0].content) > 2**20
    assert {answer.headers["ETag"].removeprefix("W/") for answer in answers} == {answers[0].headers["ETag"]}
    assert {answer.content for answer in answers} == {answers[0].content}
    head = shared_project.head("/files", params={"limit": 10_000})
    assert (head.status_code, head.content) == (200, b"")


def test_long_pages_are_read_in_the_thread_for_reads(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        for version in range(3):
            await storage.append("p", (AppendUpdate("a.md", Version(version), b"\0\0"),))
        far: list[Any] = []
        read_long = storage._database.read_long  # type: ignore[attr-defined]

        async def noted(query: Any) -> Any:
            far.append(query)
            return await read_long(query)

        monkeypatch.setattr(storage._database, "read_long", noted)  # type: ignore[attr-defined]
        for limit, expected in ((100, 0), (1_000, 1)):
            answer = await storage.read_history("p", "a.md", limit=limit)
            assert answer is not None
            assert [record.version for record in answer[1]] == [3, 2, 1]
            assert len(far) == expected
        await storage.close()

    asyncio.run(main())
