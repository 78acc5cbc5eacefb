"""What changed, of many files: listing, status, the change feed, and sync.

It imports `gateway.files`, `gateway.watch` and `gateway.wire`. Names for other folders: `status.Changes`, `feed.Feed`,
`sync.Sync`.
"""
