"""Who is in which file at this moment, for every door: kept in memory only, never stored.

May import: files, pace, shared_turn, watch, wire, workers, yjs, storage.
Names for others: `presence.Presence`, `file_presence.FilePresence`, `writers.Writers`.
"""
