"""How many structs each shared type of a document holds: yrs deletes them together with the type, in one step. Pure."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gateway.yjs.lib0 import block, uint
from gateway.yjs.scan import GC, SKIP, TYPE, Place, Scan, ScannedStruct

MOST_HELD = 160 * 1024
"""How many structs may be deleted together with the types that hold them in one step: about 40 ms. In a worker process,
which reads the whole document, the same takes a second."""
PER_KEY = 6
"""An entry of a map takes as long as so many other structs, where there are few enough for one step: the keys of one
map take the square of their number, and 300,000 of them 2 s."""
_HAS_KEY = 0x20


class TypeSizes(NamedTuple):
    """How many structs the shared types of a document hold, those within other types included.

    An entry of a map counts as `PER_KEY`.
    """

    clocks: Mapping[int, Sequence[int]]
    """By client: the clocks of its types that hold something, in order."""
    totals: Mapping[int, Sequence[int]]
    """By client: the sum of the sizes of the first 0, 1, 2 … of these types."""
    entries: Mapping[int, tuple[Sequence[int], Sequence[int], Sequence[int]]]
    """By client: the first clocks, in order, and the ends of its entries of maps under keys that have, or had, a type;
    and the size of the largest of these types. A new entry of the key deletes the type."""
    keys: Mapping[tuple[Place | None, bytes], int]
    """The size of the largest type under a key of a map, by the map and the key; None: any root."""
    total: int
    """The number of all structs that a type holds, each counted once."""

    def held_by_deleted(self, deletes: Iterable[tuple[int, int, int]]) -> int:
        """Return an upper bound on how many structs the types in deleted ranges hold."""
        held = 0
        for client, start, end in deletes:
            clocks = self.clocks.get(client)
            if clocks is not None:
                totals = self.totals[client]
                held += totals[bisect_left(clocks, end)] - totals[bisect_left(clocks, start)]
        return held

    def held_by_replaced(self, update: bytes, structs: Iterable[ScannedStruct]) -> int:
        """Return an upper bound on how many structs the types hold that the structs of an update may take the place
        of."""
        return sum(self._replaced_by(update, each) for each in structs) if self.keys else 0

    def _replaced_by(self, update: bytes, struct: ScannedStruct) -> int:
        neighbour = struct.left or struct.right
        if neighbour is None:
            return self.keys.get((struct.parent, _name(update, struct)), 0) if update[struct.start] & _HAS_KEY else 0
        entries = self.entries.get(neighbour[0])
        if entries is None:
            return 0
        starts, ends, sizes = entries
        index = bisect_right(starts, neighbour[1]) - 1
        return sizes[index] if index >= 0 and neighbour[1] < ends[index] else 0

    def held(self, update: bytes, scanned: Scan) -> int:
        """Return an upper bound on how many structs an update deletes together with the types that hold them."""
        return min(self.total, self.held_by_deleted(scanned.deletes) + self.held_by_replaced(update, scanned.structs))


NO_TYPES = TypeSizes({}, {}, {}, {}, 0)


def type_sizes(whole: bytes, scanned: Scan) -> TypeSizes:
    """Return the sizes of the types in a whole document, or what an update adds to types as far as the update says."""
    structs = scanned.structs
    if not scanned.types and all(each.parent is None for each in structs):
        return NO_TYPES
    firsts = _Firsts(structs)
    holders = [structs[first].parent if first is not None else None for first in map(firsts.of, range(len(structs)))]
    sizes: dict[Place, int] = {}
    for index, holder in enumerate(holders):
        first = firsts.of(index)
        if holder is not None and first is not None:
            taken = PER_KEY if whole[structs[first].start] & _HAS_KEY else 1
            sizes[holder] = sizes.get(holder, 0) + taken
    total = sum(sizes.values())
    types = {(each.client, each.clock): index for index, each in enumerate(structs) if each.kind == TYPE}
    for place in _innermost_first(types, holders):
        holder = holders[types[place]]
        if holder is not None and place in sizes:
            sizes[holder] += sizes[place]
    clocks: dict[int, array[int]] = {}
    totals: dict[int, array[int]] = {}
    for client, clock in sorted(sizes):
        clocks.setdefault(client, array("Q")).append(clock)
        running = totals.setdefault(client, array("Q", [0]))
        running.append(running[-1] + sizes[client, clock])
    return TypeSizes(clocks, totals, *_under_keys(whole, structs, firsts, types, sizes), total)


def _innermost_first(types: Mapping[Place, int], holders: list[Place | None]) -> list[Place]:
    """Order types so that each comes before the one that holds it."""
    levels: dict[Place, int] = {}
    for place in types:
        chain: list[Place] = []
        here: Place | None = place
        while here is not None and here in types and here not in levels:
            levels[here] = 0  # ends the walk if types hold each other
            chain.append(here)
            here = holders[types[here]]
        level = 0 if here is None else levels.get(here, 0)
        for each in reversed(chain):
            level += 1
            levels[each] = level
    return sorted(levels, key=levels.__getitem__, reverse=True)


def _under_keys(
    whole: bytes,
    structs: list[ScannedStruct],
    firsts: "_Firsts",
    types: Mapping[Place, int],
    sizes: Mapping[Place, int],
) -> tuple[Mapping[int, tuple[Sequence[int], Sequence[int], Sequence[int]]], dict[tuple[Place | None, bytes], int]]:
    """Return `TypeSizes.entries` and `TypeSizes.keys`."""
    keys: dict[bytes, int] = {}
    names: dict[tuple[Place | None, bytes], int] = {}
    for place, index in types.items():
        first = firsts.of(index)
        if place in sizes and first is not None and (key := _key(whole, structs[first])) is not None:
            keys[key] = max(keys.get(key, 0), sizes[place])
            name = structs[first].parent, _name(whole, structs[first])
            names[name] = max(names.get(name, 0), sizes[place])
    entries: dict[int, tuple[array[int], array[int], array[int]]] = {}
    for index in sorted(range(len(structs)), key=lambda each: structs[each][:2]) if keys else ():
        first = firsts.of(index)
        key = None if first is None else _key(whole, structs[first])
        if key is not None and key in keys:
            struct = structs[index]
            starts, ends, largest = entries.setdefault(struct.client, (array("Q"), array("Q"), array("Q")))
            starts.append(struct.clock)
            ends.append(struct.clock + struct.length)
            largest.append(keys[key])
    return entries, names


def _key(whole: bytes, first: ScannedStruct) -> bytes | None:
    """Return the encoded map and key of an entry that has no neighbours; None if the struct is no entry of a map."""
    return whole[first.start + 1 : first.content] if whole[first.start] & _HAS_KEY else None


def _name(update: bytes, first: ScannedStruct) -> bytes:
    """Return the key of an entry that has no neighbours."""
    of_root, at = uint(update, first.start + 1)
    if of_root:
        _, at = block(update, at)
    else:
        _, at = uint(update, at)
        _, at = uint(update, at)
    start, end = block(update, at)
    return update[start:end]


class _Firsts:
    """Finds the struct that names the parent, and the key, of another one: the end of the chain of its neighbours."""

    def __init__(self, structs: list[ScannedStruct]) -> None:
        self._structs = structs
        self._indexes: dict[int, tuple[array[int], array[int]]] = {}
        for index in sorted(range(len(structs)), key=lambda each: structs[each][:2]):
            clocks, indexes = self._indexes.setdefault(structs[index].client, (array("Q"), array("Q")))
            clocks.append(structs[index].clock)
            indexes.append(index)
        self._found: dict[int, int | None] = {}

    def of(self, index: int) -> int | None:
        """Return the index of the struct; None for what is left of deleted structs, which name no parent."""
        if index in self._found:
            return self._found[index]
        walked: list[int] = []
        at: int | None = index
        found: int | None = None
        while at is not None:
            if at in self._found:
                found = self._found[at]
                break
            self._found[at] = None  # ends the walk if structs name each other as neighbours
            walked.append(at)
            struct = self._structs[at]
            neighbour = struct.left or struct.right
            if neighbour is None:
                found = None if struct.kind in (GC, SKIP) else at
                break
            at = self._at(neighbour)
        self._found.update(dict.fromkeys(walked, found))
        return found

    def _at(self, place: Place) -> int | None:
        client, clock = place
        if client not in self._indexes:
            return None
        clocks, indexes = self._indexes[client]
        index = bisect_right(clocks, clock) - 1
        return indexes[index] if index >= 0 else None
