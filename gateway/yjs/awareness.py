"""Awareness states of the clients in a room (y-protocols `awareness.js`), kept in memory only. Pure."""

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator

from msgspec import Struct

from gateway.yjs.messages import AwarenessState

EXPIRY_S = 30.0
"""A state that is not renewed for this long is withdrawn; clients renew theirs every 15 s."""

GONE = "null"
"""The state of a client that has left."""
_REMEMBERED = 4096
"""The number of departed clients whose last clock is remembered."""


class TooMuchAwareness(Exception):
    """One connection speaks for more clients than it may, or the states are too large in total."""


class Present(Struct, frozen=True):
    """A client that is present."""

    state: AwarenessState
    owner: Hashable
    """The connection that last spoke for the client."""
    expires: float
    subject: str | None
    """The subject of the owner's credential."""


class Awareness:
    """The states of a room's clients. The `owner` of a client is the connection that last spoke for it.

    Args:
        clients_per_owner: the maximum number of clients that one connection may speak for.
        size_per_owner: the maximum size of their states together, in characters.
        size_in_total: the maximum size of all states together, in characters: whoever joins receives them at once.
    """

    def __init__(
        self, clients_per_owner: int = 100, size_per_owner: int = 256 * 1024, size_in_total: int = 2**20
    ) -> None:
        self._clients_per_owner = clients_per_owner
        self._size_per_owner = size_per_owner
        self._size_in_total = size_in_total
        self._present: dict[int, Present] = {}
        self._of_owner: dict[Hashable, dict[int, None]] = {}
        """The clients of each owner that are present."""
        self._left: OrderedDict[int, int] = OrderedDict()
        """The last clocks of clients that have left: an old state of such a client, repeated by another client, is not
        news (y-protocols keeps `meta` for this)."""
        self.changes = 0
        """How often a client joined, left or changed its state; a renewal does not count."""
        self.size = 0
        """The total size of all states, in characters."""

    def __len__(self) -> int:
        return len(self._present)

    def states(self) -> tuple[AwarenessState, ...]:
        """Return the states of all clients."""
        return tuple(present.state for present in self._present.values())

    def __iter__(self) -> Iterator[Present]:
        return iter(self._present.values())

    def get(self, client: int) -> Present | None:
        """Return a client if it is present."""
        return self._present.get(client)

    def last_clock(self, client: int) -> int:
        """Return the clock of a client's last state; -1 if it is not known."""
        present = self._present.get(client)
        return self._left.get(client, -1) if present is None else present.state.clock

    def states_but(self, owners: Iterable[Hashable]) -> tuple[AwarenessState, ...]:
        """Return the states of all clients except those that belong to `owners`."""
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
        """Take in states from a connection; return those that are news, to be broadcast.

        Args:
            seconds: the time after which the states expire unless they are renewed.
            subject: the subject of the connection's credential.
            bounded: whether to enforce the limits; False if another gateway has already enforced them.

        Raises:
            TooMuchAwareness: none of the states was taken in.
        """
        news: dict[int, AwarenessState] = {}
        for state in states:
            if self._is_news(state, news.get(state.client)):
                news[state.client] = state
        if bounded:
            self._require_few([state for state in news.values() if state.state != GONE], owner)
        for client, state in news.items():
            before = self._pop(client)
            if state.state == GONE:
                self._remember(client, state.clock)
            else:
                self._left.pop(client, None)
                self._present[client] = Present(state, owner, now + seconds, subject)
                self._of_owner.setdefault(owner, {})[client] = None
            self._note(None if before is None else before.state.state, None if state.state == GONE else state.state)
        return tuple(news.values())

    def _pop(self, client: int) -> Present | None:
        """Remove and return a client if it is present."""
        present = self._present.pop(client, None)
        if present is not None:
            clients = self._of_owner[present.owner]
            del clients[client]
            if not clients:
                del self._of_owner[present.owner]
        return present

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
        sizes = {client: len(self._present[client].state.state) for client in self._of_owner.get(owner, ())}
        sizes.update((state.client, len(state.state)) for state in added)
        if len(sizes) > self._clients_per_owner or sum(sizes.values()) > self._size_per_owner:
            raise TooMuchAwareness
        present = (self._present.get(state.client) for state in added)
        growth = sum(len(state.state) for state in added) - sum(len(each.state.state) for each in present if each)
        if growth > 0 and self.size + growth > self._size_in_total:
            raise TooMuchAwareness

    def _remember(self, client: int, clock: int) -> None:
        self._left[client] = clock
        self._left.move_to_end(client)
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)

    def withdraw(self, owner: Hashable) -> tuple[AwarenessState, ...]:
        """Remove the clients of a lost connection; return the states that tell the others."""
        return self._remove(self._of_owner.get(owner, ()))

    def expire(self, now: float) -> tuple[AwarenessState, ...]:
        """Remove the clients that were silent for too long; return the states that tell the others."""
        return self._remove(client for client, present in self._present.items() if now >= present.expires)

    def _remove(self, clients: Iterable[int]) -> tuple[AwarenessState, ...]:
        # Keep the last clock: a client that returns uses the next one and is accepted again (as in y-protocols).
        gone = [present.state for client in list(clients) if (present := self._pop(client)) is not None]
        for state in gone:
            self._remember(state.client, state.clock)
            self._note(state.state, None)
        return tuple(AwarenessState(state.client, state.clock, GONE) for state in gone)
