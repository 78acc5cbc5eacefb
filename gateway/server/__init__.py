"""The gateway as a process: uvicorn with our options, and our protocol classes for HTTP and WebSockets.

It imports `gateway.app` and what is below it. Name for other folders: `process.run_server`.
"""
