"""A folder on a disk and a project, brought together: pull, push, status and live.

May import: client, wire, yjs.
Names for others: `sync.FolderSync`, `live.LiveFolder`, `files.Folder`.
"""
