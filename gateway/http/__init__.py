"""How an HTTP request is read, waits, streams, is bounded and counted. It knows no request of the API.

May import: access, asgi, changes, files, presence, settings, watch, wire, workers, yjs, storage.
Names for others: `waits.wait_for_change`, `middleware.Boundary`, `long_poll.LongPolls`.
"""
