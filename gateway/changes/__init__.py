"""Changes of many files: listing, status, the change feed, and sync.

May import: access, files, pace, watch, wire, storage.
Names for others: `status.Changes`, `feed.Feed`, `sync.Sync`.
"""
