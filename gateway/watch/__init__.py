"""Projects in memory: the newest heads, remembered answers, and who waits for more.

It imports `gateway.access.grants`, `gateway.wire` and `storage`. Names for other folders: `hub.Hub`, `waiters.Waiters`,
`project.WatchedProject`, `filter.ChangeFilter`.
"""
