"""The only read and write path for files. Every request and every room goes through this package.

May import: pace, richtext, watch, wire, workers, yjs, storage.
Names for others: `store.Files`, `reader.FileReader`, `history.Versions`, `documents.Documents`.
"""
