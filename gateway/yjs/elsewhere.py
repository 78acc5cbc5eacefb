"""Which documents are too large for the gateway's process, and the update of such a document. Pure.

yrs frees a document in one call, which holds the GIL: 25 to 60 ms for 400,000 structs of a text, or 100,000 entries of
a map. So a worker process takes in the updates of a large document, and keeps the document
(`gateway.workers.kept_documents`).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from gateway.yjs.runs import Run
from gateway.yjs.scan import Place, Scan
from gateway.yjs.updates import InvalidUpdate

MOST_STRUCTS = 60_000
"""The most structs of a document in the gateway's process: yrs frees them in 2 ms if they were made together, and in up
to 8 ms if they lie scattered in memory."""
PER_ROOT, PER_CLIENT = 8, 6
"""A root and a client of a document take as long to free as so many structs. yrs looks at all clients in every
transaction, and to read the state vector of 10,000 takes 3 ms."""
_PER_KEY, _PER_TYPE = 2, 1
"""An entry of a map and a shared type take longer to free than structs of as much memory: by so many structs."""
_MOST_SECONDS, _SLICE_SECONDS, _BYTE_SECONDS = 2.0, 1e-4, 2e-6
"""The most CPU time in which a document takes in an update in slices: so much, and for each slice and byte. An update
that is not made to take long needs a tenth."""
_STRUCT_SECONDS = 2e-5
"""How much more for each struct of a document in a worker process: a map of 300,000 keys takes 3 s to delete, and
counts as 540,000 structs."""


def extra_weight(scanned: Scan) -> int:
    """Return how many structs take as long to free as what an update adds, beyond structs that take as much memory."""
    return _PER_KEY * scanned.keys + _PER_TYPE * scanned.types


class Update(NamedTuple):
    """A prepared update for a document elsewhere."""

    slices: Sequence[bytes]
    parted: Collection[Place]
    """The surrogate pairs of the document that the update splits."""
    structs: int
    """An upper bound on the number of structs in the document afterwards."""
    size: int
    """About how many bytes the encoded document has afterwards."""
    state: str
    """A name of the document with this update, under which it is kept."""
    runs: Sequence[Run] = ()
    needs: Mapping[int, int] = {}
    """As in `Prepared`."""


class TakenIn(NamedTuple):
    """What came of an update."""

    emitted: Sequence[bytes | None] | None
    """See `emitted_for`."""
    state_vector: bytes
    """The state vector of the document after it."""


def emitted_for(slices: Sequence[bytes], emitted: Sequence[bytes | None]) -> Sequence[bytes | None] | None:
    """Return what a document emitted for each slice of an update; None if these are the slices themselves, which would
    be long to send and to compare again."""
    return None if list(emitted) == list(slices) else emitted


class TimeAllowed:
    """The CPU time that an update in slices may take.

    Args:
        structs: how many structs a document in a worker process has.
    """

    def __init__(self, slices: Sequence[bytes], structs: int = 0) -> None:
        self._left = _MOST_SECONDS + len(slices) * _SLICE_SECONDS + sum(map(len, slices)) * _BYTE_SECONDS
        self._left += structs * _STRUCT_SECONDS

    def spend(self, seconds: float) -> None:
        """Take what was spent on a slice off the time that is left.

        Raises:
            InvalidUpdate: the update takes very long, as its structs compete for places with very many others.
        """
        self._left -= seconds
        if self._left < 0:
            raise InvalidUpdate("its structs compete for their places with too many others")
