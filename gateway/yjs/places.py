"""The range of a document that an update wrote. Pure."""

from gateway.yjs.lib0 import MalformedUpdate
from gateway.yjs.scan import GC, SKIP, Place, scan
from gateway.yjs.surrogates import read_row


def written_range(row: bytes) -> tuple[Place, Place] | None:
    """Return the first and the last character that an update of the log wrote; if the update only deleted, the first
    and the last deleted character; None if it did neither."""
    try:
        found = scan(read_row(row)[0])
    except MalformedUpdate:
        return None
    structs = [struct for struct in found.structs if struct.kind not in (GC, SKIP)]
    if structs:
        first, last = structs[0], structs[-1]
        return (first.client, first.clock), (last.client, last.clock + last.length - 1)
    if found.deletes:
        (client, clock, _), (other, _, end) = found.deletes[0], found.deletes[-1]
        return (client, clock), (other, end - 1)
    return None


__all__ = ["Place", "written_range"]
