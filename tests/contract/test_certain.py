"""What an error says of the write that met it: nothing is stored, or it may be."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from msgspec import UNSET

from gateway.wire.problems import FileNotFound, Overloaded, Problem, after_a_write, problem_from_storage
from storage import StorageClosed, StorageError, StorageFull, StorageOverloaded, StorageUnavailable
from storage.sqlite.database import Database


def test_what_fails_before_the_commit_is_certainly_not_stored(tmp_path: Path) -> None:
    assert _failure(tmp_path, _breaks_before_the_commit).certain


def test_what_fails_in_the_commit_may_be_stored(tmp_path: Path) -> None:
    assert not _failure(tmp_path, _breaks_the_commit).certain


def test_a_client_is_told_whether_it_must_repeat() -> None:
    lost = problem_from_storage(StorageUnavailable("lost", certain=False))
    assert (lost.details().certain, lost.details().status) == (False, 503)
    assert "it may have been stored: repeat the request" in lost.details().detail
    assert "nothing was stored" not in lost.details().detail
    certain: list[StorageError] = [
        StorageUnavailable("no"), StorageFull("full"), StorageOverloaded(2, 1), StorageClosed("closed"),
    ]  # fmt: skip
    for error in certain:
        problem = problem_from_storage(error)
        assert problem.details().certain is True
        assert "nothing was stored" in problem.details().detail
        assert problem.headers["Retry-After"].isdigit()


@pytest.mark.parametrize("failure", [StorageUnavailable("no"), StorageFull("full"), Overloaded("busy")])
def test_what_fails_after_a_write_never_says_that_nothing_was_stored(failure: Exception) -> None:
    with pytest.raises(Problem) as told, after_a_write():
        raise failure
    assert told.value.details().certain is False
    assert "it may have been stored" in told.value.details().detail
    assert failure.certain is (failure is not told.value)  # others may be told of the same failure


def test_a_problem_of_the_request_stays_as_it_is_after_a_write() -> None:
    with pytest.raises(FileNotFound) as told, after_a_write():
        raise FileNotFound("a")
    assert told.value.details().certain is UNSET


def _breaks_before_the_commit(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO project (name) VALUES (NULL)")


def _breaks_the_commit(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA defer_foreign_keys = ON")
    connection.execute("INSERT INTO output_state (turn, body) VALUES (1, x'00')")


def _failure(folder: Path, write: object) -> StorageError:
    async def main() -> StorageError:
        database = await Database.open(folder / "certain.db", lambda connection: None, None, log_limit=2**26)
        with pytest.raises(StorageUnavailable) as failed:
            await database.write(write)  # type: ignore[arg-type]
        await database.write(lambda connection: connection.execute("SELECT 1"))
        await database.close()
        return failed.value

    return asyncio.run(main())
