"""Updates of many files that are stored together: taken in a few at a time, and nobody sees one before it is stored."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.files import store
from gateway.files.documents import Documents
from gateway.files.store import Files
from gateway.watch.hub import Hub
from gateway.yjs.updates import build_document
from storage import NOBODY
from storage.sqlite import SQLiteStorage
from tests.live.editors import Typewriter
from tests.support.iterations import Iterations


@asynccontextmanager
async def _files(folder: Path) -> AsyncIterator[Files]:
    storage = await SQLiteStorage.open(folder / "gateway.db")
    yield Files(storage, Documents(storage, memory_limit=2**26, size_limit=2**24), Hub(storage))
    await storage.close()


def test_others_have_turns_while_many_files_take_in_their_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit = store._admit

    async def main() -> None:
        async with _files(tmp_path) as files:
            iterations, admitted = Iterations(), list[int]()

            async def noted(*args: Any) -> Any:
                admitted.append(iterations.count)
                return await admit(*args)

            monkeypatch.setattr(store, "_admit", noted)
            update = Typewriter().type("x")
            written, refused = await files.append_all("p", {f"{number}": update for number in range(1_100)}, NOBODY)
            iterations.stop()
            assert (len(written), refused) == (1_100, {})
            assert {each.head.version for each in written.values()} == {1}
            assert max(Counter(admitted).values()) <= 512

    asyncio.run(main())


@pytest.mark.parametrize("fails", [False, True])
def test_nobody_reads_what_waits_for_the_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    admit = store._admit

    async def main() -> None:
        async with _files(tmp_path) as files:
            writer = Typewriter()
            first, second = writer.type("one "), writer.type("two")
            await files.append_all("p", {"a": first, "b": first}, NOBODY)
            before = (await files.read_whole("p", "a")).update
            meanwhile: list[tuple[int, bytes]] = []
            asked: list[asyncio.Task[bytes]] = []

            async def reading(document: Any, update: bytes) -> Any:
                if document.path == "b":
                    content = await files.read_whole("p", "a")
                    meanwhile.append((content.version, content.update))
                    asked.append(asyncio.create_task(files.state_vector("p", "a")))
                    await asyncio.sleep(0)
                return await admit(document, update)

            monkeypatch.setattr(store, "_admit", reading)
            broken = b"\xff" * 9 if fails else second
            written, refused = await files.append_all("p", {"a": second, "b": broken}, NOBODY)
            if fails:
                assert (written, list(refused)) == ({}, ["b"])
            else:
                assert {path: each.head.version for path, each in written.items()} == {"a": 2, "b": 2}
            assert meanwhile == [(1, before)]
            after = await files.read_whole("p", "a")
            assert [await each for each in asked] == [build_document([after.update]).get_state()] * len(asked)
            assert (after.version, after.update == before) == ((1, True) if fails else (2, False))

    asyncio.run(main())


def test_a_project_that_is_erased_meanwhile_gets_all_of_the_updates_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit = store._admit

    async def main() -> None:
        async with _files(tmp_path) as files:
            update = Typewriter().type("x")
            await files.append_all("p", {"a": update, "b": update}, NOBODY)
            erased = False

            async def erasing(document: Any, given: bytes) -> Any:
                nonlocal erased
                result = await admit(document, given)
                if document.path == "b" and not erased:
                    erased = True
                    await files._storage.erase_project("p")
                return result

            monkeypatch.setattr(store, "_admit", erasing)
            more = Typewriter().type("y")
            written, refused = await files.append_all("p", {"a": more, "b": more}, NOBODY)
            assert (erased, refused) == (True, {})
            assert {path: each.head.version for path, each in written.items()} == {"a": 1, "b": 1}
            for path in ("a", "b"):
                assert (await files.read_whole("p", path)).update == more

    asyncio.run(main())
