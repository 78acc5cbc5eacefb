"""Splits an update into slices that a document integrates one after another, each in a short time. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from gateway.yjs.admission import delete_set, in_order
from gateway.yjs.lib0 import uint, var_bytes, var_uint
from gateway.yjs.scan import ANY, SKIP, STRING, Place, Scan, ScannedStruct, any_value
from gateway.yjs.walks import Walks

_VALUE_BYTES = 8
"""How many bytes of plain values take as long to integrate as one struct."""
_TEXT_BYTES = 128
"""How many bytes of any other content take as long to integrate as one struct."""
_CLIENT = _ROOT = 4
"""How much more work the first struct of a client in a slice is, and one that names its root."""
_HAS_LEFT, _HAS_RIGHT = 0x80, 0x40
_WALKED = 8
"""Over how many structs yrs walks in the time in which it integrates one."""
STEP_WORK = 4096
"""How much work of an update a document takes in in one step: 1.5 to 3 ms."""

MOST_WHOLE = 4 * 2**20
"""How many bytes may be in one struct that yrs handles as a whole for the gateway's process to hold the document: yrs
takes in so much binary data, and emits it again, in about 10 ms, and as much JSON in about 16. To a text that it has
joined to one struct of this size it adds any text in about 8 ms, since it walks through the struct."""


class SliceWork(NamedTuple):
    """How an update is split for a document."""

    most: int
    """The most work per slice; integrating or deleting a struct counts as 1."""
    cut: int
    """The work of splitting a struct of the document: yrs moves all later structs of the same client."""
    structs: int
    """The most structs that the document may have."""


class _Piece(NamedTuple):
    """A struct, or a part of one, as it is encoded."""

    client: int
    clock: int
    encoded: bytes
    work: int


def slices_of(update: bytes, scanned: Scan, clocks: Mapping[int, int], work: SliceWork) -> Sequence[bytes]:
    """Split an update that has no missing dependencies into updates that each depend only on the ones before.

    A struct that holds many values or a long text is split, as Yjs splits it when something is inserted in its middle.

    Args:
        clocks: the state vector of the document.
    """
    most, cut, present = work
    structs, deletes = len(scanned.structs), scanned.deletes
    counted = structs * (1 + _ROOT + _CLIENT + 2 * cut + (present + structs) // _WALKED)
    counted += sum(min(end - start, present + structs) for _, start, end in deletes) + len(deletes) * 2 * cut
    if counted + len(update) // _VALUE_BYTES <= most:
        return [update]
    ordered = list(in_order(scanned.structs, clocks))
    if len(ordered) < len(scanned.structs):  # circular dependencies: left to yrs to report
        return [update]
    slices = [*_slices_of_structs(update, scanned, ordered, clocks, work)]
    slices += _slices_of_deletes(scanned, work)
    return slices if len(slices) > 1 else [update]


def largest_whole(scanned: Scan) -> int:
    """Return the size in bytes of the largest content that yrs handles as a whole: it joins the parts of a text."""
    whole = (each for each in scanned.structs if each.kind == STRING or not _splits(each))
    return max((each.end - each.content for each in whole), default=0)


def _splits(struct: ScannedStruct) -> bool:
    return struct.length > 1 and struct.kind in (ANY, STRING)


def _slices_of_structs(
    update: bytes, scanned: Scan, ordered: Sequence[ScannedStruct], clocks: Mapping[int, int], work: SliceWork
) -> Iterator[bytes]:
    edges = {(struct.client, struct.clock) for struct in scanned.structs}
    edges.update((client, end) for client, _, end in scanned.runs)
    edges.update(clocks.items())
    walks = Walks(update, scanned, clocks)
    taken: dict[int, list[_Piece]] = {}
    counted = 0
    for place, struct in enumerate(ordered, work.structs):
        if struct.kind == SKIP:
            if struct.client in taken:
                yield _update_of(taken)
                taken, counted = {}, 0
            continue
        more = work.cut * _cuts(struct, edges)
        if walks(struct):
            more += place // _WALKED
        for piece in _pieces(update, struct, work.most):
            more += piece.work + (0 if struct.client in taken else _CLIENT)
            if taken and counted + more > work.most:
                yield _update_of(taken)
                taken, counted = {}, 0
            taken.setdefault(struct.client, []).append(piece)
            counted, more = counted + more, 0
    if taken:
        yield _update_of(taken)


def _cuts(struct: ScannedStruct, edges: set[Place]) -> int:
    """Return how many structs are split by the insertion of this one."""
    left, right = struct.left, struct.right
    count = 0
    if left is not None and (left[0], left[1] + 1) not in edges:
        count += 1
    if right is not None and right not in edges:
        count += 1
    return count


def _pieces(update: bytes, struct: ScannedStruct, most: int) -> Iterator[_Piece]:
    """Yield a struct whole, or, if its content can be split and is more work than that, in pieces of about `most` work.

    Two pieces of one struct do not fit into one slice: yrs would join them, and emit something else than the slice.
    """
    per_unit = _VALUE_BYTES if struct.kind == ANY else _TEXT_BYTES
    size = struct.end - struct.content
    names_root = struct.left is struct.right is struct.parent is None
    work = 1 + size // per_unit + (_ROOT if names_root else 0)
    if size // per_unit <= most or not _splits(struct):
        yield _Piece(struct.client, struct.clock, update[struct.start : struct.end], work)
        return
    parts = _parts_of_values if struct.kind == ANY else _parts_of_text
    right = b"" if struct.right is None else b"".join(map(var_uint, struct.right))
    head, clock = update[struct.start : struct.content], struct.clock
    for length, content in parts(update[struct.content : struct.end], most * per_unit):
        yield _Piece(struct.client, clock, head + content, 1 + len(content) // per_unit)
        clock += length
        info = _HAS_LEFT | (_HAS_RIGHT if right else 0) | struct.kind
        head = bytes([info]) + var_uint(struct.client) + var_uint(clock - 1) + right


def _parts_of_values(content: bytes, most: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lengths and the encoded contents into which plain values are split, each of about `most` bytes."""
    left, at = uint(content, 0)
    while left:
        start, count = at, 0
        while left and at - start < most:
            at, _ = any_value(content, at)
            left -= 1
            count += 1
        yield count, var_uint(count) + content[start:at]


def _parts_of_text(content: bytes, most: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lengths (in UTF-16 code units) and the encoded contents into which a text is split."""
    size, at = uint(content, 0)
    end = at + size
    while at < end:
        stop = min(at + most, end)
        while stop < end and content[stop] & 0xC0 == 0x80:  # within a character
            stop += 1
        part = content[at:stop]
        yield len(part.decode("utf-8").encode("utf-16-le")) // 2, var_bytes(part)
        at = stop


def _update_of(taken: Mapping[int, list[_Piece]]) -> bytes:
    sections = [
        b"".join(
            [var_uint(len(pieces)), var_uint(client), var_uint(pieces[0].clock), *(piece.encoded for piece in pieces)]
        )
        for client, pieces in taken.items()
    ]
    return var_uint(len(sections)) + b"".join(sections) + b"\0"


def _slices_of_deletes(scanned: Scan, work: SliceWork) -> Iterator[bytes]:
    most, structs = work.most, work.structs + len(scanned.structs)
    taken: list[tuple[int, int, int]] = []
    counted = 0
    for client, start, end in scanned.deletes:
        while start < end:
            last = end if structs <= most else min(end, start + most)  # a range may hold as many structs as clocks
            more = 2 * work.cut + min(last - start, structs)
            if taken and counted + more > most:
                yield b"\0" + delete_set(taken)
                taken, counted = [], 0
            taken.append((client, start, last))
            start, counted = last, counted + more
    if taken:
        yield b"\0" + delete_set(taken)
