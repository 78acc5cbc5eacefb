"""What a coding agent does: sessions, turns, and the blocks that are made of its output.

It imports `gateway.workers`, `gateway.watch` and `gateway.wire`. Names for other folders: `store.Turns`,
`lifecycle.new_id`, `dialects.DialectName`.
"""
