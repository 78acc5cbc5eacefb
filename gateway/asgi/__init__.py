"""Additions to ASGI that the gateway's own server offers; under another server its applications do without them.

May import: nothing of the project.
Names for others: `answers.DirectAnswers`, `answers.PreparedAnswer`, `outlets.Outlet`, `frames.binary_frame`,
`requests.named_headers`, `coroutines.run_at_once`.
"""
