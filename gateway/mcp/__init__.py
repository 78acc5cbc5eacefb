"""A door for the Model Context Protocol: the files of a project as tools of a coding agent.

May import: access, client, http, pace, wire.
Names for others: `endpoint.McpEndpoint`, `stdio.serve_stdio`.
"""
