"""A whole document that is asked for again comes from memory, as the application would answer."""

import asyncio
from pathlib import Path
from typing import Any

import pycrdt
import pytest

from gateway.app import create_app
from gateway.files.wholes import Wholes
from gateway.settings import Settings
from storage import FileHead, Incarnation, Milliseconds, Sequence, Version
from storage.sqlite import SQLiteStorage
from tests.gateway.test_direct_appends import ask, typed

_P = "/api/projects/p/files"
_VARIANTS: list[tuple[str, dict[str, str]]] = [
    ("", {}),
    ("", {"accept": "*/*"}),
    ("", {"accept": "application/octet-stream"}),
    ("", {"accept": "text/plain"}),
    ("", {"accept-encoding": "gzip"}),
    ("", {"accept-encoding": ""}),
    ("", {"if-none-match": '"x"'}),
    ("", {"if-none-match": "*"}),
    ("", {"if-modified-since": "Thu, 01 Jan 1970 00:00:00 GMT"}),
    ("", {"if-modified-since": "Fri, 01 Jan 2038 00:00:00 GMT"}),
    ("", {"range": "bytes=0-3"}),
    ("", {"x-author": "Ada", "content-type": "text/plain"}),
    ("?format=json", {}),
    ("?format=update", {}),
    ("?from_version=0", {}),
    ("?from_version=1", {}),
    ("?at_version=2", {}),
    ("?x=1", {}),
]


def _document(*, stand_in: bool) -> list[bytes]:
    """A short document, or one of which the wire has another form than the log."""
    if not stand_in:
        return typed("some words \U0001f389", 1)
    return [pycrdt.Doc({"map": pycrdt.Map({"a": {"b": 2, "a": 1}})}, client_id=3).get_update(), *typed("ab", 1)]


@pytest.mark.parametrize("stand_in", [False, True], ids=["plain", "with a stand-in"])
def test_every_answer_is_that_of_the_application(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in: bool
) -> None:
    updates = _document(stand_in=stand_in)

    async def work(name: str) -> list[Any]:
        app = create_app(Settings(database=f"sqlite:///{tmp_path / name}.db"))
        answers: list[Any] = []
        async with app.running():
            for update in updates:
                await ask(app, ("PATCH", f"{_P}/a.md", update, {}))
                for method in ("GET", "GET", "HEAD"):
                    for query, headers in _VARIANTS:
                        answers.append(await ask(app, (method, f"{_P}/a.md{query}", b"", headers)))
            await ask(app, ("DELETE", f"{_P}/a.md", b"", {}))
            answers += [await ask(app, ("GET", f"{_P}/a.md", b"", {})) for _ in range(2)]
            answers.append(await ask(app, ("GET", f"{_P}/b.md", b"", {})))
        return answers

    read = 0
    get = Wholes.get

    def counted(*arguments: Any) -> Any:
        nonlocal read
        found = get(*arguments)
        read += found is not None
        return found

    monkeypatch.setattr(Wholes, "get", counted)
    mine = asyncio.run(work("mine"))
    assert read > 50
    monkeypatch.setattr(Wholes, "keep", lambda *arguments: None)
    usual = asyncio.run(work("usual"))
    for one, other in zip(mine, usual, strict=True):
        assert one == other


def test_a_document_that_is_asked_for_again_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        app = create_app(Settings(database=f"sqlite:///{tmp_path / 'g.db'}"))
        async with app.running() as storage:
            assert isinstance(storage, SQLiteStorage)
            for update in typed("words", 1):
                await ask(app, ("PATCH", f"{_P}/a.md", update, {}))
            first = await ask(app, ("GET", f"{_P}/a.md", b"", {}))

            def fail(*arguments: Any) -> Any:
                raise AssertionError("it is read again")

            monkeypatch.setattr(storage, "read_document", fail)
            monkeypatch.setattr(pycrdt.Doc, "get_update", fail)
            assert await ask(app, ("GET", f"{_P}/a.md", b"", {})) == first

    asyncio.run(work())


def _head(version: int) -> FileHead:
    return FileHead(
        "a", Version(version), Incarnation("i"), Sequence(1), Milliseconds(1), 1, False, Version(1), Sequence(1)
    )


def test_documents_are_kept_in_the_memory_that_open_ones_leave_free() -> None:
    open_bytes = 0
    wholes = Wholes(10_000, lambda: open_bytes)
    for number in range(8):
        wholes.keep("p", f"{number}.md", _head(1), b"x" * 1500)
    assert wholes.size <= 10_000
    assert wholes.get("p", "2.md", _head(1)) is None  # the oldest gave way
    assert wholes.get("p", "3.md", _head(1)) is not None  # and is the most recently used now
    assert wholes.get("p", "3.md", _head(2)) is None
    open_bytes = 8000
    wholes.make_room()
    assert wholes.get("p", "3.md", _head(1)) is not None
    assert wholes.get("p", "7.md", _head(1)) is None
    wholes.keep("p", "3.md", _head(2), b"y" * 2500)  # too large to be kept, and another version than what was
    assert wholes.get("p", "3.md", _head(1)) is None
    assert wholes.size == 0
