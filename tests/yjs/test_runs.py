"""The runs of very many clients mean the same when they are packed."""

import pickle
import pickletools

from gateway.yjs.document import LiveDocument
from gateway.yjs.halves import Halves
from gateway.yjs.heavy_edits import Basis, prepare_update
from gateway.yjs.lib0 import var_uint
from gateway.yjs.runs import PackedRuns, least_clients, note_ends, packed
from gateway.yjs.slices import SliceWork
from gateway.yjs.updates import build_document

_BASIS = Basis(b"\0", Halves(), SliceWork(10**6, 0, 0))


def _written(first: int, count: int) -> bytes:
    """A value in an array by each of so many clients."""
    clients = range(first + count, first, -1)
    return var_uint(count) + b"".join(b"\1" + var_uint(each) + b"\0\x08\1\1a\1\x7e" for each in clients) + b"\0"


def test_packed_runs_are_the_same_sequence() -> None:
    runs = [(number % 700, number, number + 1) for number in range(2_000)] + [(2**53 - 1, 0, 2**53 - 1)]
    again = pickle.loads(pickle.dumps(packed(runs), 5))
    assert isinstance(again, PackedRuns)
    assert ([*again], len(again), again[3], [*again[1:3]]) == (runs, len(runs), runs[3], runs[1:3])
    assert (least_clients(again), least_clients(runs)) == (701, 0)
    clocks, expected = {5: 1}, {5: 1}
    note_ends(again, clocks)
    note_ends(runs, expected)
    assert clocks == expected == {5: 1} | {client: end for client, _, end in runs}
    assert packed(few := runs[:1_000]) is few


def test_a_message_with_an_update_of_very_many_clients_has_no_object_for_each() -> None:
    prepared = prepare_update(_written(10, 5_000), _BASIS, False)
    assert len(prepared.runs) == 5_000
    message = pickle.dumps(prepared._replace(update=b"", slices=()), 5)
    assert sum(code.name == "TUPLE3" for code, _, _ in pickletools.genops(message)) < 10


def test_very_many_new_clients_make_a_document_too_large_for_this_process_without_a_look_at_each() -> None:
    document = LiveDocument(build_document([], 1))
    few = prepare_update(_written(10, 2_000), _BASIS, False)
    looks = _Counted([(client, 0, 1) for client in range(50_000)])
    assert document.outgrows(few._replace(runs=looks))
    assert looks.looks == 0
    assert not document.outgrows(few)


class _Counted(PackedRuns):
    """Counts who iterates over the runs."""

    looks = 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        self.looks += 1
        return super().__iter__()
