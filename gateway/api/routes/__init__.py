"""The handlers of the HTTP API by subject: each parses the request, calls one object and answers.

May import: everything below.
Names for others: `files.FileRoutes`, `changes.ChangeRoutes`, `turns.TurnRoutes`.
"""
