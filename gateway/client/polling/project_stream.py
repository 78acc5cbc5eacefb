"""The project stream: one event stream or long poll for a whole project, which signals many polls when to run."""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Literal, TypeAlias

from gateway.client.errors import GatewayError
from gateway.client.policy import retry_delay_ms
from gateway.client.polling.manager import PollingManager
from gateway.client.project import Project
from gateway.wire.changes import FeedAnswer, FeedEntry, FileFeedEntry

Transport = Literal["auto", "sse", "long-poll", "poll"]
"""How to learn of changes: an event stream, long polls, whichever of the two works (`auto`), or timed polls."""

Topic: TypeAlias = tuple[str, ...]

EVERY_FILE: Topic = ("file",)

_KINDS: dict[Transport, tuple[Literal["events", "wait"], ...]] = {
    "sse": ("events",),
    "long-poll": ("wait",),
    "auto": ("events", "wait"),
}


def file_topic(path: str) -> Topic:
    """Return the topic of one file."""
    return ("file", path)


def turn_topic(session: str, turn: str) -> Topic:
    """Return the topic of one turn."""
    return ("turn", session, turn)


def _topics(entry: FeedEntry) -> tuple[Topic, ...]:
    if isinstance(entry, FileFeedEntry):
        return (file_topic(entry.path), EVERY_FILE)
    return (turn_topic(entry.session_id, entry.turn_id),)


class ProjectStream:
    """Follows the feed of a project for the keys of one manager, and signals the keys that an entry concerns.

    While the stream is connected, its keys are not polled by time. When it disconnects, they are polled immediately and
    by time until it is connected again; it reconnects forever, with the back-off of retries.
    """

    def __init__(self, polling: PollingManager, project: Project, transport: Transport) -> None:
        self._polling = polling
        self._project = project
        self._kinds = itertools.cycle(_KINDS[transport])
        self._kind = next(self._kinds)
        self._name = _name(project, transport)
        self._watched: dict[Topic, Counter[str]] = {}
        self._task: asyncio.Task[None] | None = None
        self.standing = False

    @classmethod
    def of(cls, polling: PollingManager, project: Project, transport: Transport) -> "ProjectStream":
        """Return the only stream of a manager for a project and a transport."""
        stream = polling.listener(_name(project, transport), lambda: cls(polling, project, transport))
        assert isinstance(stream, cls)
        return stream

    def watch(self, key: str, topics: Iterable[Topic]) -> None:
        """Signal changes of these topics to a key from now on."""
        for topic in topics:
            self._watched.setdefault(topic, Counter())[key] += 1
        if self.standing:
            self._polling.upgrade(key, True)
        self.suspend(self._polling.suspended)

    def unwatch(self, key: str, topics: Iterable[Topic]) -> None:
        """Remove one watcher of a key; removing the last watcher of all ends the stream."""
        for topic in topics:
            self._watched[topic][key] -= 1
            self._watched[topic] += Counter()  # drops the zero counts
            if not self._watched[topic]:
                del self._watched[topic]
        if self.standing and key in self._polling and key not in self._keys():
            self._polling.upgrade(key, False)
        if not self._watched:
            self.suspend(True)
            self._polling.remove_listener(self._name)

    def suspend(self, suspended: bool) -> None:
        """Disconnect the stream while no poll needs it, or reconnect it."""
        if suspended and self._task is not None:
            self._task.cancel()
            self._task = None
            self._fall()
        elif not suspended and self._task is None:
            self._task = self._polling.spawn(self._run())

    def _keys(self) -> set[str]:
        return {key for keys in self._watched.values() for key in keys}

    async def _run(self) -> None:
        self._attempts = 0
        while True:
            try:
                await self._follow()
            except GatewayError as error:
                self._fall()
                self._attempts += 1
                self._kind = next(self._kinds)
                settings, random = self._polling.settings, self._polling.random()
                delay = retry_delay_ms(settings, self._attempts, random, error.retry_after_s) / 1000
                await asyncio.sleep(max(delay, error.backoff_s or 0))

    async def _follow(self) -> None:
        listing = await self._project.list_files(limit=1)
        assert listing.value is not None
        answers = self._project.connect(listing.value.cursor, transport=self._kind, settings=self._polling.settings)
        async with contextlib.aclosing(answers):
            async for answer in answers:
                self._hear(answer)

    def _hear(self, answer: FeedAnswer) -> None:
        self._attempts = 0
        if not self.standing:
            self.standing = True
            self._upgrade(True)
        keys = {key for entry in answer.changes for topic in _topics(entry) for key in self._watched.get(topic, ())}
        for key in self._keys() if answer.reset else keys:
            if key in self._polling:
                self._polling.signal(key)

    def _fall(self) -> None:
        if self.standing:
            self.standing = False
            self._upgrade(False)

    def _upgrade(self, upgraded: bool) -> None:
        for key in self._keys():
            if key in self._polling:
                self._polling.upgrade(key, upgraded)


def _name(project: Project, transport: Transport) -> str:
    return f"{transport} {project.url}"
