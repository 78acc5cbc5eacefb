"""Runs and clocks of very many clients, packed: 100,000 tuples take 10 ms to come from another process."""

from array import array
from bisect import bisect_left
from collections.abc import ItemsView, Iterator, Mapping, Sequence
from typing import overload

Run = tuple[int, int, int]
"""A client, its first clock, and the clock after the end."""
_WORTH_PACKING = 1024


class PackedRuns(Sequence[Run]):
    """The same sequence as three arrays of 64-bit numbers."""

    __slots__ = ("clients", "distinct", "ends", "furthest", "starts")

    def __init__(self, runs: Sequence[Run]) -> None:
        self.clients, self.starts, self.ends = (array("Q", column) for column in zip(*runs, strict=True))
        self.distinct = len(set(self.clients))
        """The number of different clients."""
        self.furthest = max(self.ends)
        """The highest end."""

    def __len__(self) -> int:
        return len(self.clients)

    def __iter__(self) -> Iterator[Run]:
        return zip(self.clients, self.starts, self.ends, strict=True)

    @overload
    def __getitem__(self, place: int) -> Run: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Run]: ...
    def __getitem__(self, place: int | slice) -> Run | Sequence[Run]:
        return (
            [*self][place] if isinstance(place, slice) else (self.clients[place], self.starts[place], self.ends[place])
        )


class PackedClocks(Mapping[int, int]):
    """Clocks by client as two arrays of 64-bit numbers, in the order of clients."""

    __slots__ = ("_clients", "_clocks")

    def __init__(self, clocks: Mapping[int, int]) -> None:
        self._clients = array("Q", sorted(clocks))
        self._clocks = array("Q", map(clocks.__getitem__, self._clients))

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[int]:
        return iter(self._clients)

    def __getitem__(self, client: int) -> int:
        place = bisect_left(self._clients, client)
        if place == len(self._clients) or self._clients[place] != client:
            raise KeyError(client)
        return self._clocks[place]

    def items(self) -> ItemsView[int, int]:
        return dict(zip(self._clients, self._clocks, strict=True)).items()


def packed(runs: Sequence[Run]) -> Sequence[Run]:
    """Return runs as they are to come from another process."""
    return PackedRuns(runs) if len(runs) >= _WORTH_PACKING else runs


def packed_needs(needs: Mapping[int, int]) -> Mapping[int, int]:
    """Return needs as they are to come from another process."""
    return PackedClocks(needs) if len(needs) >= _WORTH_PACKING else needs


def furthest_end(runs: Sequence[Run]) -> int:
    """Return the highest clock at which one of the runs ends."""
    return runs.furthest if isinstance(runs, PackedRuns) else max((end for _, _, end in runs), default=0)


def least_clients(runs: Sequence[Run]) -> int:
    """Return a number of different clients that the runs have at least, without a look at each."""
    return runs.distinct if isinstance(runs, PackedRuns) else 0


def note_ends(runs: Sequence[Run], clocks: dict[int, int]) -> None:
    """Note in a state vector that a document holds what the runs cover."""
    if isinstance(runs, PackedRuns):
        clocks.update(zip(runs.clients, runs.ends, strict=True))
    else:
        clocks.update((client, end) for client, _, end in runs)
