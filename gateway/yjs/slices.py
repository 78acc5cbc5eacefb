"""Splits an update into slices that a document integrates one after another, each in a short time. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from gateway.yjs.admission import delete_set, in_order, section
from gateway.yjs.lib0 import var_uint
from gateway.yjs.scan import SKIP, Place, Scan, ScannedStruct


def slices_of(update: bytes, scanned: Scan, clocks: Mapping[int, int], most: int, cut: int) -> Sequence[bytes]:
    """Split an update that has no missing dependencies into updates that each depend only on the ones before.

    Args:
        clocks: the state vector of the document.
        most: the most work per slice; integrating or deleting a struct counts as 1.
        cut: the work of splitting an existing struct: yrs moves all later structs of the same client.
    """
    if (len(scanned.structs) + len(scanned.deletes)) * (1 + 2 * cut) <= most:
        return [update]
    ordered = list(in_order(scanned.structs, clocks))
    if len(ordered) < len(scanned.structs):  # circular dependencies: left to yrs to report
        return [update]
    structs = _slices_of_structs(update, scanned, ordered, clocks, most, cut)
    return [*structs, *_slices_of_deletes(scanned, most, 1 + 2 * cut)]


def _slices_of_structs(
    update: bytes,
    scanned: Scan,
    ordered: Sequence[ScannedStruct],
    clocks: Mapping[int, int],
    most: int,
    cut: int,
) -> Iterator[bytes]:
    edges = {(struct.client, struct.clock) for struct in scanned.structs}
    edges.update((client, end) for client, _, end in scanned.runs)
    edges.update(clocks.items())
    taken: dict[int, list[ScannedStruct]] = {}
    work = 0
    for struct in ordered:
        skips = struct.kind == SKIP and struct.client in taken
        more = 1 + cut * _cuts(struct, edges)
        if taken and (skips or work + more > most):
            yield _update_of(update, taken)
            taken, work = {}, 0
        if struct.kind != SKIP:
            taken.setdefault(struct.client, []).append(struct)
            work += more
    if taken:
        yield _update_of(update, taken)


def _cuts(struct: ScannedStruct, edges: set[Place]) -> int:
    """Return how many structs are split by the insertion of this one."""
    left, right = struct.left, struct.right
    count = 0
    if left is not None and (left[0], left[1] + 1) not in edges:
        count += 1
    if right is not None and right not in edges:
        count += 1
    return count


def _update_of(update: bytes, taken: Mapping[int, list[ScannedStruct]]) -> bytes:
    sections = [section(update, structs[0], structs[-1], len(structs)) for structs in taken.values()]
    return var_uint(len(sections)) + b"".join(sections) + b"\0"


def _slices_of_deletes(scanned: Scan, most: int, work: int) -> Iterator[bytes]:
    together = max(1, most // work)
    for start in range(0, len(scanned.deletes), together):
        yield b"\0" + delete_set(scanned.deletes[start : start + together])
