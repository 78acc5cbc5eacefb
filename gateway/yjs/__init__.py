"""Yjs as bytes: updates, state vectors, documents, and what yrs must not be shown. Pure: no clock, no I/O.

Beside it only `gateway.files.open_document` and the documents of the client import pycrdt.

May import: nothing.
Names for others: `updates.merge`, `roots.read_text`, `stored_form.to_wire`, `text_edits.smallest_edits`.
"""
