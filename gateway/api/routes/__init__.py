"""The handlers of the HTTP API by subject: read the request, ask one object, answer.

May import: everything below.
Names for others: `files.FileRoutes`, `changes.ChangeRoutes`, `turns.TurnRoutes`.
"""
