"""Pollers of turns and documents against a real gateway, with a bad network in between."""

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gateway.app import Gateway
from gateway.client import (
    DocumentChange,
    DocumentPoller,
    GatewayClient,
    GatewayError,
    PollingManager,
    PollSettings,
    Project,
    TurnFailed,
    TurnPoller,
)
from gateway.settings import Settings
from gateway.wire.turns import Turn
from storage import Storage
from storage.opening import StorageLimits
from storage.sqlite import SQLiteStorage
from tests.client.proxy import FaultyProxy
from tests.support.server import GatewayProcess
from tests.support.statements import record_statements

QUICK = PollSettings(
    turn_interval_ms=20,
    document_interval_ms=20,
    active_interval_ms=20,
    slow_interval_ms=20,
    idle_stop_ms=None,
    inactive_stop_ms=None,
    retry_delays_ms=(20,),
    retry_for_ever=True,
    fast_loop_ms=0,
)
NEVER = 3600.0
"""As an interval: whatever comes in, no timer has asked for it."""
TRANSPORTS = ["poll", "long-poll", "sse", "auto"]


class Site:
    """A project as its writer has it, and as a reader has it behind the proxy."""

    def __init__(self, writer: Project, reader: Project, polling: PollingManager, proxy: FaultyProxy) -> None:
        self.writer = writer
        self.reader = reader
        self.polling = polling
        self.proxy = proxy


@contextlib.asynccontextmanager
async def site(gateway: GatewayProcess, settings: PollSettings = QUICK) -> AsyncIterator[Site]:
    name = f"pollers-{uuid.uuid4().hex[:12]}"
    async with (
        asyncio.timeout(120),
        GatewayClient(gateway.url) as direct,
        FaultyProxy(gateway.port) as proxy,
        GatewayClient(proxy.url) as client,
        PollingManager(settings=settings) as polling,
    ):
        yield Site(direct.project(name), client.project(name), polling, proxy)


class Seen:
    """What callbacks were given, to be waited for."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._news = asyncio.Condition()

    async def __call__(self, item: Any) -> None:
        async with self._news:
            self.items.append(item)
            self._news.notify_all()

    async def until(self, condition: Any) -> None:
        async with self._news:
            await self._news.wait_for(lambda: condition(self.items))


class Changes(Seen):
    """The changes of all answers, one after the other."""

    async def __call__(self, item: list[DocumentChange]) -> None:
        assert item  # nobody is called for nothing
        for change in item:
            await super().__call__(change)


def disturb(proxy: FaultyProxy, step: int) -> None:
    """One fault after the other, each for some steps."""
    match step % 16:
        case 2:
            proxy.cut_connections()
        case 4:
            proxy.cut_after = 150
        case 6:
            proxy.cut_after, proxy.unavailable = None, 0
        case 8:
            proxy.unavailable, proxy.delay = None, 0.02
        case 10:
            proxy.delay = 0
            proxy.go_down()
        case 12:
            proxy.down = False


def heal(proxy: FaultyProxy) -> None:
    proxy.cut_after, proxy.unavailable, proxy.delay, proxy.down = None, None, 0.0, False


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_blocks_come_each_once_and_in_order_through_any_fault(shared_gateway: GatewayProcess, transport: Any) -> None:
    async def main() -> None:
        async with site(shared_gateway) as the:
            session = (await the.writer.create_session()).id
            turn = (await the.writer.create_turn(session, "do it")).id
            updates, completed, errors = Seen(), Seen(), Seen()
            poller = TurnPoller(
                the.polling, the.reader, session, turn,
                on_update=updates, on_complete=completed, on_error=errors, transport=transport,
            )  # fmt: skip
            for number in range(64):
                await the.writer.append_blocks(session, turn, [("text", number)])
                disturb(the.proxy, number)
                if number % 16 == 13:
                    await updates.until(lambda items, count=number: items and items[-1].block_count > count)
            heal(the.proxy)
            await the.writer.set_turn_status(session, turn, "completed")
            await completed.until(len)
            blocks = [block for update in updates.items for block in update.blocks]
            assert [bytes(block.content) for block in blocks] == [b"%d" % number for number in range(64)]
            assert [block.index for block in blocks] == list(range(64))
            (whole,) = completed.items
            assert whole.blocks == blocks
            assert whole.status == "completed"
            assert all(isinstance(error, GatewayError) for error in errors.items)
            last, others = updates.items[-1], Changes()
            assert poller.stopped == "completed"
            cursor = (await the.writer.put_text("after.md", "")).value.cursor
            DocumentPoller(the.polling, the.reader, on_changes=others, since=cursor, transport=transport)
            for number in range(5):  # by a stream or by time, what comes later is told to others alone
                await the.writer.create_turn(session, "do more")
                await the.writer.put_text("after.md", str(number))
                await others.until(lambda items, number=number: len(items) > number)
            assert updates.items[-1] is last

    asyncio.run(main())


def test_a_turn_that_failed_is_an_error_first_and_complete_then(shared_gateway: GatewayProcess) -> None:
    async def main() -> None:
        async with site(shared_gateway) as the:
            session = (await the.writer.create_session()).id
            turn = (await the.writer.create_turn(session, "do it")).id
            await the.writer.append_blocks(session, turn, [("text", "so far")])
            told = Seen()
            TurnPoller(
                the.polling, the.reader, session, turn, on_update=lambda update: None,
                on_complete=told, on_error=told, transport="poll",
            )  # fmt: skip
            await the.writer.set_turn_status(session, turn, "failed", "no luck")
            await told.until(lambda items: len(items) == 2)
            failed, completed = told.items
            assert isinstance(failed, TurnFailed)
            assert str(failed) == "no luck"
            assert failed.turn == completed
            assert [block.index for block in completed.blocks] == [0]

    asyncio.run(main())


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_changes_of_files_come_each_once_and_in_order_through_any_fault(
    shared_gateway: GatewayProcess, transport: Any
) -> None:
    async def main() -> None:
        async with site(shared_gateway) as the:
            cursor = (await the.writer.put_text("0", "0")).value.cursor
            changes = Changes()
            DocumentPoller(the.polling, the.reader, on_changes=changes, since=cursor, transport=transport)
            paths = [f"file {number} 🎈" for number in range(64)]
            for number, path in enumerate(paths):
                await the.writer.put_text(path, str(number))
                disturb(the.proxy, number)
                if number % 16 == 13:
                    await changes.until(lambda items, path=path: path in [change.path for change in items])
            heal(the.proxy)
            await the.writer.delete("0")
            await changes.until(lambda items: items and items[-1].path == "0")
            assert [change.path for change in changes.items] == [*paths, "0"]
            assert [change.change_type for change in changes.items] == ["created"] * 64 + ["deleted"]

    asyncio.run(main())


@pytest.mark.parametrize("transport", ["long-poll", "sse", "auto"])
def test_with_a_stream_nothing_is_asked_by_time(shared_gateway: GatewayProcess, transport: Any) -> None:
    async def main() -> None:
        async with site(shared_gateway) as the:
            await the.writer.put_text("a.md", "a")
            changes, others = Changes(), Changes()
            DocumentPoller(the.polling, the.reader, on_changes=changes, transport=transport, interval=NEVER)
            DocumentPoller(the.polling, the.reader, ["b.md"], on_changes=others, transport=transport, interval=NEVER)
            for number in range(2, 6):
                await changes.until(lambda items, number=number: len(items) == number - 1)
                await the.writer.put_text("a.md" if number < 5 else "b.md", f"version {number}")
            await others.until(len)
            await changes.until(lambda items: len(items) == 5)
            assert [(change.path, change.version) for change in changes.items][-2:] == [("a.md", 4), ("b.md", 1)]
            assert [change.path for change in others.items] == ["b.md"]
            assert len(the.polling._listeners) == 1

    asyncio.run(main())


def test_a_stream_that_cannot_stand_costs_no_change(shared_gateway: GatewayProcess) -> None:
    """The gateway has no feed here, as behind a proxy that lets nothing be held: files are polled all the same."""

    class NoFeed(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if "wait" in request.url.params or "text/event-stream" in request.headers["Accept"]:
                return httpx.Response(504)
            return await super().handle_async_request(request)

    async def main() -> None:
        async with (
            asyncio.timeout(120),
            GatewayClient(shared_gateway.url, transport=NoFeed()) as client,
            PollingManager(settings=QUICK) as polling,
        ):
            changes, project = Changes(), client.project(f"pollers-{uuid.uuid4().hex[:12]}")
            await project.put_text("a.md", "a")
            DocumentPoller(polling, project, on_changes=changes, transport="auto")
            for number in range(1, 10):
                await changes.until(lambda items, number=number: len(items) == number)
                await project.put_text("a.md", f"version {number}")
            await changes.until(lambda items: len(items) == 10)

    asyncio.run(main())


def test_who_comes_later_is_told_of_everything_too_and_nobody_twice(shared_gateway: GatewayProcess) -> None:
    async def main() -> None:
        async with site(shared_gateway) as the:
            await the.writer.put_text("a.md", "a")
            await the.writer.put_text("gone.md", "gone")
            early, late = Changes(), Changes()
            DocumentPoller(the.polling, the.reader, on_changes=early, transport="poll")
            await early.until(lambda items: len(items) == 2)
            await the.writer.put_text("a.md", "b")
            await the.writer.delete("gone.md")
            await early.until(lambda items: len(items) == 4)
            poller = DocumentPoller(the.polling, the.reader, on_changes=late, transport="poll")
            await late.until(len)
            await the.writer.put_text("b.md", "b")
            await late.until(lambda items: len(items) == 2)
            kinds = [(change.path, change.change_type) for change in late.items]
            assert kinds == [("a.md", "created"), ("b.md", "created")]
            await early.until(lambda items: len(items) == 5)
            poller.close()
            await the.writer.put_text("c.md", "c")
            await early.until(lambda items: len(items) == 6)
            assert len(late.items) == 2

    asyncio.run(main())


def test_a_callback_that_raises_costs_nobody_a_change(shared_gateway: GatewayProcess) -> None:
    async def main() -> None:
        faults: list[tuple[str, Exception]] = []
        seen: list[str] = []

        def raising(changes: list[DocumentChange]) -> None:
            seen.extend(change.path for change in changes)
            raise ValueError("a fault of the application")

        name = f"pollers-{uuid.uuid4().hex[:12]}"
        async with (
            asyncio.timeout(120),
            GatewayClient(shared_gateway.url) as client,
            PollingManager(settings=QUICK, on_fault=lambda key, fault: faults.append((key, fault))) as polling,
        ):
            project, calm = client.project(name), Changes()
            for number in range(3):
                await project.put_text(str(number), "")
            DocumentPoller(polling, project, on_changes=raising, transport="poll")
            DocumentPoller(polling, project, on_changes=calm, transport="poll")
            await calm.until(lambda items: len(items) == 3)
            await project.put_text("3", "")
            await calm.until(lambda items: len(items) == 4)
        assert seen == ["0", "1", "2", "3"]
        assert [str(fault) for _, fault in faults] == ["a fault of the application"] * 2

    asyncio.run(main())


def test_the_changes_of_one_answer_come_together(shared_gateway: GatewayProcess) -> None:
    async def main() -> None:
        async with site(shared_gateway, msgspec.structs.replace(QUICK, cache_ms=0)) as the:
            for number in range(5):
                await the.writer.put_text(str(number), "")
            answers = Seen()
            poller = DocumentPoller(the.polling, the.reader, on_changes=answers, transport="poll", interval=NEVER)
            await answers.until(len)
            await the.writer.put_text("4", "more")
            await the.writer.delete("3")
            await poller.refresh()
            await answers.until(lambda items: len(items) == 2)
            told = [[(change.path, change.change_type) for change in answer] for answer in answers.items]
            assert told == [[(str(number), "created") for number in range(5)], [("4", "modified"), ("3", "deleted")]]

    asyncio.run(main())


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_without_initial_only_what_comes_afterwards_is_told(shared_gateway: GatewayProcess, transport: Any) -> None:
    async def main() -> None:
        async with site(shared_gateway) as the:
            await the.writer.put_text("old.md", "")
            changes = Changes()
            poller = DocumentPoller(the.polling, the.reader, on_changes=changes, initial=False, transport=transport)
            await poller.refresh()
            assert changes.items == []
            await the.writer.put_text("old.md", "edited")
            await the.writer.put_text("new.md", "")
            await changes.until(lambda items: len(items) >= 2)
            assert [(change.path, change.change_type) for change in changes.items] == [
                ("old.md", "modified"), ("new.md", "created"),
            ]  # fmt: skip

    asyncio.run(main())


def test_many_paths_are_followed_by_one_short_request(shared_gateway: GatewayProcess) -> None:
    async def main() -> None:
        async with site(shared_gateway) as the:
            paths = [f"{'folder/' * 20}{number}" for number in range(1000)]
            changes = Changes()
            await the.writer.put_text("other.md", "")
            DocumentPoller(the.polling, the.reader, paths, on_changes=changes, transport="poll")
            await the.writer.put_text(paths[700], "x")
            await changes.until(len)
            assert [change.path for change in changes.items] == [paths[700]]

    asyncio.run(main())


def test_a_project_that_is_not_there_stops_the_poll_with_its_error(shared_gateway: GatewayProcess) -> None:
    async def main() -> None:
        async with site(shared_gateway) as the:
            errors = Seen()
            poller = DocumentPoller(the.polling, the.reader, on_changes=errors, on_error=errors, transport="poll")
            await errors.until(len)
            assert poller.stopped == "refused"
            assert poller.error is errors.items[0]
            await the.writer.put_text("a.md", "a")
            await poller.refresh()
            assert poller.error is None
            await errors.until(lambda items: len(items) == 2)

    asyncio.run(main())


def test_a_hundred_subscribers_cost_the_gateway_one_request_an_interval(gateway: GatewayProcess) -> None:
    async def main() -> None:
        interval = 0.1
        slow = PollSettings(active_interval_ms=100, slow_interval_ms=100, cache_ms=0)
        async with site(gateway, slow) as the:
            await the.writer.put_text("a.md", "a")
            seen = [Changes() for _ in range(100)]
            async with GatewayClient(gateway.url) as other:
                before, started = _total(await other.metrics()), asyncio.get_running_loop().time()
                for each in seen:
                    DocumentPoller(the.polling, the.reader, on_changes=each, interval=interval, transport="poll")
                for number in range(2, 8):
                    for each in seen:
                        await each.until(lambda items, number=number: len(items) == number - 1)
                    await the.writer.put_text("a.md", f"version {number}")
                for each in seen:
                    await each.until(lambda items: len(items) == 7)
                asked = _total(await other.metrics()) - before - 7  # what the test itself asked for
                took = asyncio.get_running_loop().time() - started
            assert 7 <= asked <= took / interval + 2, (asked, took)
            assert all([change.version for change in each.items] == list(range(1, 8)) for each in seen)

    asyncio.run(main())


def _total(metrics: str) -> int:
    return sum(int(float(line.rpartition(" ")[2])) for line in metrics.splitlines() if _COUNTED.match(line))


_COUNTED = re.compile(r"gateway_requests_total(\{|\s)")


def test_an_idle_poll_is_answered_without_a_query(tmp_path: Path) -> None:
    async def main() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")

        @contextlib.asynccontextmanager
        async def opened(url: str, limits: StorageLimits) -> AsyncIterator[Storage]:
            yield storage

        app = Gateway(Settings(database="sqlite:///unused.db"), opened)
        statuses: list[int] = []
        twenty = asyncio.Event()

        class InProcess(httpx.ASGITransport):
            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                answer = await super().handle_async_request(request)
                statuses.append(answer.status_code)
                if len(statuses) == 20:
                    twenty.set()
                return answer

        async with (
            app.running(),
            GatewayClient("http://gateway", transport=InProcess(app)) as client,
            PollingManager(settings=QUICK) as polling,
        ):
            project = client.project("p")
            await project.put_text("a.md", "a")
            session = (await project.create_session()).id
            turn = (await project.create_turn(session, "do it")).id
            changes, updates = Changes(), Seen()
            DocumentPoller(polling, project, on_changes=changes, transport="poll")
            TurnPoller(polling, project, session, turn, on_update=updates, transport="poll")
            await changes.until(len)
            await updates.until(len)
            recorder = await record_statements(storage)
            statuses.clear()
            twenty.clear()
            with recorder.recording() as statements:
                await twenty.wait()
            assert statements == []
            assert set(statuses) == {304}
            assert len(changes.items) == len(updates.items) == 1
        await storage.close()

    asyncio.run(main())


def test_after_a_restore_everything_is_told_anew_and_what_is_gone_as_deleted() -> None:
    feeds = [
        {"changes": [_entry("a", 3), _entry("b", 1)], "cursor": "x.4", "more": False},
        {"changes": [_entry("a", 2)], "cursor": "y.2", "more": False, "reset": True},
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        if len(feeds) > 1 or request.url.params.get("since") == "x.4":
            return httpx.Response(200, json=feeds.pop(0))
        return httpx.Response(304)

    async def main() -> None:
        changes = Changes()
        async with (
            asyncio.timeout(120),
            GatewayClient("http://gateway", transport=httpx.MockTransport(answer)) as client,
            PollingManager(settings=QUICK) as polling,
        ):
            DocumentPoller(polling, client.project("p"), on_changes=changes, transport="poll")
            await changes.until(lambda items: len(items) == 4)
        told = [(change.path, change.version, change.change_type) for change in changes.items]
        assert told == [("a", 3, "created"), ("b", 1, "created"), ("b", 1, "deleted"), ("a", 2, "created")]

    asyncio.run(main())


def _entry(path: str, version: int) -> dict[str, Any]:
    modified = "2025-01-06T10:00:00.000Z"
    return {"kind": "file", "path": path, "last_modified": modified, "version": version, "change_type": "created"}


def test_a_turn_that_is_over_is_told_to_who_comes_later(shared_gateway: GatewayProcess) -> None:
    async def main() -> None:
        async with site(shared_gateway) as the:
            session = (await the.writer.create_session()).id
            turn = (await the.writer.create_turn(session, "do it")).id
            await the.writer.append_blocks(session, turn, [("text", "one")])
            await the.writer.set_turn_status(session, turn, "failed", "no luck")
            for _ in range(2):
                completed: list[Turn] = []
                done = asyncio.Event()

                def complete(turn: Turn, completed: list[Turn] = completed, done: asyncio.Event = done) -> None:
                    completed.append(turn)
                    done.set()

                TurnPoller(the.polling, the.reader, session, turn, on_update=lambda _: None, on_complete=complete)
                await done.wait()
                assert [(each.error, each.block_count, len(each.blocks)) for each in completed] == [("no luck", 1, 1)]

    asyncio.run(main())
