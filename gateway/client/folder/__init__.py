"""A folder on a disk and a project, brought together: pull, push and status.

It imports the client, `gateway.wire` and `gateway.yjs`. Names for other folders: `sync.FolderSync`, `files.Folder`.
"""
