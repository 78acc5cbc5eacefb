"""Surrogate pairs (characters of two UTF-16 code units), and updates that split them. Pure.

Yjs counts code units: a client can delete one half of an emoji, or insert between the halves. Yjs then replaces each
half with U+FFFD. yrs loses the text after the pair, so yrs never sees both the pair and such an update: before the
update is applied, the pair in the document is replaced with two U+FFFD, which have the same length. The log row of such
an update names the pairs, so that a document rebuilt from the log treats the earlier rows in the same way.
"""

import re
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence

from gateway.yjs.halves import Halves
from gateway.yjs.lib0 import MalformedUpdate, block, uint, var_bytes, var_uint
from gateway.yjs.scan import STRING, Place, Scan, ScannedStruct, scan

_FOUR_BYTES = re.compile(rb"[\xf0-\xf4][\x80-\xbf]{3}")
_PAIRED = re.compile("[\U00010000-\U0010ffff]")
_PARTED = "\ufffd\ufffd"
_NAMES_PAIRS = b"\xff" * 8
"""The prefix of a row that names pairs. No update begins like this: it would be a number of more than 53 bits."""


def may_hold_pairs(update: bytes) -> bool:
    """Return whether the texts of an update may hold surrogate pairs, without decoding the update."""
    return _FOUR_BYTES.search(update) is not None


def second_halves(updates: Iterable[bytes]) -> Halves:
    """Return the places of second halves of surrogate pairs in updates, given in the order they were made.

    Raises:
        MalformedUpdate
    """
    halves = Halves()
    for update in updates:
        if may_hold_pairs(update):
            for struct, clocks in _paired(update, scan(update)):
                halves.add(struct.client, clocks)
    return halves


def halves_of(update: bytes, scanned: Scan) -> Iterator[Place]:
    """Yield the places of second halves of surrogate pairs in one scanned update."""
    for struct, clocks in _paired(update, scanned):
        for clock in clocks:
            yield struct.client, clock


def _paired(update: bytes, scanned: Scan) -> Iterator[tuple[ScannedStruct, list[int]]]:
    """Yield each struct with surrogate pairs, and the clocks of their second halves."""
    for struct in scanned.structs:
        if struct.kind == STRING and _FOUR_BYTES.search(update, struct.content, struct.end):
            start, end = block(update, struct.content)
            found = _PAIRED.finditer(update[start:end].decode())
            first = struct.clock + 1
            yield struct, [first + each.start() + count for count, each in enumerate(found)]


def parted_within(
    update: bytes, scanned: Scan, parting: Container[Place], clocks: Mapping[int, int]
) -> tuple[Halves, set[Place]]:
    """Return the second halves in an update: those of pairs that stay whole, and those of pairs that are split.

    Args:
        parting: the places at which the update needs a struct to begin.
        clocks: the state vector of the document, which may already have the first half of a pair.
    """
    stay, parted = Halves(), set[Place]()
    for struct, found in _paired(update, scanned):
        client, begins = struct.client, clocks.get(struct.client)
        own = {clock for clock in found if clock == begins or (client, clock) in parting}
        stay.add(client, [clock for clock in found if clock not in own] if own else found)
        parted.update((client, clock) for clock in own)
    return stay, parted


def cuts(scanned: Scan) -> Iterator[Place]:
    """Yield the places at which an update needs a struct to begin."""
    for struct in scanned.structs:
        if struct.left is not None:
            yield struct.left[0], struct.left[1] + 1
        if struct.right is not None:
            yield struct.right
    for client, start, end in scanned.deletes:
        yield client, start
        yield client, end


def part_pairs(update: bytes, parted: Collection[Place]) -> bytes:
    """Replace pairs in an update, each named by the place of its second half, with two U+FFFD.

    Raises:
        MalformedUpdate
    """
    if not parted or not may_hold_pairs(update):
        return update
    scanned = scan(update)
    pieces: list[bytes] = []
    done = 0
    for struct in scanned.structs:
        if struct.kind != STRING or not _FOUR_BYTES.search(update, struct.content, struct.end):
            continue
        start, end = block(update, struct.content)
        text, present = update[start:end].decode(), []
        last = 0
        for count, found in enumerate(_PAIRED.finditer(text)):
            if (struct.client, struct.clock + found.start() + count + 1) in parted:
                present += [text[last : found.start()], _PARTED]
                last = found.end()
        if last:
            pieces += [update[done : struct.content], var_bytes("".join([*present, text[last:]]).encode())]
            done = end
    return b"".join([*pieces, update[done:]])


def part_pairs_together(updates: Sequence[bytes], scans: Sequence[Scan]) -> list[bytes]:
    """Split the pairs in updates that are about to be merged if a struct of any of the updates begins or ends inside.

    Where two updates overlap, yrs continues the merge at the end of a struct, and cannot do so in the middle of a pair.
    """
    if not any(map(may_hold_pairs, updates)):
        return list(updates)
    halves = {place for update, scanned in zip(updates, scans, strict=True) for place in halves_of(update, scanned)}
    edges = {
        (struct.client, clock)
        for scanned in scans
        for struct in scanned.structs
        for clock in (struct.clock, struct.clock + struct.length)
    }
    return [part_pairs(update, halves & edges) for update in updates]


def pairs_parted_within(update: bytes) -> set[Place]:
    """Return the pairs in an update that the same update splits."""
    if not may_hold_pairs(update):
        return set()
    scanned = scan(update)
    return {*halves_of(update, scanned)} & {*cuts(scanned)}


def name_pairs(update: bytes, parted: Collection[Place]) -> bytes:
    """Return the log row of an update, which names the earlier pairs that the update splits, if any."""
    if not parted:
        return update
    places = b"".join(var_uint(client) + var_uint(clock) for client, clock in sorted(parted))
    return _NAMES_PAIRS + var_uint(len(parted)) + places + update


def names_pairs(row: bytes) -> bool:
    return row.startswith(_NAMES_PAIRS)


def read_row(row: bytes) -> tuple[bytes, set[Place]]:
    """Return the update of a row, and the earlier pairs that the update splits.

    Raises:
        MalformedUpdate
    """
    if not names_pairs(row):
        return row, set()
    parted = set()
    try:
        count, at = uint(row, len(_NAMES_PAIRS))
        for _ in range(count):
            client, at = uint(row, at)
            clock, at = uint(row, at)
            parted.add((client, clock))
    except IndexError:
        raise MalformedUpdate("the bytes end too early") from None
    return row[at:], parted


def updates_of(rows: Sequence[bytes]) -> Sequence[bytes]:
    """Return the updates of consecutive rows, in a form that is safe for yrs."""
    if not any(map(names_pairs, rows)):
        return rows
    read = [read_row(row) for row in rows]
    parted = set().union(*(places for _, places in read))
    return [part_pairs(update, parted) for update, _ in read]
