"""How an HTTP request is read, waits, streams, is bounded and counted. It knows no request of the API.

It imports `gateway.changes`, `gateway.files`, `gateway.workers`, `gateway.watch`, `gateway.wire` and `gateway.yjs`.
Names for other folders: `requests`, `waits.wait_for_change`, `middleware.Boundary`.
"""
