"""What happens to the database apart from requests: snapshots, retention, verify, backup, export and import.

It imports `gateway.turns`, `gateway.files`, `gateway.workers`, `gateway.settings`, `gateway.wire` and `gateway.yjs`.
Names for other folders: `retention.Retainer`, `verify.verify_storage`, `backup.back_up`, `jobs.Job`.
"""
