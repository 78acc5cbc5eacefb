"""What of an update a document can take in, told before yrs sees the update. Pure."""

import heapq
from collections.abc import Iterator

from gateway.yjs.scan import SKIP, Place, Scan, ScannedStruct, var_uint


def is_complete(scanned: Scan, clocks: dict[int, int]) -> bool:
    """Whether an update and a document with the state vector `clocks` hold all that the update builds on."""
    have: dict[int, int] = {}
    needs: list[Place] = []
    for client, clock, length, kind, _, _, _, left, right, parent in scanned.structs:
        if kind == SKIP:
            continue
        known = have.get(client) or clocks.get(client, 0)
        if clock > known:
            return False
        have[client] = max(known, clock + length)
        needs += [place for place in (left, right, parent) if place is not None]
    for client, clock in needs:
        if clock >= (have.get(client) or clocks.get(client, 0)):
            return False
    return all(end <= (have.get(client) or clocks.get(client, 0)) for client, _, end in scanned.deletes)


def _needs(struct: ScannedStruct) -> Iterator[Place]:
    """What must be there before a struct."""
    return (place for place in struct[7:10] if place is not None)


def complete_part(update: bytes, scanned: Scan, clocks: dict[int, int]) -> bytes:
    """The part of an update that builds on nothing that neither it nor a document with the state vector `clocks` holds.

    Of each client the first structs, as far as all that each builds on is there; ranges of deletes as far as their
    structs are.
    """
    have = dict(clocks)
    queues: dict[int, list[ScannedStruct]] = {}
    for struct in scanned.structs:
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
        taken[client] = place
        waiters = waiting.get(client)
        while waiters and waiters[0][0] < have.get(client, 0):
            ready.append(heapq.heappop(waiters)[1])
    parts = [_first_structs(update, queue[: taken[client]]) for client, queue in queues.items() if taken[client]]
    return b"".join([var_uint(len(parts)), *parts, _known_deletes(scanned, have)])


def _first_missing(struct: ScannedStruct, have: dict[int, int]) -> Place | None:
    known = have.get(struct.client, 0)
    if struct.kind == SKIP:
        end = struct.clock + struct.length
        return None if end <= known else (struct.client, end - 1)
    if struct.clock > known:
        return struct.client, struct.clock - 1
    return next(((client, clock) for client, clock in _needs(struct) if clock >= have.get(client, 0)), None)


def _first_structs(update: bytes, structs: list[ScannedStruct]) -> bytes:
    first = structs[0]
    return (
        var_uint(len(structs)) + var_uint(first.client) + var_uint(first.clock) + update[first.start : structs[-1].end]
    )


def _known_deletes(scanned: Scan, have: dict[int, int]) -> bytes:
    ranges: dict[int, list[bytes]] = {}
    for client, start, end in scanned.deletes:
        known = min(end, have.get(client, 0))
        if start < known:
            ranges.setdefault(client, []).append(var_uint(start) + var_uint(known - start))
    parts = [var_uint(client) + var_uint(len(each)) + b"".join(each) for client, each in ranges.items()]
    return var_uint(len(parts)) + b"".join(parts)
