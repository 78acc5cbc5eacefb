"""What the pollers have in common: a registration with the manager, and a stream that makes it need no polls."""

from collections.abc import Awaitable, Iterable
from typing import Any

from gateway.client.policy import StopReason
from gateway.client.polling.manager import PollingManager
from gateway.client.polling.project_stream import ProjectStream, Topic, Transport
from gateway.client.polling.subscription import Callback, PollFunction
from gateway.client.project import Project


class Poller:
    """Something that is followed while its manager lasts, or until `close`."""

    def __init__(
        self,
        polling: PollingManager,
        project: Project,
        key: str,
        poll: PollFunction,
        *,
        interval: float,
        topics: Iterable[Topic],
        transport: Transport,
        on_result: Callback,
        on_error: Callback | None,
        on_stop: Callback | None = None,
        cursor: str | None = None,
    ) -> None:
        self._polling = polling
        self._key = key
        self._topics = tuple(topics)
        self._stream: ProjectStream | None = None
        self._subscription = polling.register(
            key, poll, interval, on_result=on_result, on_error=on_error, on_stop=on_stop, cursor=cursor
        )
        if transport != "poll":
            self._stream = ProjectStream.of(polling, project, transport)
            self._stream.watch(key, self._topics)

    @property
    def error(self) -> Exception | None:
        """The last error, until something succeeds."""
        return self._subscription.error

    @property
    def stopped(self) -> StopReason | None:
        """Why it is not followed any more; None if it is."""
        return self._subscription.stopped

    def enable(self, enabled: bool) -> None:
        """Hold still, or go on."""
        self._subscription.enable(enabled)

    async def refresh(self) -> None:
        """Ask now. When it returns, the answer is there.

        Raises:
            GatewayError
        """
        await self._polling.refresh(self._key)

    def close(self) -> None:
        """Follow it no more. Nothing is called back afterwards."""
        self._subscription.unregister()
        self._leave_stream()

    def _leave_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.unwatch(self._key, self._topics)


async def call(callback: Callback, value: Any) -> None:
    """Call back, whether plain or async."""
    outcome = callback(value)
    if isinstance(outcome, Awaitable):
        await outcome
