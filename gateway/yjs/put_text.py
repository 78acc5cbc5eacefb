"""Revises the text of a root, in a document that may be a copy of the one that people have open. Pure."""

import pycrdt

from gateway.yjs.revisions import NewText, Revision
from gateway.yjs.roots import require_text
from gateway.yjs.scan import TooMuch
from gateway.yjs.text_edits import apply_edits, most_edits, most_pieces
from gateway.yjs.updates import Document

_CELLS = 2**24
"""How much is compared where the work is bounded: about 2 ms."""


def edit_text(
    document: Document, root: str, revision: Revision, *, make: bool, encoded_size: int, most_steps: int | None = None
) -> None:
    """Revise the text of a root.

    Args:
        make: whether to make the root where it is not there and others are.
        encoded_size: bytes of the encoded document, about. How small the edits are depends on it.
        most_steps: over how many pieces of the text yrs may walk; None: the work is not bounded.

    Raises:
        RootIsNotText, EditNotApplicable: the document is as it was.
        TooMuch: the work would be more than that. The document is as it was.
    """
    require_text(document, root, absent=make)
    if revision == NewText("") and root not in document.keys():  # noqa: SIM118 - not a dict
        return
    target = document.get(root, type=pycrdt.Text)
    present = str(target)
    if most_steps is not None and revision.work(present) > _CELLS:
        raise TooMuch
    edits = revision.edits(present, most_edits(present, encoded_size))
    if most_steps is not None and len(edits) * (most_pieces(present, encoded_size) + len(edits)) > most_steps:
        raise TooMuch
    with document.transaction():
        apply_edits(target, edits)
