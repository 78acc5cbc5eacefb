"""A door: the requests of the HTTP API, what `/openapi.json` says of them, and the demo's files.

May import: everything below.
Names for others: `operation.operation`, `openapi.describe`, `routing.router`.
"""
