"""Projects in memory: the newest heads, remembered answers, and who waits for more.

It imports storage only. Names for other folders: `hub.Hub`, `project.WatchedProject`, `project.Interest`.
"""
