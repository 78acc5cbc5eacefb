"""HTTP infrastructure: parsing, authentication, long polls, event streams, limits, metrics. Independent of API routes.

May import: access, asgi, changes, files, pace, presence, settings, shared_turn, turns, watch, wire, workers,
yjs, storage.
Names for others: `waits.wait_for_change`, `middleware.Boundary`, `long_poll.LongPolls`.
"""
