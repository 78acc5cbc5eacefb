"""Work on the database apart from requests: snapshots, retention, verify, backup, export and import.

May import: access, files, heap, pace, settings, trusted_clock, turns, wire, workers, yjs, storage.
Names for others: `retention.Retainer`, `verify.verify_storage`, `backup.back_up`, `jobs.Job`.
"""
