"""The HTTP API, one of the gateway's interfaces: its operations and their description in `/openapi.json`.

May import: everything below.
Names for others: `operation.operation`, `openapi.describe`, `routing.router`.
"""
