"""Waiters, event streams and connections in great number hold nobody up: they are found, told and ended in turns."""

import asyncio
import weakref
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from gateway.access.access import Access
from gateway.access.grants import ALL
from gateway.presence.presence import Presence
from gateway.shared_turn import SharedTurn
from gateway.watch import hub as hub_module
from gateway.watch.filter import ChangeFilter
from gateway.watch.hub import Hub
from gateway.watch.project import KnownFile
from gateway.watch.waiters import Waiters
from gateway.yjs.messages import AwarenessState
from storage import AppendUpdate, Version
from storage.sqlite import SQLiteStorage
from tests.support.clocks import TickingClock
from tests.support.iterations import Iterations
from tests.support.turns import until

_FOREVER_S = 3600.0


async def _turns_of(count: int, done: list[object]) -> list[int]:
    """How many things were done after each turn of the loop, until all were."""
    seen = [len(done)]
    while True:
        if seen[-1] >= count:
            return seen
        await asyncio.sleep(0)
        seen.append(len(done))


def test_many_changes_are_matched_with_many_filters_in_several_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "_MATCHED_AT_ONCE", 10)

    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        hub = Hub(storage, Waiters(turn=SharedTurn(TickingClock(0.001))))
        await storage.append("p", (AppendUpdate("a.md", Version(0), b"\0\0"),))
        project = await hub.require("p")
        woken: list[object] = []
        waiters = []
        for number in range(40):
            filter_ = ChangeFilter(prefix=f"{number:02}/")
            hub.waiters.enter(project)
            waiters.append(hub.waiters.add(project, filter_, _FOREVER_S, lambda number=number: woken.append(number)))
        await storage.append("p", tuple(AppendUpdate(f"{number:02}/a.md", Version(0), b"\0\0") for number in range(40)))
        assert project.unmatched
        assert not any(map(hub.waiters.waits, waiters))  # a group that is joined now would miss what is to come
        left = [len(project.unmatched)]
        while left[-1]:
            await asyncio.sleep(0)
            left.append(len(project.unmatched))
        assert all(before - after <= 6 for before, after in pairwise(left))
        await until(lambda: len(woken) == 40)
        assert sorted(map(str, woken)) == sorted(map(str, range(40)))
        await storage.close()

    asyncio.run(work())


def test_all_are_woken_where_very_many_changes_have_yet_to_be_matched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "_UNMATCHED", 10)

    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        hub = Hub(storage)
        await storage.append("p", (AppendUpdate("a.md", Version(0), b"\0\0"),))
        project = await hub.require("p")
        hub.waiters.enter(project)
        woken: list[object] = []
        hub.waiters.add(project, ChangeFilter(prefix="none/"), _FOREVER_S, lambda: woken.append(None))
        await storage.append("p", tuple(AppendUpdate(f"{number}.md", Version(0), b"\0\0") for number in range(20)))
        assert not project.unmatched
        await until(lambda: bool(woken))
        await storage.close()

    asyncio.run(work())


class _Known(KnownFile):
    __slots__ = ("__weakref__",)


def test_what_is_known_of_the_files_of_an_erased_project_is_freed_in_several_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "_FREED_TOGETHER", 3)

    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        hub = Hub(storage, Waiters(turn=SharedTurn(TickingClock(0.0005))))
        await storage.append("p", tuple(AppendUpdate(f"{number}.md", Version(0), b"\0\0") for number in range(60)))
        project = await hub.require("p")
        for number in range(60):
            head = await hub.file(project, "p", f"{number}.md")
            assert head is not None
            project.files[head.path] = _Known(head)
        kept = weakref.WeakSet(project.files.values())
        del project
        assert await storage.erase_project("p")
        left = [len(kept)]
        while left[-1]:
            await asyncio.sleep(0)
            left.append(len(kept))
        assert all(before - after <= 18 for before, after in pairwise(left))
        assert len(left) > 3
        await storage.close()

    asyncio.run(work())


def test_connections_whose_credential_ends_are_ended_in_several_turns() -> None:
    async def work() -> None:
        access = Access("ann", ALL, credential="t1", turn=SharedTurn(TickingClock(0.001)))
        ended: list[object] = []

        def watcher(number: int) -> object:
            def end() -> None:
                if number == 3:
                    raise RuntimeError("a fault")
                ended.append(number)

            return end

        watchers = [watcher(number) for number in range(40)]
        for each in watchers:
            access.watch(each)
        access.end("revoked")
        assert not access.counts
        access.unwatch(watchers[39])
        seen = await _turns_of(38, ended)
        assert all(after - before <= 6 for before, after in pairwise(seen))
        assert ended == [number for number in range(39) if number != 3]

    asyncio.run(work())


def test_presence_of_many_files_with_large_states_is_read_in_several_turns(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        presence = Presence(storage, Hub(storage))
        state = {"a": "x" * 10_000}
        for number in range(30):
            presence.say("p", f"{number}.md", 7, state, seconds=60)
        reading = asyncio.create_task(presence.events("p", ChangeFilter(presence=True), 0))
        turns = 0
        while not reading.done():
            await asyncio.sleep(0)
            turns += 1
            if turns == 2:
                presence.say("p", "29.md", 8, {}, seconds=60)
        events, position = reading.result()
        assert turns >= 30 * 10_000 // 2**16
        assert events.count(b"event: presence\n") == 30
        more, last = await presence.events("p", ChangeFilter(presence=True), position)
        assert (more.count(b"event: presence\n"), b'"29.md"' in more) == (1, True)  # told again: it has changed
        assert last == presence.position_of("p")
        await storage.close()

    asyncio.run(work())


def test_large_states_of_one_file_are_read_in_several_turns_and_as_of_one_version(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        presence = Presence(storage, Hub(storage))
        for client in range(12):
            presence.say("p", "a.md", client, {"a": "x" * 20_000}, seconds=60)
        version = presence.version_of("p", "a.md")
        reading = asyncio.create_task(presence.answer("p", "a.md"))
        turns = 0
        while not reading.done():
            await asyncio.sleep(0)
            turns += 1
            if turns == 2:
                presence.leave("p", "a.md", 11)
        answer = reading.result()
        assert turns >= 6
        assert (len(answer.clients), answer.version) == (12, version)
        again = await presence.answer("p", "a.md")
        assert (len(again.clients), again.version) == (11, presence.version_of("p", "a.md"))
        await storage.close()

    asyncio.run(work())


def test_states_are_packed_in_several_turns_for_an_answer_in_msgpack(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        presence = Presence(storage, Hub(storage))
        state = {"a": [[]] * 10_000}
        for client in range(12):
            presence.say("p", "a.md", client, state, seconds=60)
        room = presence.join("p", "a.md", lambda news: None)
        long = "[" + "[]," * 30_000 + "[]]"
        room.receive((AwarenessState(12, 1, long),), "a client")
        as_json = await presence.answer("p", "a.md")  # its states are encoded as JSON from now on
        iterations = Iterations()
        answer = await presence.answer("p", "a.md", of_json=False)
        iterations.stop()
        assert iterations.count >= 12 * 30_000 // 2**15
        packed = msgspec.msgpack.decode(msgspec.msgpack.encode(answer))
        assert packed == msgspec.json.decode(msgspec.json.encode(as_json)) | {"clients": packed["clients"]}
        assert [each["state"] for each in packed["clients"]] == [state] * 12 + [msgspec.json.decode(long)]
        await storage.close()

    asyncio.run(work())
