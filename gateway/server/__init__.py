"""The gateway process: uvicorn with our options, and our protocol classes for HTTP and WebSockets.

May import: everything below.
Names for others: `process.run_server`.
"""
