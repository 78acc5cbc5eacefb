"""The polling package: the schedule of all polls of one manager, and the pollers of files, turns and projects.

May import: client, wire.
Names for others: `manager.PollingManager`, `document_poller.DocumentPoller`, `turn_poller.TurnPoller`.
"""
