"""What stands on the wire, for the server and the client alike: shapes, tags and problems. No logic.

It imports storage only (the types of blocks and turns, storage's errors). Names for other folders: the shapes of
`changes`, the classes of `problems`, `tags.EntityTags`.
"""
