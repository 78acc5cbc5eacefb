"""Yjs as bytes: updates, state vectors, documents, and what yrs must not be shown. Pure: no clock, no I/O.

Of the gateway's code it imports nothing; pycrdt is imported here and in `gateway.files.open_document`.
Names for other folders: `updates.merge` and `updates.diff_update`, `roots.read_text`, `stored_form.to_wire`,
`text_edits.smallest_edits`.
"""
