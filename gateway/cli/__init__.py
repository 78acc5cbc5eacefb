"""The command `yjs-gateway`. What a command needs is imported when it runs.

It may import everything. Name for other folders: `main.main`.
"""
