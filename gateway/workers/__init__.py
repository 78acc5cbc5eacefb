"""Worker processes for heavy work, so that nobody waits for the GIL: lanes, time limits, a process that ends with us.

May import: wire, yjs.
Names for others: `pool.Workers`, `pool.in_worker`, `pool.Lane`.
"""
