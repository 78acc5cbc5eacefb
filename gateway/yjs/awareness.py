"""Who is in a room, as they say of themselves (y-protocols `awareness.js`): kept in memory only. Pure."""

from collections import OrderedDict
from collections.abc import Hashable, Iterable

from msgspec import Struct

from gateway.yjs.messages import AwarenessState

EXPIRY_S = 30.0
"""A state that was not renewed for so long is withdrawn; clients renew theirs every 15 s."""

_GONE = "null"
_REMEMBERED = 4096
"""Of how many clients that have left the last clock is known."""


class TooMuchAwareness(Exception):
    """One connection speaks for more clients, or says more of them, than it may."""


class _Present(Struct):
    state: AwarenessState
    owner: Hashable
    renewed: float


class Awareness:
    """The states of a room's clients. `owner` is the connection that spoke for a client last.

    Args:
        clients_per_owner: the most clients that one connection may speak for.
        size_per_owner: the most characters that it may say of them all.
    """

    def __init__(self, clients_per_owner: int = 100, size_per_owner: int = 256 * 1024) -> None:
        self._clients_per_owner = clients_per_owner
        self._size_per_owner = size_per_owner
        self._present: dict[int, _Present] = {}
        self._left: OrderedDict[int, int] = OrderedDict()
        """The last clocks of clients that have left: an old state of such a client, repeated by another one, is no news
        (y-protocols keeps `meta` for this)."""

    def __len__(self) -> int:
        return len(self._present)

    def states(self) -> tuple[AwarenessState, ...]:
        """Everybody's."""
        return tuple(present.state for present in self._present.values())

    def states_but(self, owners: Iterable[Hashable]) -> tuple[AwarenessState, ...]:
        """Everybody's, but for those that some owners spoke for last."""
        others = list(owners)
        return tuple(
            present.state for present in self._present.values() if not any(present.owner is owner for owner in others)
        )

    def receive(
        self, states: Iterable[AwarenessState], owner: Hashable, now: float, *, bounded: bool = True
    ) -> tuple[AwarenessState, ...]:
        """Take what a connection says; returns what of it is news, to be told to all.

        Args:
            bounded: whether the limits of a connection hold; another gateway has held them already.

        Raises:
            TooMuchAwareness: nothing of it was taken.
        """
        news: dict[int, AwarenessState] = {}
        for state in states:
            if self._is_news(state, news.get(state.client)):
                news[state.client] = state
        if bounded:
            self._require_few([state for state in news.values() if state.state != _GONE], owner)
        for client, state in news.items():
            if state.state == _GONE:
                self._present.pop(client, None)
                self._remember(client, state.clock)
            else:
                self._left.pop(client, None)
                self._present[client] = _Present(state, owner, now)
        return tuple(news.values())

    def _is_news(self, state: AwarenessState, before: AwarenessState | None) -> bool:
        if before is None:
            present = self._present.get(state.client)
            if present is None:
                return state.clock > self._left.get(state.client, -1)
            before = present.state
        return state.clock > before.clock or (state.clock == before.clock and state.state == _GONE != before.state)

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
        return self._remove(client for client, present in self._present.items() if now - present.renewed >= EXPIRY_S)

    def _remove(self, clients: Iterable[int]) -> tuple[AwarenessState, ...]:
        # With its last clock: a client that is back says the next one, and is seen again (y-protocols removes so too).
        gone = [self._present.pop(client).state for client in list(clients)]
        for state in gone:
            self._remember(state.client, state.clock)
        return tuple(AwarenessState(state.client, state.clock, _GONE) for state in gone)
