"""Synchronization of a local folder with a project: pull, push, status and live.

May import: client, wire, yjs.
Names for others: `sync.FolderSync`, `live.LiveFolder`, `files.Folder`.
"""
