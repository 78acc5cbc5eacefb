"""The gateway and its commands on PostgreSQL."""

from pathlib import Path

from tests.gateway.test_transfer import fill, picture, put, run
from tests.support.postgres import PostgresServer
from tests.support.server import GatewayProcess


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
