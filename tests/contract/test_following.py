"""What storage promises of other gateways, and where it has none (`storage/contract.py`)."""

import asyncio

from storage import AppendUpdate, CreateSession, CreateTurn, Storage, UpdateTurn, Version
from tests.contract.conftest import Open, Run


async def _append(storage: Storage, version: int) -> None:
    await storage.append("p", (AppendUpdate("a", Version(version), b"x"),))


def test_a_project_may_be_followed_before_it_exists(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            assert await storage.follow("p") is None
            assert await storage.catch_up("p") is None
            await _append(storage, 0)
            head = await storage.project_head("p")
            assert head is not None
            assert await storage.catch_up("p") == await storage.follow("p") == head
            while not storage.fresh:  # noqa: ASYNC110 - the first heartbeat is on its way
                await asyncio.sleep(0.01)
            storage.unfollow("p")
            storage.unfollow("p")
            await _append(storage, 1)
            assert (await storage.catch_up("p")) == await storage.project_head("p")

    run(main())


def test_somebody_holds_a_job(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            held = [await storage.hold("job", 60) for _ in range(4)]
            assert any(held)
            assert held[:2] == held[2:]  # who holds it keeps it, and nobody else gets it

    run(main())


def test_every_turn_is_due_once_its_time_is_over(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            await storage.create_session("p", CreateSession("s", None))
            turn = (await storage.write_turn("p", CreateTurn("s", "t", ""))).turn
            running = (await storage.write_turn("p", UpdateTurn("s", "t", turn.sequence, "running"))).turn
            assert await storage.due_turns(3600, 3600) == []
            due = await storage.due_turns(0, 0)
            assert due == ([("p", running)] if storage.shared else [])
            await storage.write_turn("p", UpdateTurn("s", "t", running.sequence, "completed"))
            assert await storage.due_turns(0, 0) == []

    run(main())


def test_new_lives_have_other_names_and_the_same_content(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            for version in range(3):
                await _append(storage, version)
            project, file = await storage.project_head("p"), await storage.file_head("p", "a")
            assert project is not None
            assert file is not None
            assert await storage.begin_new_incarnations() == 1
            after, reborn = await storage.project_head("p"), await storage.file_head("p", "a")
            assert after is not None
            assert reborn is not None
            assert after.epoch != project.epoch
            assert after.sequence >= project.sequence
            assert reborn.incarnation != file.incarnation
            assert (reborn.version, reborn.size) == (file.version, file.size)
            await _append(storage, 3)
            now = await storage.project_head("p")
            assert now is not None
            assert now.epoch == after.epoch
            document = await storage.read_document("p", "a")
            assert document is not None
            assert document.incarnation == reborn.incarnation
            assert document.updates == (b"x",) * 4

    run(main())
