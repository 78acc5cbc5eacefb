"""A project that one gateway erases is gone at all of them, and is not taken for commits that were lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from gateway.rooms.close_codes import FILE_DELETED
from storage import AppendUpdate, Commit, ErasedProject, ProjectHead, Version, VersionConflict
from storage.postgres import PostgresStorage
from tests.access.conftest import told
from tests.live.clients import Waiting, event_stream, put
from tests.live.test_rooms import Edit
from tests.postgres.conftest import Nodes
from tests.support.postgres import PATIENCE_S


@contextlib.asynccontextmanager
async def _two(url: str) -> AsyncIterator[tuple[PostgresStorage, PostgresStorage]]:
    first, second = (
        await PostgresStorage.open(url, patience=PATIENCE_S),
        await PostgresStorage.open(url, patience=PATIENCE_S),
    )
    try:
        yield first, second
    finally:
        await first.close()
        await second.close()


async def _write(storage: PostgresStorage, count: int = 3, project: str = "p") -> ProjectHead:
    for version in range(count):
        (committed,) = await storage.append(project, (AppendUpdate("a", Version(version), b"update"),))
    return committed.project


@pytest.mark.parametrize("later", [0, 1, 3, 5])
def test_a_follower_hears_of_it_even_if_the_name_is_used_again_at_once(database: str, later: int) -> None:
    async def main() -> None:
        async with _two(database) as (here, there):
            old = await _write(here)
            other = await _write(here, project="other")
            heard: list[Commit] = []
            erased = asyncio.Event()

            def listen(batch: tuple[Commit, ...]) -> None:
                heard.extend(batch)
                if any(isinstance(each, ErasedProject) for each in batch):
                    erased.set()

            there.listen(listen)
            assert await there.follow("p") == old
            assert await there.follow("other") == other
            assert await here.erase_project("p") == old
            new = await _write(here, later) if later else None
            await erased.wait()
            assert heard[0] == ErasedProject(old)
            # What came after may be heard of as well, if there was a heartbeat in between.
            assert {each.project.epoch for each in heard[1:]} <= ({new.epoch} if new is not None else set())
            assert await there.catch_up("p") == new
            assert await there.catch_up("other") == other  # no new generation began

    asyncio.run(asyncio.wait_for(main(), 120))


@pytest.mark.parametrize("later", [0, 3])
def test_a_write_made_elsewhere_for_the_erased_project_is_refused(database: str, later: int) -> None:
    async def main() -> None:
        async with _two(database) as (here, there):
            await _write(there)  # the other one knows the project at this sequence
            old = await here.erase_project("p")
            new = await _write(here, later) if later else None
            if later:
                (committed,) = await there.append("p", (AppendUpdate("a", Version(3), b"next"),))
                assert old is not None
                assert new is not None
                assert (committed.project.epoch, committed.project.sequence) == (new.epoch, 4)
                assert new.epoch != old.epoch
            else:
                with pytest.raises(VersionConflict):
                    await there.append("p", (AppendUpdate("a", Version(3), b"next"),))
                assert await there.project_head("p") is None
            assert await here.dangling() == []

    asyncio.run(asyncio.wait_for(main(), 120))


def test_erased_at_both_gateways_at_once_it_is_erased_once(database: str) -> None:
    async def main() -> None:
        async with _two(database) as (here, there):
            head = await _write(here)
            await there.follow("p")
            erased = await asyncio.gather(here.erase_project("p"), there.erase_project("p"))
            assert sorted(map(str, erased)) == sorted(map(str, (head, None)))

    asyncio.run(asyncio.wait_for(main(), 120))


def test_the_epoch_of_a_later_generation_is_recognized(database: str) -> None:
    async def main() -> None:
        async with _two(database) as (here, there):
            await _write(here)
            await here.begin_new_incarnations()
            head = await here.catch_up("p") or await here.project_head("p")
            assert head is not None
            assert await here.project_head("p") == await there.follow("p")
            heard: list[Commit] = []
            erased = asyncio.Event()
            there.listen(lambda batch: (heard.extend(batch), erased.set())[0])
            assert await here.erase_project("p") is not None
            await erased.wait()
            (commit,) = heard
            assert isinstance(commit, ErasedProject)
            assert commit.project.epoch == head.epoch
            first = await _write(there, 1)
            await here.begin_new_incarnations()
            await there.catch_up("p")
            again = await here.erase_project("p")
            assert again is not None
            assert again.epoch.startswith(first.epoch)

    asyncio.run(asyncio.wait_for(main(), 120))


def test_who_is_connected_to_the_other_gateway_learns_that_the_project_is_gone(nodes: Nodes, open_editor: Edit) -> None:
    with nodes[0].client() as a, nodes[1].client() as b:
        receipt = put(a, "a.md", "secret")
        assert b.get("/files/a.md", headers={"Accept": "text/plain"}).text == "secret"
        tag = b.get("/files/a.md").headers["ETag"]
        editor = open_editor(nodes[1], "demo", "a.md")
        editor.synced()
        with Waiting(nodes[1]) as waiting:
            asked = [
                waiting.start("GET", "/files/a.md", params={"wait": 60}, headers={"If-None-Match": tag}),
                waiting.start("GET", "/changes", params={"wait": 60, "since": receipt["cursor"]}),
            ]
            with event_stream(b) as stream:
                stream.until_ready()
                assert a.delete(nodes[0].project()).status_code == 204
                assert editor.until_ended() == FILE_DELETED
                for each in asked:
                    assert told(each.result(timeout=PATIENCE_S)) == (404, "project_not_found")
                for _ in stream:  # until it ends
                    pass
        assert told(b.get("/files/a.md")) == (404, "project_not_found")
        again = put(b, "a.md", "new")
        assert again["version"] == 1
        assert again["cursor"].split(".")[0] != receipt["cursor"].split(".")[0]
        assert a.get("/files/a.md", headers={"Accept": "text/plain"}).text == "new"
