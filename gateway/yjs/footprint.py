"""How much memory yrs takes for the parts of a document, in bytes, as measured (docs/architecture.md). Pure."""

from collections.abc import Iterable, Mapping

from gateway.yjs.keystrokes import typed_structs
from gateway.yjs.scan import ANY, Scan, ScannedStruct, TooMuch, scan
from gateway.yjs.surrogates import cuts

CLIENT = 200
"""A client that has written to the document, with the gateway's own record of the client."""
ROOT = 340
STRUCT = 200
_TYPE = 330
_KEY = 160
"""A key of a map, beyond the struct that holds the value."""
_VALUE = 24
_TEXT, _ARRAY, _OBJECT = 24, 32, 310
"""A plain text, array or object, beyond the values in it."""
_MARKS_OF_VALUES = bytes(range(0x74, 0x80))
_MARK_OF_ARRAY, _MARK_OF_OBJECT, _MARK_OF_TEXT = 0x75, 0x76, 0x77


def of_update(update: bytes, scanned: Scan, clocks: Mapping[int, int] | None = None) -> int:
    """Return the memory by which an update makes a document grow, beyond bytes, roots and clients.

    Args:
        clocks: the state vector of the document; None: not known. Only the end of what it has is not split there.
    """
    counted = STRUCT * len(scanned.structs) + _TYPE * scanned.types + _KEY * scanned.keys
    values = sum(_of_values(update, each) for each in scanned.structs if each.kind == ANY)
    return counted + values + STRUCT * _splits(scanned, {} if clocks is None else clocks)


def _splits(scanned: Scan, clocks: Mapping[int, int]) -> int:
    """Return the most structs that are split: where something begins or ends that is not the edge of a struct."""
    places = set(cuts(scanned))
    places.difference_update((each.client, each.clock) for each in scanned.structs)
    places.difference_update([(client, end) for client, _, end in scanned.runs])
    return sum(clocks.get(client) != clock for client, clock in places)


def of_keystroke(structs: int) -> int:
    """Return the memory by which a keystroke that adds so many structs makes a document grow."""
    return STRUCT * structs


def of_rows(rows: Iterable[bytes], most: int | None = None) -> int:
    """Return an upper bound on the memory of the document that rows build, beyond bytes, roots and clients.

    Args:
        most: the most work allowed (`scan`).

    Raises:
        MalformedUpdate
        scan.TooMuch
    """
    memory = 0
    for row in rows:
        structs = typed_structs(row)
        if structs:
            memory += STRUCT * structs
        else:
            scanned = scan(row, most)
            memory += of_update(row, scanned)
            structs = len(scanned.structs) + len(scanned.deletes)
        if most is not None:
            most -= structs
            if most < 0:
                raise TooMuch
    return memory


def _of_values(update: bytes, struct: ScannedStruct) -> int:
    """Return an upper bound on the memory of plain values, from the bytes that may begin one."""
    if struct.length == 1 and update[struct.content + 1] == _MARK_OF_TEXT:
        return 0
    content = update[struct.content : struct.end]
    values = len(content) - len(content.translate(None, _MARKS_OF_VALUES))
    counted = _VALUE * values + _TEXT * content.count(_MARK_OF_TEXT)
    return counted + _ARRAY * content.count(_MARK_OF_ARRAY) + _OBJECT * content.count(_MARK_OF_OBJECT)
