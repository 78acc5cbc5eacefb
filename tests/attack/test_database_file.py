"""The database file removed, replaced, linked, copied: it is noticed before anything is acknowledged."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.server import GatewayProcess

_PLAIN = {"Content-Type": "text/plain"}


def _command(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "gateway", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300)


def _put(project: httpx.Client, path: str, text: str) -> httpx.Response:
    return project.put(f"/files/{path}", content=text, headers=_PLAIN)


def _text(project: httpx.Client, path: str) -> str:
    return project.get(f"/files/{path}", params={"format": "text"}).raise_for_status().text


def _written(folder: Path, text: str) -> GatewayProcess:
    """A stopped gateway in whose database there is one file."""
    with GatewayProcess(folder / "gateway.db") as gateway, gateway.client() as project:
        _put(project, "a.md", text).raise_for_status()
    return gateway


def _backup(gateway: GatewayProcess, target: Path) -> None:
    made = _command("backup", target, "--database", f"sqlite:///{gateway.database}")
    assert made.returncode == 0, made.stderr


def _beside(database: Path) -> list[str]:
    return sorted(each.name for each in database.parent.glob(f"{database.name}*"))


def _rescued(database: Path) -> Path:
    (found,) = database.parent.glob(f"{database.name}.rescued-*")
    return found


def _replace(database: Path, other: Path) -> None:
    other.rename(database)


def _remove(database: Path, other: Path) -> None:
    database.unlink()


def _remove_all(database: Path, other: Path) -> None:
    for end in ("", "-wal", "-shm", ".lock"):
        database.with_name(database.name + end).unlink(missing_ok=True)


@pytest.mark.parametrize("harm", [_replace, _remove, _remove_all])
def test_nothing_is_acknowledged_once_the_file_is_not_there(tmp_path: Path, harm: Any) -> None:
    gateway = _written(tmp_path, "in the backup")
    backup = tmp_path / "backup.db"
    _backup(gateway, backup)
    content = backup.read_bytes()
    with gateway, gateway.client() as project:
        _put(project, "a.md", "acknowledged").raise_for_status()
        harm(gateway.database, backup)
        refused = _put(project, "a.md", "not acknowledged")
        assert refused.status_code == 503
        assert refused.json()["code"] == "storage_unavailable"
        assert "removed or replaced" in refused.json()["detail"]
        ready = project.get(f"{gateway.url}/readyz")
        assert (ready.status_code, ready.json()["detail"]) == (503, refused.json()["detail"])
        assert gateway.stop() == 0
    rescued = _rescued(gateway.database)
    assert not gateway.database.exists() if harm is not _replace else gateway.database.read_bytes() == content
    assert not gateway.database.with_name("gateway.db-wal").exists()

    with gateway, gateway.client() as project:
        if harm is _replace:
            assert _text(project, "a.md") == "in the backup"
        else:
            assert project.get("/files/a.md").status_code == 404
    with GatewayProcess(rescued) as other, other.client() as project:
        assert _text(project, "a.md") == "acknowledged"


def _log_of(database: Path) -> Path:
    return database.with_name(database.name + "-wal")


def _copy_over(database: Path, other: Path) -> None:
    shutil.copyfile(other, database)


def _empty(database: Path, other: Path) -> None:
    os.truncate(database, 0)


def _copy_log_over(database: Path, other: Path) -> None:
    log = _log_of(database)
    with log.open("r+b") as file:
        file.write(bytes(log.stat().st_size))


def _empty_log(database: Path, other: Path) -> None:
    os.truncate(_log_of(database), 0)


@pytest.mark.parametrize("harm", [_copy_over, _empty, _copy_log_over, _empty_log])
def test_nothing_is_acknowledged_once_a_file_was_written_over(tmp_path: Path, harm: Any) -> None:
    gateway = _written(tmp_path, "in the backup")
    backup = tmp_path / "backup.db"
    _backup(gateway, backup)
    with gateway, gateway.client() as project:
        _put(project, "a.md", "acknowledged").raise_for_status()
        harm(gateway.database, backup)
        content = [gateway.database.read_bytes(), _log_of(gateway.database).read_bytes()]
        refused = _put(project, "a.md", "not acknowledged")
        assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
        assert "was written over by another program" in refused.json()["detail"]
        for question in ("/history/a.md", "/files/b.md"):  # what nobody has in memory
            read = project.get(question)
            assert (read.status_code, read.json()["code"]) == (503, "storage_unavailable"), question
        ready = project.get(f"{gateway.url}/readyz")
        assert (ready.status_code, ready.json()["detail"]) == (503, refused.json()["detail"])
        assert gateway.stop() == 0
    assert [gateway.database.read_bytes(), _log_of(gateway.database).read_bytes()] == content
    assert not list(tmp_path.glob("*.rescued-*"))
    if harm is _copy_over:
        with pytest.raises(RuntimeError, match=r"gateway\.db-wal"):
            gateway.start()
        _log_of(gateway.database).unlink()
        with gateway, gateway.client() as project:
            assert _text(project, "a.md") == "in the backup"


def test_what_was_lost_with_an_emptied_log_is_told_to_clients(tmp_path: Path) -> None:
    gateway = _written(tmp_path, "kept")
    with gateway, gateway.client() as project:
        cursor = _put(project, "a.md", "in the log").raise_for_status().json()["cursor"]
        os.truncate(_log_of(gateway.database), 0)
        assert _put(project, "b.md", "not acknowledged").status_code == 503
        gateway.kill()
    told, incarnation = _life(gateway, cursor)
    assert told == "starts over"
    assert _life(gateway, cursor) == ("starts over", incarnation)
    with gateway, gateway.client() as project:
        assert _text(project, "a.md") == "kept"


def test_a_file_that_was_written_over_is_not_read(tmp_path: Path) -> None:
    gateway = _written(tmp_path, "earlier")
    shutil.copyfile(gateway.database, tmp_path / "earlier.db")
    with gateway, gateway.client() as project:
        _put(project, "a.md", "later").raise_for_status()
        assert gateway.stop() == 0
    with gateway, gateway.client() as project:
        shutil.copyfile(tmp_path / "earlier.db", gateway.database)
        read = project.get("/files/a.md", params={"format": "text"})
        assert (read.status_code, read.json()["code"]) == (503, "storage_unavailable")
        assert "was written over by another program" in read.json()["detail"]


def _checkpoint(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


@pytest.mark.parametrize("visit", [_checkpoint, os.utime], ids=["checkpoint", "touch"])
def test_what_another_process_may_do_is_not_taken_for_harm(gateway: GatewayProcess, visit: Any) -> None:
    with gateway.client() as project:
        for number in range(5):
            _put(project, f"{number}.md", f"{number}").raise_for_status()
            visit(gateway.database)
        assert project.get("/history/0.md").is_success
        assert project.get(f"{gateway.url}/readyz").json()["status"] == "ok"
    assert gateway.stop() == 0


def test_a_log_that_was_removed_is_noticed_and_loses_nothing(gateway: GatewayProcess) -> None:
    with gateway.client() as project:
        _put(project, "a.md", "acknowledged").raise_for_status()
        gateway.database.with_name("gateway.db-wal").unlink()
        refused = _put(project, "a.md", "not acknowledged")
        assert refused.status_code == 503
        assert "gateway.db-wal was removed" in refused.json()["detail"]
    assert gateway.stop() == 0
    with gateway, gateway.client() as project:
        assert _text(project, "a.md") == "acknowledged"


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_second_gateway_is_refused_by_whatever_name(gateway: GatewayProcess, tmp_path: Path, link: Any) -> None:
    if link is os.link and sys.platform != "linux":
        pytest.skip("the file itself is locked on Linux only")
    (tmp_path / "elsewhere").mkdir()
    link(gateway.database, tmp_path / "elsewhere" / "other.db")
    second = _command("serve", "--port", "0", "--database", f"sqlite:///{tmp_path / 'elsewhere' / 'other.db'}")
    assert second.returncode == 3
    assert "is in use by" in second.stdout + second.stderr


def _replace_by_name(database: Path, other: Path) -> None:
    os.replace(other, database)


def _replace_content(database: Path, other: Path) -> None:
    shutil.copyfile(other, database)


def _is_refused_for_its_log(database: Path) -> None:
    before = database.read_bytes()
    refused = _command("serve", "--port", "0", "--database", f"sqlite:///{database}")
    assert refused.returncode == 3
    assert "gateway.db-wal" in refused.stdout + refused.stderr
    assert database.read_bytes() == before


@pytest.mark.parametrize("replace", [_replace_by_name, _replace_content])
def test_the_log_of_another_database_is_not_mixed_in(tmp_path: Path, replace: Any) -> None:
    gateway = _written(tmp_path, "in the backup")
    _backup(gateway, tmp_path / "backup.db")
    with gateway, gateway.client() as project:
        _put(project, "a.md", "in the log").raise_for_status()
        gateway.kill()
    replace(gateway.database, tmp_path / "backup.db")
    _is_refused_for_its_log(gateway.database)
    for end in ("-wal", "-shm"):
        gateway.database.with_name("gateway.db" + end).unlink()
    with gateway, gateway.client() as project:
        assert _text(project, "a.md") == "in the backup"


@pytest.mark.parametrize("replace", [_replace_by_name, _replace_content])
def test_the_log_is_not_mixed_into_an_earlier_copy(tmp_path: Path, replace: Any) -> None:
    gateway = _written(tmp_path, "earlier")
    shutil.copyfile(gateway.database, tmp_path / "earlier.db")
    with gateway, gateway.client() as project:
        _put(project, "a.md", "in the log").raise_for_status()
        gateway.kill()
    replace(gateway.database, tmp_path / "earlier.db")
    _is_refused_for_its_log(gateway.database)


def test_a_gateway_whose_log_could_not_be_copied_at_its_start_starts_again_after_a_kill(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "gateway.db")
    with gateway, gateway.client() as project:
        _put(project, "a.md", "in the log").raise_for_status()
        gateway.kill()
    with contextlib.closing(sqlite3.connect(gateway.database)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM file").fetchone()  # holds the log as it is now
        with gateway, gateway.client() as project:
            _put(project, "b.md", "too").raise_for_status()
            gateway.kill()
    with gateway, gateway.client() as project:
        assert [_text(project, name) for name in ("a.md", "b.md")] == ["in the log", "too"]


def test_a_database_with_its_own_log_goes_on_after_a_kill_and_a_move(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "gateway.db")
    with gateway, gateway.client() as project:
        cursor = _put(project, "a.md", "in the log").raise_for_status().json()["cursor"]
        gateway.kill()
    (tmp_path / "new").mkdir()
    for name in _beside(gateway.database):
        (tmp_path / name).rename(tmp_path / "new" / name)
    gateway.database = tmp_path / "new" / "gateway.db"
    with gateway, gateway.client() as project:
        assert _text(project, "a.md") == "in the log"
        assert project.get("/changes", params={"since": cursor}).json()["changes"] == []


def _life(gateway: GatewayProcess, cursor: str, **settings: Any) -> tuple[str, str]:
    """What a client with a cursor is told, "goes on" or "starts over", and the incarnation of its file."""
    gateway.settings = {name: str(value) for name, value in settings.items()}
    with gateway, gateway.client() as project:
        answer = project.get("/changes", params={"since": cursor}).raise_for_status().json()
        incarnation = project.get("/files/a.md").headers["X-Incarnation"]
    return ("starts over" if answer.get("reset") else "goes on"), incarnation


def _cursor(gateway: GatewayProcess) -> str:
    with gateway, gateway.client() as project:
        return str(_put(project, "a.md", "newer").raise_for_status().json()["cursor"])


def test_a_copy_that_is_served_begins_new_lives_once(tmp_path: Path) -> None:
    gateway = _written(tmp_path, "text")
    cursor = _cursor(gateway)
    told, incarnation = _life(gateway, cursor)
    assert told == "goes on"
    copied = [GatewayProcess(tmp_path / name) for name in ("copy.db", "moved.db")]
    for copy in copied:
        shutil.copyfile(gateway.database, copy.database)
    told, other = _life(copied[0], cursor)
    assert told == "starts over"
    assert other != incarnation
    assert _life(copied[0], cursor) == ("starts over", other)
    assert _life(copied[1], cursor, GATEWAY_SAME_DATABASE=True) == ("goes on", incarnation)
    assert _life(copied[1], cursor) == ("goes on", incarnation)
    assert _life(gateway, cursor) == ("goes on", incarnation)


@pytest.mark.parametrize("replace", [_replace_by_name, _replace_content])
def test_an_earlier_state_put_back_begins_new_lives(tmp_path: Path, replace: Any) -> None:
    gateway = _written(tmp_path, "text")
    shutil.copyfile(gateway.database, tmp_path / "earlier.db")
    cursor = _cursor(gateway)
    replace(gateway.database, tmp_path / "earlier.db")
    assert _life(gateway, cursor)[0] == "starts over"


def _tear(database: Path) -> None:
    """Leave the file as it is where a checkpoint was killed that had copied its first page: pages go in their order,
    and the first one tells how many there are."""
    whole = database.with_name("whole.db")
    for suffix in ("", "-wal"):
        shutil.copy(f"{database}{suffix}", f"{whole}{suffix}")
    with contextlib.closing(sqlite3.connect(whole)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    assert whole.stat().st_size > database.stat().st_size
    with database.open("r+b") as file:
        file.write(whole.read_bytes()[:size])


def test_a_gateway_that_was_killed_while_its_log_was_copied_starts_again(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db") as gateway:
        with gateway.client() as project:
            for number in range(40):
                _put(project, f"{number}.md", f"{number}".ljust(10_000, "x")).raise_for_status()
        gateway.kill()
        _tear(Path(gateway.database))
        alone = contextlib.closing(sqlite3.connect(f"{Path(gateway.database).as_uri()}?immutable=1", uri=True))
        with alone as connection, pytest.raises(sqlite3.DatabaseError, match="malformed"):
            connection.execute("SELECT database FROM identity").fetchone()
        gateway.start()
        with gateway.client() as project:
            assert [_text(project, f"{number}.md") for number in range(40)] == [
                f"{number}".ljust(10_000, "x") for number in range(40)
            ]
        gateway.stop()
    verified = _command("verify", "--database", f"sqlite:///{gateway.database}")
    assert verified.returncode == 0, verified.stdout
