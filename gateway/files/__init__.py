"""A file: THE way to read and write it. Every request and every room comes through here.

May import: pace, watch, wire, workers, yjs, storage.
Names for others: `store.Files`, `reader.FileReader`, `history.Versions`, `documents.Documents`.
"""
