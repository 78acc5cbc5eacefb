"""What a request touches: cost follows the change, not the size."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import create_app
from gateway.settings import Settings
from storage import AppendUpdate, CreateSession, Version, VersionConflict
from storage.sqlite import SQLiteStorage
from storage.sqlite.database import Database
from tests.support.statements import HeldWrite, StatementRecorder, record_statements

_PLAIN = {"Content-Type": "text/plain"}


@asynccontextmanager
async def _gateway(folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, StatementRecorder, SQLiteStorage]]:
    """A gateway in this process, with every statement of its database recorded."""
    app = create_app(Settings(database=f"sqlite:///{folder / 'cost.db'}"))
    async with app.running() as storage:
        assert isinstance(storage, SQLiteStorage)
        recorder = await record_statements(storage)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway/api/projects/p") as client:
            for number in range(20):
                await client.put(f"/files/{number}.md", content=b"text", headers=_PLAIN)
            yield client, recorder, storage


Ask = Callable[[httpx.AsyncClient], Coroutine[Any, Any, httpx.Response]]


async def _by_tag(client: httpx.AsyncClient) -> httpx.Response:
    tag = (await client.get("/files/7.md")).headers["ETag"]
    return await client.get("/files/7.md", headers={"If-None-Match": tag})


async def _by_version(client: httpx.AsyncClient) -> httpx.Response:
    return await client.get("/files/7.md", params={"from_version": 1})


async def _listing(client: httpx.AsyncClient) -> httpx.Response:
    tag = (await client.get("/files")).headers["ETag"]
    return await client.get("/files", headers={"If-None-Match": tag})


async def _feed(client: httpx.AsyncClient) -> httpx.Response:
    tag = (await client.get("/changes")).headers["ETag"]
    return await client.get("/changes", headers={"If-None-Match": tag})


async def _status_by_cursor(client: httpx.AsyncClient) -> httpx.Response:
    cursor = (await client.get("/files")).json()["cursor"]
    return await client.post("/files/status", json={"since": cursor, "paths": ["3.md", "5.md"]})


async def _status_by_versions(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/files/status", json={"versions": {f"{number}.md": 1 for number in range(20)}})


UNCHANGED: list[Ask] = [_by_tag, _by_version, _listing, _feed, _status_by_cursor, _status_by_versions]


@pytest.mark.parametrize("ask", UNCHANGED, ids=lambda ask: ask.__name__.strip("_"))
def test_an_unchanged_poll_runs_no_statement(tmp_path: Path, ask: Ask) -> None:
    async def work() -> None:
        async with _gateway(tmp_path) as (client, recorder, _):
            first = await ask(client)
            request = first.request
            with recorder.recording() as statements:
                again = await client.send(request)
            assert statements == []
            assert again.status_code == first.status_code
            assert again.status_code in (204, 304) or again.json()["changes"] == []

    asyncio.run(work())


def test_a_path_that_is_none_is_refused_also_where_nothing_has_changed(tmp_path: Path) -> None:
    async def work() -> None:
        async with _gateway(tmp_path) as (client, _, _):
            cursor = (await client.get("/files")).json()["cursor"]
            answers = [
                await client.post("/files/status", json={"since": cursor, "paths": paths})
                for paths in (["none yet.md", "3.md"], ["3.md", "../secret"])
            ]
            assert answers[0].json() == {"changes": [], "cursor": cursor}
            assert (answers[1].status_code, answers[1].json()["code"]) == (400, "invalid_path")

    asyncio.run(work())


def test_an_unchanged_poll_after_anothers_change_runs_no_statement_either(tmp_path: Path) -> None:
    async def work() -> None:
        async with _gateway(tmp_path) as (client, recorder, _):
            request = (await _by_tag(client)).request
            await client.put("/files/8.md", content=b"changed", headers=_PLAIN)
            with recorder.recording() as statements:
                assert (await client.send(request)).status_code == 304
            assert statements == []

    asyncio.run(work())


def test_who_holds_a_receipt_is_never_told_that_nothing_changed(tmp_path: Path) -> None:
    async def work() -> None:
        async with _gateway(tmp_path) as (client, _, _):
            for number in range(50):
                tag = (await client.get("/files/7.md")).headers["ETag"]
                cursor = (await client.get("/changes")).json()["cursor"]
                receipt = await client.put("/files/7.md", content=f"text {number}".encode(), headers=_PLAIN)
                assert receipt.json()["changed"]
                answers = [
                    await client.get("/files/7.md", headers={"If-None-Match": tag}),
                    await client.get("/changes", headers={"If-None-Match": f'"{cursor}"'}),
                    await client.get("/files", headers={"If-None-Match": f'"{cursor}"'}),
                ]
                assert [answer.status_code for answer in answers] == [200, 200, 200]
                status = await client.post("/files/status", json={"since": cursor})
                assert [change["path"] for change in status.json()["changes"]] == ["7.md"]

    asyncio.run(work())


def test_a_write_with_a_base_that_is_the_present_version_reads_no_more_than_one_without(tmp_path: Path) -> None:
    async def work() -> None:
        async with _gateway(tmp_path) as (client, recorder, _):
            counts = []
            for query, text in (("", b"one"), ("?base_version=2", b"two")):
                with recorder.recording() as statements:
                    answer = await client.put(f"/files/1.md{query}", content=text, headers=_PLAIN)
                assert answer.json()["changed"] is True
                counts.append(len(statements))
            assert counts[0] == counts[1]

    asyncio.run(work())


def test_no_query_scans_a_table(tmp_path: Path) -> None:
    """Every statement that the gateway runs, explained: what is not searched by an index is named here."""

    async def work() -> set[str]:
        async with _gateway(tmp_path) as (client, recorder, _):
            with recorder.recording() as statements:
                await _everything(client)
            return set(statements)

    statements = asyncio.run(work())
    with sqlite3.connect(tmp_path / "cost.db") as connection:
        for statement in statements:
            if not statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE")):
                continue
            plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + statement)]
            assert not [step for step in plan if "SCAN" in step and "CONSTANT" not in step], (statement, plan)
            assert not [step for step in plan if "TEMP B-TREE" in step], (statement, plan)
    connection.close()
    assert len(statements) > 15


async def _everything(client: httpx.AsyncClient) -> None:
    """One of every request that reads or writes files."""
    cursor = (await client.get("/files", params={"prefix": "1", "limit": 3, "after": "1.md"})).json()["cursor"]
    await client.put("/files/new.md", content=b"new", headers=_PLAIN)
    whole = await client.get("/files/new.md")
    await client.patch("/files/other.md", content=whole.content, headers={"Content-Type": "application/octet-stream"})
    await client.put("/files/new.md", content=b"newer", headers=_PLAIN)
    for parameters in ({}, {"from_version": 1}, {"at_version": 1}, {"state_vector": "AA"}, {"format": "text"}):
        (await client.get("/files/new.md", params=parameters)).raise_for_status()
    (await client.delete("/files/2.md")).raise_for_status()
    (
        await client.get("/files", params={"deleted": "true", "prefix": "2", "limit": 3, "after": "1.md"})
    ).raise_for_status()
    (await client.get("/files/2.md", params={"at_version": 1})).raise_for_status()
    await client.put("/files/2.md", content=b"again", headers=_PLAIN)
    (await client.post("/files/move", json={"from": "3.md", "to": "moved.md"})).raise_for_status()
    for question in ({"since": cursor}, {"versions": {"2.md": 1, "none.md": 4}}, {"paths": ["5.md"]}, {}):
        (await client.post("/files/status", json=question)).raise_for_status()
    for parameters in ({"since": cursor}, {"since": cursor, "path": "new.md", "limit": 1}, {}):
        (await client.get("/changes", params=parameters)).raise_for_status()
    for parameters in ({}, {"group": 60}, {"diff": "1..2"}, {"before": 2, "limit": 1}):
        (await client.get("/history/new.md", params=parameters)).raise_for_status()
    (await client.post("/history/new.md/restore", json={"version": 1})).raise_for_status()
    (await client.post("/sync", json={"since": cursor, "versions": {"new.md": 1}})).raise_for_status()


def test_a_read_never_sees_half_a_batch_nor_waits_for_it(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "held.db")
        await storage.append("p", (AppendUpdate("a", Version(0), b"1"),))
        write = HeldWrite(storage)
        await write.arm()
        changes = tuple(AppendUpdate(path, Version(0), b"x") for path in ("b", "c"))
        writing = storage.append("p", (AppendUpdate("a", Version(1), b"2"), *changes))
        await write.held()
        for _ in range(3):  # the rows are written, and not committed
            head = await storage.project_head("p")
            answer = await storage.files_changed_since("p", 0)
            assert head is not None
            assert answer is not None
            assert (head.sequence, answer[0].sequence, [file.path for file in answer[1]]) == (1, 1, ["a"])
            assert await storage.file_head("p", "b") is None
        assert not writing.done()
        write.release()
        await writing
        head = await storage.project_head("p")
        assert head is not None
        assert head.sequence == 4
        await storage.close()

    asyncio.run(work())


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR])
def test_a_batch_that_the_disk_refuses_leaves_nothing_and_the_next_one_is_right(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with _gateway(tmp_path) as (client, _, _):
            failing = True
            write = Database.write_and_call

            def fail(
                database: Database,
                function: Callable[[sqlite3.Connection], Any],
                done: Callable[[Any], None],
            ) -> None:
                def broken(connection: sqlite3.Connection) -> Any:
                    if failing:
                        connection.execute("UPDATE project SET sequence = sequence + 7")
                        error = sqlite3.OperationalError("injected")
                        error.sqlite_errorcode = code
                        raise error
                    return function(connection)

                write(database, broken, done)

            monkeypatch.setattr(Database, "write_and_call", fail)
            refused = await asyncio.gather(
                *(client.put(f"/files/{n}.md", content=b"refused", headers=_PLAIN) for n in range(5)),
                client.put("/files/new.md", content=b"refused", headers=_PLAIN),
                client.delete("/files/9.md"),
            )
            status = 507 if code == sqlite3.SQLITE_FULL else 503
            assert {answer.status_code for answer in refused} == {status}
            assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
            assert (await client.get("/files/0.md", params={"format": "text"})).text == "text"
            assert (await client.get("/files/new.md")).status_code == 404
            failing = False
            again = await client.put("/files/0.md", content=b"accepted", headers=_PLAIN)
            assert (again.json()["version"], again.json()["changed"]) == (2, True)
            assert (await client.get("/files/0.md", params={"format": "text"})).text == "accepted"

    asyncio.run(work())


def test_how_many_rows_are_remembered_is_known_without_counting_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To count the rows of all projects at each commit takes the longer the more projects there are."""

    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        log = storage._writer._log

        def counted() -> int:
            return sum(project.size for project in log._projects.values())

        async def put(project: str, *paths: str) -> None:
            await storage.append(project, tuple(AppendUpdate(path, Version(0), b"\0\0") for path in paths))

        for number in range(5):
            await put(f"p{number}", *(f"{file}.md" for file in range(number + 1)))
            await storage.create_session(f"p{number}", CreateSession("s", None))
            assert log.remembered == counted() > 0
        before = log.remembered
        with pytest.raises(VersionConflict):
            await storage.append("p0", (AppendUpdate("0.md", Version(7), b"\0\0"),))
        with pytest.raises(VersionConflict):
            await storage.append("nowhere", (AppendUpdate("a.md", Version(7), b"\0\0"),))
        await storage.append("p0", (AppendUpdate("0.md", Version(1), b"\0\0"),))
        assert log.remembered == counted() == before
        await storage.erase_project("p1")
        assert log.remembered == counted() == 0
        await storage.append("p4", (AppendUpdate("4.md", Version(1), b"\0\0"),))
        assert log.remembered == counted() == 1
        await put("p4", "new.md")
        assert log.remembered == counted() == 2
        monkeypatch.setattr("storage.sqlite.log._REMEMBERED_ROWS", 1)
        await put("p4", "newer.md")
        assert log.remembered == counted() == 1
        await storage.close()

    asyncio.run(work())
