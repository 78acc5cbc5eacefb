"""Who is in a room, as they say of themselves (y-protocols `awareness.js`): kept in memory only. Pure."""

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator

from msgspec import Struct

from gateway.yjs.messages import AwarenessState

EXPIRY_S = 30.0
"""A state that was not renewed for so long is withdrawn; clients renew theirs every 15 s."""

GONE = "null"
"""The state of a client that has left."""
_REMEMBERED = 4096
"""Of how many clients that have left the last clock is known."""


class TooMuchAwareness(Exception):
    """One connection speaks for more clients, or says more of them, than it may."""


class Present(Struct, frozen=True):
    """A client that is there."""

    state: AwarenessState
    owner: Hashable
    """The connection that spoke for it last."""
    expires: float
    subject: str | None
    """Whose credential the owner had."""


class Awareness:
    """The states of a room's clients. `owner` is the connection that spoke for a client last.

    Args:
        clients_per_owner: the most clients that one connection may speak for.
        size_per_owner: the most characters that it may say of them all.
    """

    def __init__(self, clients_per_owner: int = 100, size_per_owner: int = 256 * 1024) -> None:
        self._clients_per_owner = clients_per_owner
        self._size_per_owner = size_per_owner
        self._present: dict[int, Present] = {}
        self._left: OrderedDict[int, int] = OrderedDict()
        """The last clocks of clients that have left: an old state of such a client, repeated by another one, is no news
        (y-protocols keeps `meta` for this)."""
        self.changes = 0
        """How often somebody came, left or said something else; a renewal is none."""
        self.size = 0
        """Characters of all states."""

    def __len__(self) -> int:
        return len(self._present)

    def states(self) -> tuple[AwarenessState, ...]:
        """Everybody's."""
        return tuple(present.state for present in self._present.values())

    def __iter__(self) -> Iterator[Present]:
        return iter(self._present.values())

    def get(self, client: int) -> Present | None:
        """A client that is there."""
        return self._present.get(client)

    def last_clock(self, client: int) -> int:
        """The clock of what a client said last; -1 where that is not known."""
        present = self._present.get(client)
        return self._left.get(client, -1) if present is None else present.state.clock

    def states_but(self, owners: Iterable[Hashable]) -> tuple[AwarenessState, ...]:
        """Everybody's, but for those that some owners spoke for last."""
        others = list(owners)
        return tuple(
            present.state for present in self._present.values() if not any(present.owner is owner for owner in others)
        )

    def receive(
        self,
        states: Iterable[AwarenessState],
        owner: Hashable,
        now: float,
        *,
        seconds: float = EXPIRY_S,
        subject: str | None = None,
        bounded: bool = True,
    ) -> tuple[AwarenessState, ...]:
        """Take what a connection says; returns what of it is news, to be told to all.

        Args:
            seconds: after how many the states expire, where they are not renewed.
            subject: whose credential the connection has.
            bounded: whether the limits of a connection hold; another gateway has held them already.

        Raises:
            TooMuchAwareness: nothing of it was taken.
        """
        news: dict[int, AwarenessState] = {}
        for state in states:
            if self._is_news(state, news.get(state.client)):
                news[state.client] = state
        if bounded:
            self._require_few([state for state in news.values() if state.state != GONE], owner)
        for client, state in news.items():
            before = self._present.pop(client, None)
            if state.state == GONE:
                self._remember(client, state.clock)
            else:
                self._left.pop(client, None)
                self._present[client] = Present(state, owner, now + seconds, subject)
            self._note(None if before is None else before.state.state, None if state.state == GONE else state.state)
        return tuple(news.values())

    def _note(self, before: str | None, after: str | None) -> None:
        self.size += len(after or "") - len(before or "")
        self.changes += before != after

    def _is_news(self, state: AwarenessState, before: AwarenessState | None) -> bool:
        if before is None:
            present = self._present.get(state.client)
            if present is None:
                return state.clock > self._left.get(state.client, -1)
            before = present.state
        return state.clock > before.clock or (state.clock == before.clock and state.state == GONE != before.state)

    def _require_few(self, added: list[AwarenessState], owner: Hashable) -> None:
        sizes = {
            client: len(present.state.state) for client, present in self._present.items() if present.owner is owner
        }
        sizes.update((state.client, len(state.state)) for state in added)
        if len(sizes) > self._clients_per_owner or sum(sizes.values()) > self._size_per_owner:
            raise TooMuchAwareness

    def _remember(self, client: int, clock: int) -> None:
        self._left[client] = clock
        self._left.move_to_end(client)
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)

    def withdraw(self, owner: Hashable) -> tuple[AwarenessState, ...]:
        """Forget the clients of a connection that was lost; returns what tells the others."""
        return self._remove(client for client, present in self._present.items() if present.owner is owner)

    def expire(self, now: float) -> tuple[AwarenessState, ...]:
        """Forget the clients that have been silent for too long; returns what tells the others."""
        return self._remove(client for client, present in self._present.items() if now >= present.expires)

    def _remove(self, clients: Iterable[int]) -> tuple[AwarenessState, ...]:
        # With its last clock: a client that is back says the next one, and is seen again (y-protocols removes so too).
        gone = [self._present.pop(client).state for client in list(clients)]
        for state in gone:
            self._remember(state.client, state.clock)
            self._note(state.state, None)
        return tuple(AwarenessState(state.client, state.clock, GONE) for state in gone)
