"""One version of a document is the same bytes each time, however the document was built: a strong tag promises that."""

import random

import pycrdt

from gateway.files.open_document import OpenDocument
from gateway.yjs.stored_form import to_wire
from gateway.yjs.surrogates import updates_of
from gateway.yjs.updates import build_document, build_update, merge
from storage import Incarnation


def _histories(seed: int) -> list[bytes]:
    """What clients with random ids typed, erased and set, each knowing all that came before."""
    random_ = random.Random(seed)
    log: list[bytes] = []
    clients = [random_.randrange(1, 2**32) for _ in range(random_.choice([3, 8, 30]))]
    documents: list[pycrdt.Doc[object]] = [pycrdt.Doc(client_id=client) for client in clients]
    for step in range(60):
        document = random_.choice(documents)
        for update in log:
            document.apply_update(update)
        before = document.get_state()
        text: pycrdt.Text = document.get("content", type=pycrdt.Text)
        if len(text) > 4 and random_.random() < 0.5:
            start = random_.randrange(len(text) - 2)
            del text[start : start + 2]
        else:
            text.insert(random_.randrange(len(text) + 1), "abc")
        entries: pycrdt.Map[object] = document.get("entries", type=pycrdt.Map)
        entries[f"key {step % 7}"] = {"z": step, "a": {"y": 1, "b": 2, "x": 3}}
        log.append(document.get_update(before))
    return log


def test_a_document_is_the_same_bytes_however_it_was_built() -> None:
    for seed in range(40):
        document = OpenDocument("project", "path", None, Incarnation("life"), build_document([]))
        rows = [row for update in _histories(seed) if (row := document.admit(update).row) is not None]
        updates = updates_of(rows)
        live = document.encode()
        snapshot = build_update(updates[:30])
        ways = [[live], updates, [snapshot, *updates[30:]], [merge(updates)]]
        assert {to_wire(build_update(way)) for way in ways} == {to_wire(live)}, seed
