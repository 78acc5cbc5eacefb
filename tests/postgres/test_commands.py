"""The gateway and its commands on PostgreSQL."""

import subprocess
import sys
from pathlib import Path

from tests.gateway.test_transfer import fill, picture, put, run
from tests.support.postgres import PostgresServer
from tests.support.server import GatewayProcess, url_of


def test_a_project_moves_from_sqlite_to_postgresql_and_back(database: str, tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "old.db") as old, old.client() as client:
        fill(client)
        before = picture(client)
        run(old.database, "export", "demo", str(tmp_path / "demo.yjsp"))
    assert "project demo: 3 files" in run(database, "import", str(tmp_path / "demo.yjsp"))
    assert "already" in run(database, "import", str(tmp_path / "demo.yjsp"), code=2)
    assert " 0 faults" in run(database, "verify")
    with GatewayProcess(database) as new, new.client() as client:
        assert picture(client) == before
        assert client.get("/files/gone.md").status_code == 410
        assert put(client, "notes/ä 1.md", "more")["version"] == 6
        assert put(client, "gone.md", "again")["version"] == 3
        assert put(client, "new.md", "new")["version"] == 1
        after = picture(client)
        run(database, "export", "demo", str(tmp_path / "again.yjsp"))  # while it is served
        assert " 0 faults" in run(database, "verify")
    run(tmp_path / "back.db", "import", str(tmp_path / "again.yjsp"))
    with GatewayProcess(tmp_path / "back.db") as back, back.client() as client:
        assert picture(client) == after


def test_what_was_acknowledged_outlives_a_kill(database: str) -> None:
    with GatewayProcess(database) as gateway:
        with gateway.client() as client:
            fill(client)
            before = picture(client)
        gateway.kill()
        gateway.start()
        with gateway.client() as client:
            assert picture(client) == before


def test_compact_squashes_and_backup_names_the_tools_of_the_database(database: str, tmp_path: Path) -> None:
    with GatewayProcess(database) as gateway, gateway.client() as client:
        for number in range(20):
            put(client, "a.md", f"{number}")
        assert "2 versions" not in run(database, "compact")
        assert "pg_dump" in run(database, "backup", str(tmp_path / "x.db"), code=2)
        assert "15 versions of 1 files squashed" in run(database, "compact", "--retain-versions", "5")
        assert client.get("/files/a.md", params={"format": "text"}).text == "19"
        assert " 0 faults" in run(database, "verify")


def test_a_database_that_cannot_be_had_is_named_without_its_password(tmp_path: Path, postgres: PostgresServer) -> None:
    nowhere = "postgresql://postgres:sesame@127.0.0.1:1/postgres"
    said = run(nowhere, "verify", code=2)
    assert "postgres:***@127.0.0.1:1" in said
    assert "sesame" not in said
    other = postgres.url.rpartition("/")[0] + "/no_such_database"
    assert "does not exist" in run(other, "verify", code=2)
    assert "it is empty" in run(postgres.schema_url(), "verify", code=2)


def test_a_whole_database_is_copied_into_another_one(database: str, tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "old.db") as old:
        pictures = {}
        for name in ("demo", "other"):
            with old.client(name) as client:
                fill(client)
                pictures[name] = picture(client)
    run(tmp_path / "old.db", "token", "create", "--name", "reader", "--admin")
    command = [sys.executable, "-m", "gateway", "copy", "--from", url_of(tmp_path / "old.db"), "--to", database]
    for said in ("project demo: 3 files", "project demo: is there already"):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert said in done.stdout
        assert " 0 faults" in done.stdout
    with GatewayProcess(database) as new:
        for name, before in pictures.items():
            with new.client(name) as client:
                assert picture(client) == before
    assert "reader" in run(database, "token", "ls")


def test_clients_of_a_database_that_was_set_back_start_over(database: str) -> None:
    with GatewayProcess(database) as gateway, gateway.client() as client:
        receipt = put(client, "a.md", "one")
        tag = client.get("/files/a.md").headers["ETag"]
        question = {"since": receipt["cursor"]}
        assert client.post("/files/status", json=question).json()["changes"] == []
        assert "1 projects begin" in run(database, "begin-new-incarnations")
        while not (answer := client.post("/files/status", json=question).json()).get("reset"):
            pass  # within a second
        assert [change["path"] for change in answer["changes"]] == ["a.md"]
        assert client.get("/files/a.md", headers={"If-None-Match": tag}).status_code == 200
        assert put(client, "a.md", "two")["version"] == 2
        assert client.get("/files/a.md", params={"format": "text"}).text == "two"
    assert " 0 faults" in run(database, "verify")
