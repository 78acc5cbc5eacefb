"""Revision of the text of a root, in a live document or in a copy of it. Pure."""

import pycrdt

from gateway.yjs.revisions import NewText, Revision
from gateway.yjs.roots import require_text
from gateway.yjs.scan import TooMuch
from gateway.yjs.text_edits import apply_edits, most_edits, most_pieces
from gateway.yjs.updates import Document

_CELLS = 2**24
"""The maximum number of compared cells if the work is bounded: about 2 ms."""


def edit_text(
    document: Document, root: str, revision: Revision, *, make: bool, encoded_size: int, most_steps: int | None = None
) -> None:
    """Revise the text of a root.

    Args:
        make: whether to create the root if the document has other roots but not this one.
        encoded_size: the approximate size of the encoded document in bytes, which decides how small the edits are.
        most_steps: the maximum number of pieces of the text that yrs may walk over; None for unbounded work.

    Raises:
        RootIsNotText, EditNotApplicable: the document is unchanged.
        TooMuch: the work would exceed the bounds. The document is unchanged.
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
