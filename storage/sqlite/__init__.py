"""Storage in one SQLite file."""

from storage.sqlite.storage import SQLiteStorage

__all__ = ["SQLiteStorage"]
