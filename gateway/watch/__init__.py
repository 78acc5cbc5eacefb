"""Watched projects in memory: the newest heads, cached answers, and the requests that wait for changes.

May import: access, shared_turn, wire, storage.
Names for others: `hub.Hub`, `waiters.Waiters`, `project.WatchedProject`, `filter.ChangeFilter`.
"""
