"""Polling: the schedule of all polls of one manager, and the pollers of files, turns and projects.

It imports the client and `gateway.wire`. Names for use are those of `gateway.client`.
"""
