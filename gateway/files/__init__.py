"""A file: THE way to read and write it. Every request and every room comes through here.

It imports `gateway.workers`, `gateway.watch`, `gateway.wire` and `gateway.yjs`. Names for other folders: `store.Files`,
`reader.FileReader`, `history.Versions`, `documents.Documents`.
"""
