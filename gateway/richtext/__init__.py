"""Rich text of an XmlFragment, as editors on ProseMirror keep it, read and edited as Markdown. Pure: no clock, no I/O.

May import: `gateway.yjs`.
Names for others: `documents.read_markdown`, `documents.read_html`, `revising.revise_present`,
`revising.revise_version`.
"""
