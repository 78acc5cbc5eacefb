"""Worker processes for heavy work, so that nobody waits for the GIL: lanes, time limits, a process that ends with us.

It imports `gateway.wire.problems` only. Names for other folders: `pool.Workers`, `pool.in_worker`, `pool.Lane`.
"""
