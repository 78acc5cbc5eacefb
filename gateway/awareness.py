"""Who is in a room, as they say of themselves (y-protocols `awareness.js`): kept in memory only. Pure."""

from collections.abc import Hashable, Iterable

from msgspec import Struct

from gateway.room_messages import AwarenessState

EXPIRY_S = 30.0
"""A state that was not renewed for so long is withdrawn; clients renew theirs every 15 s."""

_GONE = "null"


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

    def __len__(self) -> int:
        return len(self._present)

    def states(self) -> tuple[AwarenessState, ...]:
        """Everybody's."""
        return tuple(present.state for present in self._present.values())

    def receive(self, states: Iterable[AwarenessState], owner: Hashable, now: float) -> tuple[AwarenessState, ...]:
        """Take what a connection says; returns what of it is news, to be told to all.

        Raises:
            TooMuchAwareness
        """
        news = []
        for state in states:
            known = self._present.get(state.client)
            if known is not None and not _supersedes(state, known.state):
                continue
            if state.state == _GONE:
                self._present.pop(state.client, None)
            else:
                self._present[state.client] = _Present(state, owner, now)
            news.append(state)
        sizes = [len(present.state.state) for present in self._present.values() if present.owner is owner]
        if len(sizes) > self._clients_per_owner or sum(sizes) > self._size_per_owner:
            raise TooMuchAwareness
        return tuple(news)

    def withdraw(self, owner: Hashable) -> tuple[AwarenessState, ...]:
        """Forget the clients of a connection that was lost; returns what tells the others."""
        return self._remove(client for client, present in self._present.items() if present.owner is owner)

    def expire(self, now: float) -> tuple[AwarenessState, ...]:
        """Forget the clients that have been silent for too long; returns what tells the others."""
        return self._remove(client for client, present in self._present.items() if now - present.renewed >= EXPIRY_S)

    def _remove(self, clients: Iterable[int]) -> tuple[AwarenessState, ...]:
        # With its last clock: a client that is back says the next one, and is seen again (y-protocols removes so too).
        gone = [self._present.pop(client).state for client in list(clients)]
        return tuple(AwarenessState(state.client, state.clock, _GONE) for state in gone)


def _supersedes(new: AwarenessState, old: AwarenessState) -> bool:
    return new.clock > old.clock or (new.clock == old.clock and new.state == _GONE)
