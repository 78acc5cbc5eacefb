"""Admission check: finds the part of an update that a document can integrate, before yrs sees the update. Pure."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gateway.yjs.lib0 import var_uint
from gateway.yjs.scan import SKIP, Place, Scan, ScannedStruct


def is_complete(runs: Sequence[tuple[int, int, int]], needs: Mapping[int, int], clocks: Mapping[int, int]) -> bool:
    """Whether an update with these runs and needs (`Scan`) and a document with the state vector `clocks` together hold
    everything that the update depends on."""
    have: dict[int, int] = {}
    for client, start, end in runs:
        known = have.get(client) or clocks.get(client, 0)
        if start > known:
            return False
        have[client] = max(known, end)
    return all(clock < (have.get(client) or clocks.get(client, 0)) for client, clock in needs.items())


def _needs(struct: ScannedStruct) -> Iterator[Place]:
    """Yield the places that must be present before a struct can be integrated."""
    return (place for place in struct[7:10] if place is not None)


def complete_part(update: bytes, scanned: Scan, clocks: Mapping[int, int]) -> bytes:
    """Return the part of an update that depends on nothing but itself and a document with the state vector `clocks`.

    The part holds each client's leading structs up to the first with a missing dependency, and the deleted ranges as
    far as their structs are present.
    """
    have = dict(clocks)
    taken: dict[int, list[ScannedStruct]] = {}
    for struct in in_order(scanned.structs, clocks):
        taken.setdefault(struct.client, []).append(struct)
        have[struct.client] = max(have.get(struct.client, 0), struct.clock + struct.length)
    parts = [section(update, structs[0], structs[-1], len(structs)) for structs in taken.values()]
    deletes = (
        (client, start, min(end, have.get(client, 0)))
        for client, start, end in scanned.deletes
        if start < min(end, have.get(client, 0))
    )
    return b"".join([var_uint(len(parts)), *parts, delete_set(deletes)])


def in_order(structs: Iterable[ScannedStruct], clocks: Mapping[int, int]) -> Iterator[ScannedStruct]:
    """Yield the structs of an update in dependency order, without those that depend on something missing.

    Where it is free to choose, the client with the highest number is first, as in Yjs: of structs that were inserted
    at one place, each then comes to stand before the former, and yrs does not walk over them.

    Args:
        clocks: the state vector of the document.
    """
    have = dict(clocks)
    queues: dict[int, list[ScannedStruct]] = {}
    for struct in structs:
        queues.setdefault(struct.client, []).append(struct)
    taken = dict.fromkeys(queues, 0)
    waiting: dict[int, list[tuple[int, int]]] = {}
    """Maps a client whose structs are missing to a heap of (clock needed, client that needs it)."""
    ready = sorted(queues)
    while ready:
        client = ready.pop()
        queue, place = queues[client], taken[client]
        while place < len(queue):
            struct = queue[place]
            missing = _first_missing(struct, have)
            if missing is not None:
                heapq.heappush(waiting.setdefault(missing[0], []), (missing[1], client))
                break
            have[client] = max(have.get(client, 0), struct.clock + struct.length)
            place += 1
            yield struct
        taken[client] = place
        waiters = waiting.get(client)
        while waiters and waiters[0][0] < have.get(client, 0):
            ready.append(heapq.heappop(waiters)[1])


def _first_missing(struct: ScannedStruct, have: Mapping[int, int]) -> Place | None:
    known = have.get(struct.client, 0)
    if struct.kind == SKIP:
        end = struct.clock + struct.length
        return None if end <= known else (struct.client, end - 1)
    if struct.clock > known:
        return struct.client, struct.clock - 1
    return next(((client, clock) for client, clock in _needs(struct) if clock >= have.get(client, 0)), None)


def section(update: bytes, first: ScannedStruct, last: ScannedStruct, count: int) -> bytes:
    """Encode `count` consecutive structs of one client, `first` to `last`, as a section of an update."""
    return var_uint(count) + var_uint(first.client) + var_uint(first.clock) + update[first.start : last.end]


def delete_set(deletes: Iterable[tuple[int, int, int]]) -> bytes:
    """Encode deleted ranges (client, first clock, clock after the end) as the delete set of an update."""
    ranges: dict[int, list[bytes]] = {}
    for client, start, end in deletes:
        ranges.setdefault(client, []).append(var_uint(start) + var_uint(end - start))
    parts = [var_uint(client) + var_uint(len(each)) + b"".join(each) for client, each in ranges.items()]
    return var_uint(len(parts)) + b"".join(parts)
