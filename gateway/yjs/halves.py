"""The places in a document's texts where second halves of surrogate pairs are, or were. Pure.

Hundreds of thousands of places take little memory and are fast to send to another process.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable

from gateway.yjs.scan import Place


class Halves:
    """Places, by client. A client's structs are known from its first clock on: places are added in ascending order."""

    def __init__(self) -> None:
        self._clocks: dict[int, array[int]] = {}
        self._removed: set[Place] = set()

    def __bool__(self) -> bool:
        return bool(self._clocks)

    def __len__(self) -> int:
        return sum(map(len, self._clocks.values())) - len(self._removed)

    def __contains__(self, place: Place) -> bool:
        clocks = self._clocks.get(place[0])
        if clocks is None:
            return False
        index = bisect_left(clocks, place[1])
        return index < len(clocks) and clocks[index] == place[1] and place not in self._removed

    def add(self, client: int, clocks: Iterable[int]) -> None:
        """Add places of a client, in ascending order. Clocks up to the last known one are already known."""
        known = self._clocks.get(client)
        if known is None:
            known = self._clocks[client] = array("I")
        last = known[-1] if known else -1
        known.extend(clock for clock in clocks if clock > last)
        if not known:
            del self._clocks[client]

    def update(self, other: "Halves") -> None:
        """Add the places of another instance, which come after the known ones."""
        for client, clocks in other._clocks.items():
            known = self._clocks.get(client)
            if known is None:
                self._clocks[client] = clocks[:]
            else:
                start = bisect_left(clocks, known[-1] + 1)
                known.extend(clocks[start:])
        self._removed |= other._removed

    def remove(self, places: Iterable[Place]) -> None:
        """Remove known places."""
        self._removed.update(places)
