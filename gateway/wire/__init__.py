"""The wire format that server and client share: structs, entity tags, headers and problems. No logic.

May import: storage.
Names for others: `problems.Problem`, `tags.EntityTags`, `values.Cursor`.
"""
