"""Yjs as bytes: updates, state vectors, documents, and what yrs must not be shown. Pure: no clock, no I/O.

Nothing else of the server imports pycrdt.

May import: nothing.
Names for others: `document.LiveDocument`, `updates.merge`, `roots.read_text`, `stored_form.to_wire`,
`text_edits.smallest_edits`.
"""
