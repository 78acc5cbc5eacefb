"""The polling manager on a virtual clock: what is asked when, who is called back, and that nothing is left."""

import asyncio
import logging
from typing import Any

import pytest

from gateway.client.errors import NoAnswer
from gateway.client.policy import PollSettings
from gateway.client.polling.manager import PollingManager
from gateway.client.polling.subscription import Polled
from tests.client.virtual import VirtualLoop, run

DAY = 24 * 3600.0


class Source:
    """Something to poll: counts the requests, and answers what it is told to."""

    def __init__(self, *, takes: float = 0) -> None:
        self.asked_at: list[float] = []
        self.cursors: list[str | None] = []
        self.takes = takes
        self.version = 1
        self.polls = self.cancelled = 0
        self.fault: Exception | None = None

    async def poll(self, cursor: str | None) -> Polled:
        self.asked_at.append(now())
        self.cursors.append(cursor)
        self.polls += 1
        try:
            await asyncio.sleep(self.takes)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fault is not None:
            raise self.fault
        return Polled(self.version, changed=cursor != str(self.version), cursor=str(self.version))


def now() -> float:
    return asyncio.get_running_loop().time()


def manager(**options: Any) -> PollingManager:
    return PollingManager(random=lambda: 0.5, **options)


def unattended(**options: Any) -> PollingManager:
    return manager(settings=PollSettings.unattended(), **options)


def test_a_day_without_changes_costs_one_request_per_interval_whoever_asks() -> None:
    async def day() -> None:
        source, seen = Source(), []
        async with unattended() as polling:
            for _ in range(100):
                polling.register("a", source.poll, on_result=seen.append)
            await asyncio.sleep(DAY)
        assert source.polls == pytest.approx(DAY / 3, abs=1)
        assert seen == [1] * 100

    run(day())


def test_a_thousand_keys_cost_one_timer_and_three_requests_at_once() -> None:
    async def hour() -> None:
        running = most = polls = 0

        async def poll(_: str | None) -> Polled:
            nonlocal running, most, polls
            running, polls = running + 1, polls + 1
            most = max(most, running)
            await asyncio.sleep(0.001)
            running -= 1
            return Polled(changed=False)

        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        async with unattended() as polling:
            for number in range(5000):
                polling.register(f"key-{number}", poll, 60, on_result=lambda _: None)
            await asyncio.sleep(30)
            assert loop.timers() == 1
            await asyncio.sleep(600)
        assert most == 3
        assert polls >= 5000 * 10

    run(hour())


def test_callbacks_may_be_plain_or_async_and_one_that_raises_harms_nobody() -> None:
    async def scenario() -> None:
        source = Source()
        seen: list[int] = []
        faults: list[tuple[str, Exception]] = []

        def broken(_: int) -> None:
            raise ValueError("plain")

        async def broken_later(_: int) -> None:
            await asyncio.sleep(1)
            raise ValueError("async")

        async def fine(value: int) -> None:
            await asyncio.sleep(1)
            seen.append(value)

        async with unattended(on_fault=lambda key, error: faults.append((key, error))) as polling:
            for callback in (broken, broken_later, fine, seen.append):
                polling.register("a", source.poll, on_result=callback)
            await asyncio.sleep(10)
            source.version = 2
            await asyncio.sleep(10)
        assert seen == [1, 1, 2, 2]
        assert [(key, str(error)) for key, error in faults] == [("a", "plain"), ("a", "async")] * 2

    run(scenario())


def test_a_fault_that_nobody_listens_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with manager() as polling:
            polling.register("a", Source().poll, on_result=lambda value: value / 0)
            await asyncio.sleep(1)

    with caplog.at_level(logging.ERROR, "gateway.client"):
        run(scenario())
    assert "ZeroDivisionError" in caplog.text


def test_leaving_ends_the_request_in_flight_and_the_callback_in_progress() -> None:
    async def scenario() -> None:
        slow, delivering = Source(takes=100), Source()
        called = asyncio.Event()
        ended: list[str] = []

        async def callback(_: int) -> None:
            called.set()
            try:
                await asyncio.sleep(1000)
            finally:
                ended.append("callback")

        async with manager() as polling:
            polling.register("slow", slow.poll, on_result=print)
            polling.register("delivering", delivering.poll, on_result=callback)
            await called.wait()
        assert now() == 0
        assert slow.cancelled == 1
        assert ended == ["callback"]

    run(scenario())


@pytest.mark.parametrize("after", [0, 0.5, 3, 3.5, 100, 130])
def test_cancellation_at_any_moment_leaves_nothing(after: float) -> None:
    async def work(sources: list[Source]) -> None:
        async with manager() as polling:
            for number, source in enumerate(sources):
                polling.register(f"key-{number}", source.poll, on_result=lambda _: asyncio.sleep(0.3))
            await asyncio.sleep(DAY)

    async def scenario() -> None:
        sources = [Source(takes=0.2 * number) for number in range(5)]
        sources[0].fault = NoAnswer("down")
        task = asyncio.create_task(work(sources))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        polls = sum(source.polls for source in sources)
        await asyncio.sleep(100)
        assert sum(source.polls for source in sources) == polls

    run(scenario())


def test_an_exception_in_the_block_comes_out_as_it_is() -> None:
    async def scenario() -> None:
        async with manager() as polling:
            polling.register("a", Source().poll, on_result=print)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(scenario())


def test_after_unregister_nobody_is_called_back_and_the_request_is_aborted() -> None:
    async def scenario() -> None:
        source, seen = Source(takes=1), []
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        async with manager() as polling:
            one = polling.register("a", source.poll, on_result=seen.append)
            other = polling.register("a", source.poll, on_result=seen.append)
            await asyncio.sleep(0.5)
            one.unregister()
            await asyncio.sleep(1)
            assert seen == [1]
            source.version = 2
            await asyncio.sleep(2.9)
            assert source.polls == 2
            other.unregister()
            await asyncio.sleep(0)
            assert source.cancelled == 1
            assert loop.timers() == 0
            assert len(asyncio.all_tasks()) == 1
            await asyncio.sleep(100)
        assert seen == [1]

    run(scenario())


def test_a_callback_may_unregister_its_own_key_and_register_it_again() -> None:
    async def scenario() -> None:
        old, new = Source(), Source()
        seen: list[str] = []

        async with unattended() as polling:

            async def replace(_: int) -> None:
                seen.append("old")
                polling.unregister("a")
                polling.register("a", new.poll, on_result=lambda _: seen.append("new"))
                await asyncio.sleep(5)
                seen.append("done")

            polling.register("a", old.poll, on_result=replace)
            polling.register("a", old.poll, on_result=lambda _: seen.append("never"))
            await asyncio.sleep(10)
        assert seen == ["old", "new", "done"]
        assert old.polls == 1

    run(scenario())


def test_the_cursor_is_kept_only_after_its_changes_were_delivered() -> None:
    async def scenario() -> None:
        source = Source()
        release = asyncio.Event()

        async with manager() as polling:
            polling.register("a", source.poll, on_result=lambda _: release.wait(), cursor="0")
            await asyncio.sleep(60)
            assert source.cursors == ["0"]
            release.set()
            await asyncio.sleep(4)
            assert source.cursors[:2] == ["0", "1"]

    run(scenario())


def test_errors_are_told_retried_and_cleared() -> None:
    async def scenario() -> None:
        source, errors, stops = Source(), [], []
        source.fault = NoAnswer("down")
        async with manager() as polling:
            subscription = polling.register(
                "a", source.poll, on_result=print, on_error=errors.append, on_stop=stops.append
            )
            await asyncio.sleep(60)
            assert source.asked_at == [0, 2, 6, 14, 30, 46]
            assert len(errors) == 6
            assert (stops, subscription.stopped, subscription.error) == (["failed"], "failed", source.fault)
            source.fault = None
            polling.online()
            await asyncio.sleep(1)
            assert (subscription.stopped, subscription.error) == (None, None)

    run(scenario())


def test_a_mistake_in_a_poll_function_stops_its_key_alone() -> None:
    async def scenario() -> None:
        broken, fine, faults = Source(), Source(), []
        broken.fault = TypeError("oops")
        async with unattended(on_fault=lambda *fault: faults.append(fault)) as polling:
            subscription = polling.register("broken", broken.poll, on_result=print)
            polling.register("fine", fine.poll, on_result=lambda _: None)
            await asyncio.sleep(9)
            assert subscription.stopped == "refused"
        assert faults == [("broken", broken.fault)]
        assert fine.polls == 3

    run(scenario())


def test_refresh_asks_once_for_all_who_ask_and_answers_from_the_cache() -> None:
    async def scenario() -> None:
        source = Source(takes=0.1)
        async with unattended() as polling:
            polling.register("a", source.poll, on_result=lambda _: None)
            await asyncio.sleep(2)
            assert await asyncio.gather(*(polling.refresh("a") for _ in range(10))) == [1] * 10
            assert source.polls == 2
            source.version = 2
            assert await polling.refresh("a") == 1
            await asyncio.sleep(0.5)
            assert await polling.refresh("a") == 2
            assert source.polls == 3
            source.fault = NoAnswer("down")
            await asyncio.sleep(0.6)
            with pytest.raises(NoAnswer):
                await polling.refresh("a")

    run(scenario())


def test_who_waits_for_a_refresh_is_not_forgotten_when_the_key_is() -> None:
    async def scenario() -> None:
        async with manager() as polling:
            polling.register("a", Source(takes=9).poll, on_result=print)
            refresh = asyncio.create_task(polling.refresh("a"))
            await asyncio.sleep(1)
            polling.unregister("a")
            with pytest.raises(asyncio.CancelledError):
                await refresh

    run(scenario())


def test_pause_leaves_no_timer_running_and_resume_polls_what_is_due() -> None:
    async def scenario() -> None:
        sources = [Source() for _ in range(5)]
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        async with manager() as polling:
            for number, source in enumerate(sources):
                polling.register(f"key-{number}", source.poll, on_result=lambda _: None)
            await asyncio.sleep(1)
            polling.pause()
            assert loop.timers() == 0
            await asyncio.sleep(DAY)
            assert sum(source.polls for source in sources) == 5
            polling.resume()
            await asyncio.sleep(1)
            assert sum(source.polls for source in sources) == 10

    run(scenario())


def test_a_held_subscriber_gets_nothing_until_it_is_enabled() -> None:
    async def scenario() -> None:
        source, seen = Source(), []
        async with unattended() as polling:
            subscription = polling.register("a", source.poll, on_result=seen.append, enabled=False)
            await asyncio.sleep(100)
            assert source.polls == 0
            subscription.enable(True)
            await asyncio.sleep(1)
            subscription.enable(False)
            await asyncio.sleep(100)
            assert (source.polls, seen) == (1, [1])

    run(scenario())


def test_outside_its_block_a_manager_does_nothing() -> None:
    async def scenario() -> None:
        polling = manager()
        with pytest.raises(RuntimeError, match="not entered"):
            polling.register("a", Source().poll, on_result=print)
        async with polling:
            subscription = polling.register("a", Source().poll, on_result=print)
        assert not subscription.active
        subscription.unregister()
        with pytest.raises(RuntimeError, match="was left"):
            polling.touch()

    run(scenario())
