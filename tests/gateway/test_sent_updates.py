"""A whole document or an increment that is asked for again comes from memory, as the application would answer."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pycrdt
import pytest
from msgspec.structs import replace

from gateway.app import create_app
from gateway.files.sent_updates import SentUpdates
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
    ("?from_version=1", {"accept": "text/plain"}),
    ("?from_version=1", {"accept-encoding": "gzip"}),
    ("?from_version=1", {"if-none-match": '"x"'}),
    ("?from_version=1", {"if-modified-since": "Fri, 01 Jan 2038 00:00:00 GMT"}),
    ("?from_version=01", {}),
    ("?from_version=2&wait=0", {}),
    ("?from_version=2&format=text", {}),
    ("?from_version=99999999999999999999", {}),
    ("?from_version=-1", {}),
    ("?from_version=", {}),
    ("?at_version=2", {}),
    ("?x=1", {}),
]


def _document(*, stand_in: bool) -> list[bytes]:
    """A short document, or one of which the wire has another form than the log."""
    if not stand_in:
        return typed("some words \U0001f389", 1)
    return [pycrdt.Doc({"map": pycrdt.Map({"a": {"b": 2, "a": 1}})}, client_id=3).get_update(), *typed("ab", 1)]


@pytest.mark.parametrize("directly", [False, True], ids=["in a task", "directly"])
@pytest.mark.parametrize("stand_in", [False, True], ids=["plain", "with a stand-in"])
def test_every_answer_is_that_of_the_application(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in: bool, directly: bool
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
                        answers.append(
                            await ask(
                                app, (method, f"{_P}/a.md{query}", b"", headers), directly=name == "mine" and directly
                            )
                        )
            await ask(app, ("DELETE", f"{_P}/a.md", b"", {}))
            answers += [await ask(app, ("GET", f"{_P}/a.md", b"", {})) for _ in range(2)]
            answers.append(await ask(app, ("GET", f"{_P}/b.md", b"", {})))
        return answers

    read = 0
    get = SentUpdates.get

    def counted(*arguments: Any) -> Any:
        nonlocal read
        found = get(*arguments)
        read += found is not None
        return found

    monkeypatch.setattr(SentUpdates, "get", counted)
    mine = asyncio.run(work("mine"))
    assert read > 50
    monkeypatch.setattr(SentUpdates, "keep", lambda *arguments: None)
    usual = asyncio.run(work("usual"))
    for one, other in zip(mine, usual, strict=True):
        assert one == other


@pytest.mark.parametrize("query", ["", "?from_version=1"])
def test_what_is_asked_for_again_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: str) -> None:
    async def work() -> None:
        app = create_app(Settings(database=f"sqlite:///{tmp_path / 'g.db'}"))
        async with app.running() as storage:
            assert isinstance(storage, SQLiteStorage)
            for update in typed("words", 1):
                await ask(app, ("PATCH", f"{_P}/a.md", update, {}))
            question = ("GET", f"{_P}/a.md{query}", b"", {})
            first = await ask(app, question)

            def fail(*arguments: Any) -> Any:
                raise AssertionError("it is read again")

            monkeypatch.setattr(storage, "read_document", fail)
            monkeypatch.setattr(storage, "read_increment", fail)
            monkeypatch.setattr(pycrdt.Doc, "get_update", fail)
            assert await ask(app, question) == first
            assert await ask(app, question, directly=True) == first

    asyncio.run(work())


def test_an_increment_that_is_asked_for_again_has_what_was_written_meanwhile(tmp_path: Path) -> None:
    async def work() -> None:
        app = create_app(Settings(database=f"sqlite:///{tmp_path / 'g.db'}"))
        updates = typed("words", 1)
        async with app.running():
            await ask(app, ("PATCH", f"{_P}/a.md", updates[0], {}))
            replica = pycrdt.Doc({"content": pycrdt.Text()})
            replica.apply_update(updates[0])
            for update in updates[1:]:
                await ask(app, ("PATCH", f"{_P}/a.md", update, {}))
                for _ in range(2):
                    *_, increment = await ask(app, ("GET", f"{_P}/a.md?from_version=1", b"", {}), directly=True)
                replica.apply_update(increment)
            assert str(replica["content"]) == "ords"  # the last update deletes the first letter

    asyncio.run(work())


@pytest.mark.parametrize("first", ["?from_version=1", "?from_version=2", ""])
def test_an_increment_is_made_of_what_was_written_since_another_one_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    async def work() -> None:
        app = create_app(Settings(database=f"sqlite:///{tmp_path / 'g.db'}"))
        updates = _document(stand_in=True) + typed(" some \U0001f389 words", 2)
        async with app.running() as storage:
            assert isinstance(storage, SQLiteStorage)
            for update in updates[:3]:
                await ask(app, ("PATCH", f"{_P}/a.md", update, {}))
            await ask(app, ("GET", f"{_P}/a.md{first}", b"", {}))

            async def increments() -> list[Any]:
                since = [2, 3, len(updates) - 1, len(updates)] if first == "?from_version=2" else [3, len(updates)]
                return [await ask(app, ("GET", f"{_P}/a.md?from_version={version}", b"", {})) for version in since]

            def fail(*arguments: Any, **named: Any) -> Any:
                raise AssertionError("the log is read")

            with monkeypatch.context() as patch:
                patch.setattr(storage, "read_increment", fail)
                for update in updates[3:]:
                    await ask(app, ("PATCH", f"{_P}/a.md", update, {}))
                    from_memory = await increments()
            monkeypatch.setattr(SentUpdates, "get", lambda *arguments: None)
            monkeypatch.setattr(SentUpdates, "rows_since", lambda *arguments: None)
            assert from_memory == await increments()

    asyncio.run(work())


def test_rows_are_kept_while_each_follows_the_one_before() -> None:
    sent = SentUpdates(2**20, lambda: 0)
    sent.keep("p", "a.md", _head(5), b"cde", 2, [b"c", b"d", b"e"])
    assert sent.rows_since("p", "a.md", _head(5), 3) == [b"d", b"e"]
    assert sent.rows_since("p", "a.md", _head(5), 1) is None
    sent.advance("p", "a.md", _head(6), b"f")
    assert sent.rows_since("p", "a.md", _head(5), 3) is None
    assert sent.rows_since("p", "a.md", _head(6), 2) == [b"c", b"d", b"e", b"f"]
    assert sent.rows_since("p", "a.md", _head(6), 6) == []
    assert sent.rows_since("p", "a.md", _head(6), 7) is None
    assert sent.get("p", "a.md", _head(6), 2) is None  # it leads to version 5
    sent.keep("p", "a.md", _head(6), b"f", 5, [b"f"])  # these are fewer
    assert sent.rows_since("p", "a.md", _head(6), 2) == [b"c", b"d", b"e", b"f"]

    for other in (_head(8), replace(_head(7), incarnation=Incarnation("j")), _head(6)):
        sent.advance("p", "a.md", other, b"g")
        assert sent.size == 0
        sent.keep("p", "a.md", _head(6), b"whole")
        assert sent.rows_since("p", "a.md", _head(6), 5) is None
    sent.advance("p", "a.md", replace(_head(7), deleted=True), None)
    assert sent.size == 0


def test_a_file_that_is_written_and_not_followed_is_forgotten() -> None:
    sent = SentUpdates(2**20, lambda: 0)
    sent.keep("p", "a.md", _head(1), b"whole")
    for version in range(2, 3000):
        sent.advance("p", "a.md", _head(version), b"some words")
        assert sent.size < 70_000
    assert sent.size == 0
    sent.keep("p", "a.md", _head(2), b"whole", 1, [bytes(50_000)])
    assert sent.rows_since("p", "a.md", _head(2), 1) is None


def test_a_few_increments_of_a_file_are_kept_and_all_forgotten_with_it() -> None:
    sent = SentUpdates(2**20, lambda: 0)
    for since in range(1, 200):
        sent.keep("p", "a.md", _head(200), b"x", since)
        assert sent.get("p", "a.md", _head(200), since) is not None
    assert sent.size < 70 * 600
    assert sent.get("p", "a.md", _head(201), 199) is None
    sent.forget("p", "a.md")
    assert sent.size == 0
    assert sent.get("p", "a.md", _head(200), 199) is None


def _head(version: int) -> FileHead:
    return FileHead(
        "a", Version(version), Incarnation("i"), Sequence(1), Milliseconds(1), 1, False, Version(1), Sequence(1)
    )


def test_documents_are_kept_in_the_memory_that_open_ones_leave_free() -> None:
    open_bytes = 0
    sent = SentUpdates(10_000, lambda: open_bytes)
    for number in range(8):
        sent.keep("p", f"{number}.md", _head(1), b"x" * 1500)
    assert sent.size <= 10_000
    assert sent.get("p", "2.md", _head(1)) is None  # the oldest gave way
    assert sent.get("p", "3.md", _head(1)) is not None  # and is the most recently used now
    assert sent.get("p", "3.md", _head(2)) is None
    open_bytes = 8000
    sent.make_room()
    assert sent.get("p", "3.md", _head(1)) is not None
    assert sent.get("p", "7.md", _head(1)) is None
    sent.keep("p", "3.md", _head(2), b"y" * 2500)  # too large to be kept, and another version than what was
    assert sent.get("p", "3.md", _head(1)) is None
    assert sent.size == 0


def test_what_was_sent_of_an_erased_project_is_forgotten_a_file_with_each_step() -> None:
    sent = SentUpdates(10**6, lambda: 0)
    old = [_state(f"f{number}", "old") for number in range(100)]
    for head in old:
        sent.keep("p", head.path, head, b"update")
        sent.keep("q", head.path, head, b"update")
    before = sent.size
    steps = sent.forget_project("p")
    assert sent.size == before  # nothing is done at once
    new = [_state(f"f{number}", "new") for number in range(50)]
    for head in new:  # files of the same names, made meanwhile
        assert sent.get("p", head.path, head) is None
        sent.keep("p", head.path, head, b"another")
    sizes = [sent.size for _ in steps]
    assert len(sizes) == 100
    assert max(one - other for one, other in pairwise(sizes)) <= before // 200
    assert all(sent.get("p", head.path, head) is None for head in old)
    assert all(sent.get("q", head.path, head) is not None for head in old)
    assert [kept.update for head in new if (kept := sent.get("p", head.path, head))] == [b"another"] * 50
    assert [*sent.forget_project("p")] == [None] * 50
    assert [*sent.forget_project("q")] == [None] * 100
    assert sent.size == 0
    assert [*sent.forget_project("p")] == []


def _state(path: str, incarnation: str) -> FileHead:
    one = Version(1)
    return FileHead(path, one, Incarnation(incarnation), Sequence(1), Milliseconds(0), 6, False, one, Sequence(1))
