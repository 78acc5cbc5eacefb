"""What of an update a document can take in, told before yrs sees the update. Pure."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gateway.yjs.lib0 import var_uint
from gateway.yjs.scan import SKIP, Place, Scan, ScannedStruct


def is_complete(runs: Sequence[tuple[int, int, int]], needs: Mapping[int, int], clocks: Mapping[int, int]) -> bool:
    """Whether an update with these runs and needs (`Scan`) and a document with the state vector `clocks` hold all that
    the update builds on."""
    have: dict[int, int] = {}
    for client, start, end in runs:
        known = have.get(client) or clocks.get(client, 0)
        if start > known:
            return False
        have[client] = max(known, end)
    return all(clock < (have.get(client) or clocks.get(client, 0)) for client, clock in needs.items())


def _needs(struct: ScannedStruct) -> Iterator[Place]:
    """What must be there before a struct."""
    return (place for place in struct[7:10] if place is not None)


def complete_part(update: bytes, scanned: Scan, clocks: Mapping[int, int]) -> bytes:
    """The part of an update that builds on nothing that neither it nor a document with the state vector `clocks` holds.

    Of each client the first structs, as far as all that each builds on is there; ranges of deletes as far as their
    structs are.
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
    """The structs of an update, each after all that it builds on; those that build on something missing are left out.

    Args:
        clocks: the state vector of the document.
    """
    have = dict(clocks)
    queues: dict[int, list[ScannedStruct]] = {}
    for struct in structs:
        queues.setdefault(struct.client, []).append(struct)
    taken = dict.fromkeys(queues, 0)
    waiting: dict[int, list[tuple[int, int]]] = {}
    """By client whose structs are missing a heap: the clock that is needed, and who needs it."""
    ready = list(queues)
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
    """So many structs of a client that follow each other in an update, as an update has them."""
    return var_uint(count) + var_uint(first.client) + var_uint(first.clock) + update[first.start : last.end]


def delete_set(deletes: Iterable[tuple[int, int, int]]) -> bytes:
    """Deleted ranges (client, first clock, clock after the end) as an update has them."""
    ranges: dict[int, list[bytes]] = {}
    for client, start, end in deletes:
        ranges.setdefault(client, []).append(var_uint(start) + var_uint(end - start))
    parts = [var_uint(client) + var_uint(len(each)) + b"".join(each) for client, each in ranges.items()]
    return var_uint(len(parts)) + b"".join(parts)
