"""Edits of a text that mean an older version: they are made in the document of that version. Pure.

What they add bears a Yjs client of its own, made of the edits, the version and the incarnation of the file. So a
repetition of the request makes the very same structs, which add nothing to a document that has them.
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
    """The update that revises the text of a root in the document of a version.

    Args:
        rows: the stored updates that make the version.
        following: the stored update of the version after it. Where that version has the very text that is wanted, the
            request is a repetition of the one that wrote it, or as good as that.
        meant: the names of the incarnation of the file and of the version: no other version has them.
        make: whether to make the root where it is not there and others are.

    Returns:
        None where nothing is to be done.

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
    """The Yjs client of edits: another one for other edits, and none that the document knows."""
    known = read_state_vector(document.get_state())
    said = msgspec.json.encode(edits)
    attempt = 0
    while True:
        digest = hashlib.blake2b(said, digest_size=4, key=hashlib.sha256(f"{attempt}\0{meant}".encode()).digest())
        client = int.from_bytes(digest.digest())
        if client and client not in known:
            return client
        attempt += 1
