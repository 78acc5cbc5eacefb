"""Worker processes for heavy work that would hold the GIL: lanes, time limits, and processes that end with the gateway.

May import: heap, pace, wire, yjs.
Names for others: `pool.Workers`, `pool.in_worker`, `pool.Lane`.
"""
