"""Sessions and turns of coding agents, and the blocks made from their output.

May import: pace, watch, wire, workers, storage.
Names for others: `store.Turns`, `lifecycle.new_id`, `leases.Leases`.
"""
