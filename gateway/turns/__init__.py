"""Sessions and turns of coding agents, and the blocks made from their output.

May import: watch, wire, workers, storage.
Names for others: `store.Turns`, `lifecycle.new_id`, `leases.Leases`.
"""
