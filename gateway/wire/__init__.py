"""What stands on the wire, for the server and the client alike: shapes, tags, headers and problems. No logic.

May import: storage.
Names for others: `problems.Problem`, `tags.EntityTags`, `values.Cursor`.
"""
