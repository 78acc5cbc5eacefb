"""Yjs as bytes: updates, state vectors, documents, and the input that yrs must not see. Pure: no clock, no I/O.

No other part of the server imports pycrdt.

May import: nothing.
Names for others: `document.LiveDocument`, `updates.merge`, `roots.read_text`, `stored_form.to_wire`,
`text_edits.smallest_edits`.
"""
