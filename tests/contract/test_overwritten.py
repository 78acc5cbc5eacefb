"""A database that only SQLite writes into does not count as overwritten, whichever thread looks when."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from storage.sqlite.contents import Contents


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


def _fill(connection: sqlite3.Connection, pages: int) -> None:
    connection.execute("INSERT INTO filled VALUES (zeroblob(?))", (4096 * pages,))
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def test_a_thread_that_was_stopped_after_its_look_takes_no_checkpoint_for_harm(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE filled (body BLOB)")
        names = (database, f"{database}-wal", f"{database}-shm")
        contents = Contents(*(os.open(name, os.O_RDWR) for name in names), 0)
        _fill(connection, 10)
        before = contents._look()
        _fill(connection, 10)
        assert not contents.is_database_overwritten()  # another thread, which has noted the second checkpoint

        look, looks = contents._look, iter([before])
        monkeypatch.setattr(contents, "_look", lambda: next(looks, None) or look())
        assert not contents.is_database_overwritten()

        with database.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(4096))
        os.utime(database, ns=(0, 0))
        assert contents.is_database_overwritten()
    contents.close()
