"""Following what other gateways store: by notifications, and by a heartbeat that finds what notifications missed.

Notifications carry no data: they name a project and a sequence, and the changes are read from the log. A notification
that is lost, duplicated or late only costs latency: every heartbeat reads the heads of the followed projects.
"""

import asyncio
import base64
import contextlib
import json
import logging
import math
import time
from collections import deque
from collections.abc import Iterable

import asyncpg

from storage.contract import MessageListener
from storage.postgres.database import CONTENTION, FAILURES, LOST, Connection, Database, Row
from storage.postgres.generations import DRAWN_EPOCH, drawn_name
from storage.postgres.projects import Projects, TrackedProject
from storage.records import ProjectHead

_log = logging.getLogger(__name__)

_BEAT_S = 0.25
_ANSWER_S = 1.0
_FRESH_S = 1.0
"""How long after a heartbeat was answered it counts as proof that nothing older was missed."""
_SIZE_S = 60.0
_ALIVE_S = 1.0
"""How often a gateway that has sent a message announces that it is alive."""
_GONE_S = 5.0
"""A gateway that was not heard for this long counts as gone."""
_REMEMBERED_GONE = 100
_MOST_MESSAGE = 7500
"""The most bytes of an encoded message to other gateways; a notification holds at most 8,000."""
_MOST_MESSAGES = 1000
_TOLD_TOGETHER = 200
_PACE_S, _AT_ONCE = 0.005, 8
"""How many seconds there are between the notifications of a gateway in the long run, and how many may follow each other
at once: each wakes every gateway of the database, also the one that sent it."""


class Pace:
    """Lets so many things happen at once, and in the long run one every so many seconds."""

    def __init__(self, seconds: float, at_once: int) -> None:
        self._seconds = seconds
        self._burst = seconds * (at_once - 1)
        self._even = float("-inf")
        """When as much time has passed as what has happened is allowed to take."""

    def take(self, now: float) -> float:
        """Count one, and return how many seconds it has to wait."""
        self._even = max(self._even, now)
        wait = max(0.0, self._even - self._burst - now)
        self._even += self._seconds
        return wait


class Tail:
    """Follows the projects of `projects` that have followers.

    Args:
        node: the name of this gateway among the gateways of the database.
        database_id: the id of the database; gateways of other databases may use the same server.
    """

    def __init__(self, database: Database, projects: Projects, *, node: str, database_id: str) -> None:
        self._database = database
        self._projects = projects
        self._node = node
        self._channel = f"yjsg_{database_id}"
        self._connection: Connection | None = None
        self._proven = float("-inf")
        self._silent = False
        """Whether the last heartbeat was not answered."""
        self._size_at = float("-inf")
        self._wake = asyncio.Event()
        self._unsaid: dict[int, int] = {}
        self._say = asyncio.Event()
        self._messages = f"yjsm_{database_id}"
        self._unsent: list[str] = []
        self._told = False
        self._alive_at = float("-inf")
        self._listeners: list[MessageListener] = []
        self._others: dict[str, float] = {}
        """The gateways that sent messages, and when each was last heard."""
        self._gone: deque[str] = deque(maxlen=_REMEMBERED_GONE)
        """Those that counted as gone last."""
        self._tasks = [
            asyncio.create_task(self._beat(), name="tail"),
            asyncio.create_task(self._say_all(), name="tail-notify"),
        ]
        self._catching_up: set[asyncio.Task[None]] = set()
        self.database_bytes = 0

    @property
    def lag(self) -> float:
        """Seconds since it was last known that nothing was missed; 0 while nothing is followed."""
        return max(0.0, time.monotonic() - self._proven) if self._projects.followed else 0.0

    @property
    def fresh(self) -> bool:
        """Whether everything stored up to one second ago has been heard of."""
        return time.monotonic() - self._proven <= _FRESH_S

    def followed_more(self) -> None:
        """Schedule an early heartbeat, because a project has its first follower."""
        self._wake.set()

    def say(self, tracked: TrackedProject) -> None:
        """Tell the other gateways the sequence of a project."""
        self._unsaid[tracked.id] = tracked.known.head.sequence
        self._say.set()

    def tell(self, topic: str, message: bytes) -> None:
        """Send a message to the other gateways, unless it is too long or too many are queued."""
        text = json.dumps([self._node, topic, base64.b64encode(message).decode()])
        if len(text) <= _MOST_MESSAGE and len(self._unsent) < _MOST_MESSAGES:
            self._told = True
            self._unsent.append(text)
            self._say.set()

    def hear(self, listener: MessageListener) -> None:
        self._listeners.append(listener)

    async def close(self) -> None:
        for task in (*self._tasks, *self._catching_up):
            task.cancel()
        await asyncio.wait([*self._tasks, *self._catching_up])
        if self._connection is not None:
            self._connection.terminate()

    # Sending

    async def _say_all(self) -> None:
        connection: Connection | None = None
        refused = False
        pace = Pace(_PACE_S, _AT_ONCE)
        try:
            while True:
                await self._say.wait()
                await asyncio.sleep(pace.take(time.monotonic()))
                channels, payloads = self._take_unsaid()
                if not (self._unsaid or self._unsent):
                    self._say.clear()
                try:
                    if connection is None or connection.is_closed():
                        connection = await self._database.connect()
                    await connection.execute(
                        "SELECT pg_notify(c, p) FROM unnest($1::text[], $2::text[]) AS t (c, p)", channels, payloads
                    )
                    refused = False
                except FAILURES as error:  # only a hint: the heartbeats of the others find the changes
                    if not (refused or isinstance(error, LOST)):  # its queue is full, for example
                        refused = True
                        _log.warning("the database does not tell other gateways what is new: %s", error)
                    if connection is not None:
                        connection.terminate()
                    await asyncio.sleep(_BEAT_S)
        finally:
            if connection is not None:
                connection.terminate()

    def _take_unsaid(self) -> tuple[list[str], list[str]]:
        """Take the channels and payloads of the queued notifications."""
        payloads, self._unsent = self._unsent[:_TOLD_TOGETHER], self._unsent[_TOLD_TOGETHER:]
        channels = [self._messages] * len(payloads)
        if self._unsaid:
            some = [self._unsaid.popitem() for _ in range(min(len(self._unsaid), _TOLD_TOGETHER))]
            channels.append(self._channel)
            payloads.append(f"{self._node} " + " ".join(f"{id}:{sequence}" for id, sequence in some))
        return channels, payloads

    # Receiving

    async def _beat(self) -> None:
        while True:
            followed = self._projects.followed
            if not followed:
                self._wake.clear()
                await self._wake.wait()
                continue
            started = time.monotonic()
            before = [(tracked, tracked.known.head, tracked.generation) for tracked in followed]
            try:
                connection = await self._listening()
                rows = await connection.fetch(
                    f"SELECT c.generation, p.id, p.sequence, {DRAWN_EPOCH} FROM cluster c"
                    " LEFT JOIN project p ON p.id = ANY($1::bigint[])",
                    [tracked.id for tracked in followed],
                    timeout=_ANSWER_S,
                )
                if self._silent:
                    self._silent = False
                    _log.warning("the database is heard again")
                if self._is_the_same(before, rows):
                    self._proven = started
                for _, id, sequence, _ in rows:
                    if id is not None:
                        self._heard(id, sequence)
                self._look_for_others(started)
                await self._measure(connection)
            except LOST as error:
                if not self._database.closed and not self._silent:
                    _log.warning("the database is not heard: %s", error or type(error).__name__)
                self._silent = True
                self._deaf()
            except asyncpg.PostgresError as error:
                _log.warning("the heartbeat failed: %s", error)
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _BEAT_S)

    def _is_the_same(self, before: Iterable[tuple[TrackedProject, ProjectHead, str]], rows: list[Row]) -> bool:
        """Return whether the projects go on from what was known of them. Those that do not are read again: erased
        projects and lost commits are noticed there."""
        generation, found = rows[0][0], {id: (epoch, sequence) for _, id, sequence, epoch in rows}

        def goes_on(tracked: TrackedProject, head: ProjectHead, known: str) -> bool:
            epoch, sequence = found.get(tracked.id, ("", 0))
            return known == generation and (
                head.sequence == 0 or (epoch == drawn_name(head.epoch) and sequence >= head.sequence)
            )

        lapsed = [tracked for tracked, head, known in before if tracked.loaded and not goes_on(tracked, head, known)]
        for tracked in lapsed:
            self._catch_up_with(tracked, math.inf)
        return not lapsed

    async def _listening(self) -> Connection:
        """Return the listening connection. It listens before the first read, so that nothing in between is missed."""
        if self._connection is None or self._connection.is_closed():
            self._connection = None
            connection = await self._database.connect()
            try:
                await connection.add_listener(self._channel, self._notified)
                await connection.add_listener(self._messages, self._received)
                connection.add_termination_listener(self._lost)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
            self._pass_on("", "", b"")
        return self._connection

    def _lost(self, connection: Connection) -> None:
        """A closed connection is proof of nothing: another server may be the primary before the next heartbeat."""
        if connection is self._connection:
            self._proven = float("-inf")
            self._wake.set()

    def _deaf(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _measure(self, connection: Connection) -> None:
        now = time.monotonic()
        if now - self._size_at > _SIZE_S:
            self._size_at = now
            self.database_bytes = await connection.fetchval("SELECT pg_database_size(current_database())", timeout=5)

    def _notified(self, connection: Connection, pid: int, channel: str, payload: str) -> None:
        node, *told = payload.split(" ")
        if node == self._node:
            return
        for each in told:
            id, _, sequence = each.partition(":")
            self._heard(int(id), int(sequence))

    def _received(self, connection: Connection, pid: int, channel: str, payload: str) -> None:
        node, topic, message = json.loads(payload)
        if node == self._node:
            return
        self._others[node] = time.monotonic()
        if node in self._gone:  # it stood still, or was not heard: what it said before was dropped
            self._gone.remove(node)
            self._pass_on("", "", b"")
        if topic:
            self._pass_on(node, topic, base64.b64decode(message))

    def _look_for_others(self, now: float) -> None:
        """Announce that this gateway is alive, and detect which others are gone."""
        if self._told and now - self._alive_at >= _ALIVE_S:
            self._alive_at = now
            self.tell("", b"")
        for node, heard in list(self._others.items()):
            if now - heard > _GONE_S:
                del self._others[node]
                self._gone.append(node)
                self._pass_on(node, "", b"")

    def _pass_on(self, node: str, topic: str, message: bytes) -> None:
        for listener in self._listeners:
            try:
                listener(node, topic, message)
            except Exception:
                _log.exception("a listener failed with a message of another gateway")

    def _heard(self, id: int, sequence: int) -> None:
        tracked = self._projects.by_id(id)
        if tracked is None or not tracked.followers or sequence <= tracked.known.head.sequence:
            return
        self._catch_up_with(tracked, sequence)

    def _catch_up_with(self, tracked: TrackedProject, sequence: float) -> None:
        """Read what was stored up to a sequence."""
        tracked.told = max(tracked.told, sequence)
        if tracked.catching_up is None:
            task = tracked.catching_up = asyncio.create_task(self._catch_up(tracked), name="tail-catch-up")
            self._catching_up.add(task)
            task.add_done_callback(self._catching_up.discard)

    async def _catch_up(self, tracked: TrackedProject) -> None:
        """Read until the listeners have heard of the announced sequence; each read gets all that was stored before."""
        try:
            while tracked.told > tracked.known.head.sequence:
                told = tracked.told
                async with tracked.lock:
                    if told > tracked.known.head.sequence:
                        async with self._database.acquire(self._database.readers) as connection:
                            await self._projects.catch_up(tracked, connection)
                if tracked.told == told:
                    break
        except (*LOST, *CONTENTION) as error:  # the next heartbeat retries
            _log.info("what was stored in %r could not be read: %s", tracked.name, error)
        except Exception:
            _log.exception("what was stored in %r could not be heard of", tracked.name)
        finally:
            tracked.told = 0
            tracked.catching_up = None
