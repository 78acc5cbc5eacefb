"""Edits of a text that refer to an older version, made in the document of that version. Pure.

Their structs have their own Yjs client id, a hash of the edits, the version and the incarnation of the file. A repeated
request therefore makes the very same structs, which add nothing to a document that has them.
"""

import hashlib
from collections.abc import Sequence

import msgspec
import pycrdt

from gateway.yjs.revisions import Revision
from gateway.yjs.roots import require_text
from gateway.yjs.state_vectors import read_state_vector
from gateway.yjs.surrogates import updates_of
from gateway.yjs.text_edits import Edit, apply_edits, most_edits
from gateway.yjs.updates import Document, apply_row, build_document


def edit_version(
    rows: Sequence[bytes], following: bytes | None, meant: str, root: str, revision: Revision, make: bool
) -> bytes | None:
    """Return the update that revises the text of a root in the document of a version.

    Args:
        rows: the stored updates that make the version.
        following: the stored update of the next version. If that version already has the wanted text, the request
            counts as a repetition of the one that wrote it.
        meant: the names of the file's incarnation and of the version, which together identify the version.
        make: whether to create the root if the document has other roots but not this one.

    Returns:
        The update, or None if there is nothing to do.

    Raises:
        RootIsNotText, EditNotApplicable
    """
    document = build_document(list(updates_of(rows)))
    require_text(document, root, absent=make)
    whole = document.get_update()
    present = str(document.get(root, type=pycrdt.Text))
    edits = revision.edits(present, most_edits(present, len(whole)))
    if not edits:
        return None
    if following is not None and _text_after(whole, following, root) == _revised(present, edits):
        return None
    copy = build_document([whole], _client(document, f"{meant}\0{root}", edits))
    emitted: list[bytes] = []
    subscription = copy.observe(lambda event: emitted.append(event.update))
    with copy.transaction():
        apply_edits(copy.get(root, type=pycrdt.Text), edits)
    copy.unobserve(subscription)
    return emitted[0]


def _text_after(whole: bytes, row: bytes, root: str) -> str:
    document = apply_row(build_document([whole]), row)
    return str(document.get(root, type=pycrdt.Text))


def _revised(text: str, edits: Sequence[Edit]) -> str:
    pieces, reached = [], 0
    for edit in edits:
        pieces += [text[reached : edit.start], edit.text]
        reached = edit.end
    return "".join((*pieces, text[reached:]))


def _client(document: Document, meant: str, edits: Sequence[Edit]) -> int:
    """Return a Yjs client id derived from the edits: other edits get another id. The document does not know the id."""
    known = read_state_vector(document.get_state())
    said = msgspec.json.encode(edits)
    attempt = 0
    while True:
        digest = hashlib.blake2b(said, digest_size=4, key=hashlib.sha256(f"{attempt}\0{meant}".encode()).digest())
        client = int.from_bytes(digest.digest())
        if client and client not in known:
            return client
        attempt += 1
