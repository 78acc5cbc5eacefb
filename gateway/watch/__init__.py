"""Projects in memory: the newest heads, remembered answers, and who waits for more.

May import: access, wire, storage.
Names for others: `hub.Hub`, `waiters.Waiters`, `project.WatchedProject`, `filter.ChangeFilter`.
"""
