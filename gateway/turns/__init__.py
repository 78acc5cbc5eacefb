"""What a coding agent does: sessions, turns, and the blocks that are made of its output.

May import: watch, wire, workers, storage.
Names for others: `store.Turns`, `lifecycle.new_id`, `leases.Leases`.
"""
