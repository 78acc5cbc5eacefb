"""A document that is closed while it takes in an update, as another write was stored: the update is admitted again."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pycrdt
import pytest

from gateway.files import open_document
from gateway.files.documents import Documents
from gateway.files.preconditions import Preconditions
from gateway.files.store import Files
from gateway.watch.hub import Hub
from gateway.yjs import document, heavy_edits, preparation
from gateway.yjs.updates import build_document
from storage import NOBODY
from storage.sqlite import SQLiteStorage


def _nested() -> bytes:
    """A list of 200 characters as the only item of another one, at clock 0 of client 5."""
    made: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
    root = made.get("root", type=pycrdt.Array)
    root.append(pycrdt.Array())
    for _ in range(200):
        root[0].insert(0, "x")
    return made.get_update()


_DELETION = b"\0\1\5\1\0\1"


def _texts() -> tuple[bytes, bytes]:
    """A document with two texts, and an update of several slices."""
    made: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
    text = made.get("content", type=pycrdt.Text)
    text += "x"
    whole, before = made.get_update(), made.get_state()
    for _ in range(200):
        text.insert(0, "y")
    return whole, made.get_update(before)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("kind", ["in a worker", "in turns"])
def test_an_update_is_stored_although_its_document_was_closed_meanwhile(
    kind: str, together: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (document, heavy_edits, preparation, open_document):
        monkeypatch.setattr(module, "MOST_HELD", 100)
    monkeypatch.setattr(open_document, "_LIGHT_WORK", 16)
    monkeypatch.setattr(open_document, "STEP_WORK", 16)
    whole, update = (_nested(), _DELETION) if kind == "in a worker" else _texts()
    closed = 0

    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        try:
            await write_meanwhile(storage)
        finally:
            await storage.close()

    async def write_meanwhile(storage: SQLiteStorage) -> None:
        documents = Documents(storage, memory_limit=2**28)
        files = Files(storage, documents, Hub(storage))
        await files.append("p", "a.md", whole, Preconditions())
        expected = build_document([whole])
        expected.apply_update(update)

        def close() -> None:
            nonlocal closed
            opened = documents._open.get(("p", "a.md"))
            if not closed and opened is not None and opened.turn.locked():
                closed += 1
                documents.discard(opened)

        run_in_worker = open_document.run_in_worker

        async def run(job: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            result = await run_in_worker(job, *arguments, **options)
            if job is open_document.take_in_elsewhere:
                close()
            return result

        apply = document.LiveDocument.apply

        def applied(self: document.LiveDocument, part: bytes) -> bytes | None:
            if kind == "in turns":
                close()
            return apply(self, part)

        monkeypatch.setattr(open_document, "run_in_worker", run)
        monkeypatch.setattr(document.LiveDocument, "apply", applied)
        if together:
            written, refused = await files.append_all("p", {"a.md": update}, NOBODY)
            assert not refused
            assert written["a.md"].changed
        else:
            assert (await files.append("p", "a.md", update, Preconditions())).changed
        stored = build_document([(await files.read_whole("p", "a.md")).update])
        assert stored.get_update() == expected.get_update()

    asyncio.run(work())
    assert closed == 1
