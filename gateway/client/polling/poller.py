"""The base class of the pollers: a registration with the manager, and a stream that replaces timed polls."""

from collections.abc import Awaitable, Iterable
from typing import Any

from gateway.client.policy import StopReason
from gateway.client.polling.manager import PollingManager
from gateway.client.polling.project_stream import ProjectStream, Topic, Transport
from gateway.client.polling.subscription import Callback, PollFunction
from gateway.client.project import Project


class Poller:
    """Follows a resource until the manager exits, or until `close`."""

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
        """The last error; None again after the next success."""
        return self._subscription.error

    @property
    def stopped(self) -> StopReason | None:
        """Why the resource is no longer followed; None if it is."""
        return self._subscription.stopped

    def enable(self, enabled: bool) -> None:
        """Suspend or resume the callbacks."""
        self._subscription.enable(enabled)

    async def refresh(self) -> None:
        """Poll now, and wait for the answer.

        Raises:
            GatewayError
        """
        await self._polling.refresh(self._key)

    def close(self) -> None:
        """Stop following the resource. No callback is called afterwards."""
        self._subscription.unregister()
        self._leave_stream()

    def _leave_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.unwatch(self._key, self._topics)


async def call(callback: Callback, value: Any) -> None:
    """Call a plain or async callback."""
    outcome = callback(value)
    if isinstance(outcome, Awaitable):
        await outcome
