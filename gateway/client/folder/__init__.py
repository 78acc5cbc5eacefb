"""A folder on a disk and a project, brought together: pull, push and status.

May import: client, wire, yjs.
Names for others: `sync.FolderSync`, `files.Folder`.
"""
