"""A door: the requests of the HTTP API, what `/openapi.json` says of them, and the demo's files.

It imports `gateway.http` and what is below it, and no other door. Names for other folders: `operation.Operation`,
`openapi.describe`, `routes`.
"""
