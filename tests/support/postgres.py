"""A PostgreSQL server of the tests' own, in a folder that goes with it, on loopback."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.processes import Watched, stop

PATIENCE_S = 60.0
"""Seconds that a storage of the tests waits for its database: the machine may stand still for some."""
_WHY_NOT = "PostgreSQL is not installed (Debian's package postgresql): nothing that needs it is tested"


def _programs() -> Path | None:
    """The folder with `initdb` and `postgres`, which Debian puts on nobody's path."""
    found = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    return Path(found).resolve().parent if found else folders[-1] if folders else None


class PostgresServer:
    """A running server. `url` names a database in it, for a user that may do anything."""

    def __init__(self, folder: Path, programs: Path, primary: "PostgresServer | None" = None) -> None:
        """A new server, or a standby of a running one."""
        self.folder = folder
        self.port = free_port()
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        # The server refuses to run as root.
        self._user = pwd.getpwnam("nobody" if not _has_user("postgres") else "postgres").pw_name
        self._as_root = os.geteuid() == 0
        if self._as_root:
            shutil.chown(folder, self._user)
        if primary is not None:
            self._run("pg_basebackup", "-R", "-c", "fast", "-D", str(folder / "data"), "-d", primary.url)
            return
        self._run(
            "initdb",
            "-D",
            str(folder / "data"),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
        )

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def _command(self, program: str, *arguments: str) -> list[str]:
        command = [str(self._programs / program), *arguments]
        return ["runuser", "-u", self._user, "--", *command] if self._as_root else command

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(self._command(program, *arguments), capture_output=True, cwd=self.folder, check=False)
        if done.returncode:
            log = self.folder / "log"
            told = log.read_text()[-2000:] if log.exists() else ""
            raise RuntimeError(f"{program} failed: {done.stderr.decode()}{told}")

    def start(self, *options: str) -> None:
        """Start it, and wait until it takes connections."""
        settings = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        settings += " -c full_page_writes=off -c max_connections=200 -c shared_buffers=64MB"
        log = str(self.folder / "log")
        self._run(
            *("pg_ctl", "-D", str(self.folder / "data"), "-w", "-t", "120", "-l", log),
            *("-o", " ".join((settings, *options)), "start"),
        )

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-t", "120", "-m", mode, "stop")

    def is_running(self) -> bool:
        status = self._command("pg_ctl", "-D", str(self.folder / "data"), "status")
        return subprocess.run(status, capture_output=True, cwd=self.folder, check=False).returncode == 0

    def promote(self) -> None:
        """Make a standby the primary, and wait until it takes writes."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-t", "120", "promote")

    def execute(self, statement: str) -> None:
        asyncio.run(self._execute(statement))

    @contextmanager
    def standby(self) -> Iterator["PostgresServer"]:
        """A running standby of this server, by streaming replication."""
        with tempfile.TemporaryDirectory(prefix="yjsg-standby-", ignore_cleanup_errors=True) as folder:
            Path(folder).chmod(0o755)
            standby = PostgresServer(Path(folder), self._programs, self)
            standby.start("-c wal_retrieve_retry_interval=100ms")
            try:
                yield standby
            finally:
                if (standby.folder / "data" / "postmaster.pid").exists():
                    standby.kill()

    def kill(self) -> None:
        """End it and all that works for it at once, as a power failure does."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
        stop(pid)  # it makes no more children
        pids = [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()), pid]
        watched = [Watched(each) for each in pids]
        for each in pids:
            os.kill(each, signal.SIGKILL)
        for process in watched:
            assert process.has_ended()
            process.close()
        (self.folder / "data" / "postmaster.pid").unlink()  # its process may not have been reaped yet

    def schema_url(self) -> str:
        """The URL of an empty schema of its own: a database as a gateway sees it."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        asyncio.run(self._execute(f"CREATE SCHEMA {name}"))
        return f"{self.url}?search_path={name}"

    async def _execute(self, statement: str) -> None:
        import asyncpg

        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


@contextmanager
def postgres_server(within: Path | None = None) -> Iterator[PostgresServer]:
    """A server, with its files in a folder, or a skipped test where PostgreSQL is not installed."""
    programs = _programs()
    pytest.importorskip("asyncpg", reason="asyncpg is not installed: nothing that needs PostgreSQL is tested")
    if programs is None or not (programs / "initdb").exists():
        pytest.skip(_WHY_NOT)
    with tempfile.TemporaryDirectory(prefix="yjsg-postgres-", dir=within, ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = PostgresServer(Path(folder), programs)
        server.start()
        try:
            yield server
        finally:
            if (server.folder / "data" / "postmaster.pid").exists():
                server.kill()
