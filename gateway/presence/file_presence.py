"""Who is in one file: one awareness for the clients of its room and for those that say it over HTTP."""

import time
from collections.abc import Callable, Hashable
from typing import Protocol

import msgspec

from gateway.wire.presence import PresenceAnswer, PresenceClient
from gateway.yjs.awareness import GONE, Awareness
from gateway.yjs.messages import AwarenessState

News = Callable[[tuple[AwarenessState, ...]], None]


class Keeper(Protocol):
    """Who keeps the presence of all files."""

    def now(self) -> float:
        """Seconds on the clock of expiry."""

    def note(self, file: "FilePresence", size: int, *, visible: bool) -> None:
        """Somebody said something in a file: `size` characters more; `visible`, unless it only renewed a state."""

    def relay(self, file: "FilePresence", states: tuple[AwarenessState, ...]) -> None:
        """Tell the other gateways."""

    def version(self, file: "FilePresence") -> str: ...


class FilePresence:
    """Who is in one file."""

    def __init__(self, keeper: Keeper, project: str, path: str) -> None:
        self._keeper = keeper
        self.project = project
        self.path = path
        self.awareness = Awareness()
        self.listeners: dict[News, None] = {}
        """Told of all that is news, renewals included."""
        self.position = 0
        """Where in the order of what was said anywhere this was last seen to change; 0: never."""
        self.changed = 0.0
        """When that was."""

    def receive(
        self,
        states: tuple[AwarenessState, ...],
        owner: Hashable,
        *,
        seconds: float | None = None,
        subject: str | None = None,
        relayed: bool = False,
    ) -> None:
        """Take what an owner, as a connection, says of its clients, and tell all.

        Args:
            seconds: after how many the states expire; None: as y-protocols has it.
            relayed: it came from another gateway, which has held its bounds.

        Raises:
            TooMuchAwareness: nothing of it was taken.
        """
        changes, size = self.awareness.changes, self.awareness.size
        lasting = {} if seconds is None else {"seconds": seconds}
        now = self._keeper.now()
        news = self.awareness.receive(states, owner, now, subject=subject, bounded=not relayed, **lasting)
        self._tell(news, changes, size, relayed=relayed)

    def say(self, client: int, state: str, clock: int | None, seconds: float, subject: str | None) -> None:
        """Take what a client says of itself that has no connection.

        A clock that would be no news is counted on. So is one that the client does not give, and that is by the time of
        day: who remembers the client from before takes it, too.
        """
        last = self.awareness.last_clock(client)
        counted = max(int(time.time()) if clock is None else clock, last + 1)
        self.receive((AwarenessState(client, counted, state),), client, seconds=seconds, subject=subject)

    def leave(self, client: int) -> bool:
        """Withdraw a client; False where it was not there."""
        present = self.awareness.get(client)
        if present is None:
            return False
        self.receive((AwarenessState(client, present.state.clock + 1, GONE),), client)
        return True

    def withdraw(self, owner: Hashable, *, relayed: bool = False) -> None:
        """Withdraw the clients of an owner that is gone."""
        changes, size = self.awareness.changes, self.awareness.size
        self._tell(self.awareness.withdraw(owner), changes, size, relayed=relayed)

    def expire(self) -> None:
        """Withdraw the clients that have been silent for too long."""
        changes, size = self.awareness.changes, self.awareness.size
        self._tell(self.awareness.expire(self._keeper.now()), changes, size, relayed=False)

    def _tell(self, news: tuple[AwarenessState, ...], changes: int, size: int, *, relayed: bool) -> None:
        if not news:
            return
        self._keeper.note(self, self.awareness.size - size, visible=self.awareness.changes != changes)
        if not relayed:
            self._keeper.relay(self, news)
        for listener in list(self.listeners):
            listener(news)

    def answer(self) -> PresenceAnswer:
        """Everybody who is there. What a client of a room says that is no JSON is left out."""
        self.expire()
        now = self._keeper.now()
        clients = []
        for present in self.awareness:
            try:
                state = msgspec.json.decode(present.state.state)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                continue
            left = round(present.expires - now, 1)
            clients.append(PresenceClient(present.state.client, present.state.clock, state, present.subject, left))
        return PresenceAnswer(clients, self._keeper.version(self))
