"""The command `yjs-gateway`. What a command needs is imported when it runs.

May import: everything below.
Names for others: `main.main`.
"""
