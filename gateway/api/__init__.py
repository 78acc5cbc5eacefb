"""A door: the requests of the HTTP API, and what `/openapi.json` says of them.

May import: everything below.
Names for others: `operation.operation`, `openapi.describe`, `routing.router`.
"""
