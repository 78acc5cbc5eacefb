"""Tokens of a gateway that runs and of one that does not; the first one; tickets; the audit."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.access.conftest import Subject, bearer, told
from tests.access.keys import SECRET
from tests.live.clients import EventStream, event_stream
from tests.support.postgres import PostgresServer
from tests.support.server import PATIENCE_S, GatewayProcess


def _command(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "gateway", *arguments]
    environment = {**_environment(), **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE_S)


def _environment() -> dict[str, str]:
    import os

    return {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}


@pytest.fixture
def admin(guarded: GatewayProcess, name: str) -> Iterator[Subject]:
    with Subject(guarded, name, bearer("root", admin=True)) as client:
        yield client


def _create(admin: Subject, gateway: GatewayProcess, **given: Any) -> dict[str, Any]:
    answer = admin.post(f"{gateway.url}/api/tokens", json=given)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def _listed(admin: Subject, gateway: GatewayProcess, limit: int = 1000) -> list[dict[str, Any]]:
    """List all tokens, page by page."""
    found: list[dict[str, Any]] = []
    asked: dict[str, str | int] = {"limit": limit}
    while True:
        page = admin.get(f"{gateway.url}/api/tokens", params=asked).raise_for_status().json()
        assert len(page["tokens"]) <= limit
        found += page["tokens"]
        if page["next"] is None:
            return found
        asked["after"] = page["next"]


def test_a_gateway_with_nobody_to_let_in_says_a_token_once(tmp_path: Path) -> None:
    database = tmp_path / "gateway.db"
    with GatewayProcess(database, GATEWAY_AUTH="required") as first:
        (line,) = [line for line in first.log if "ygw_" in line]
        token = line.split()[-1]
        with Subject(first, "demo", token) as admin:
            assert admin.write("a.md", "x").status_code == 201
    with GatewayProcess(database, GATEWAY_AUTH="required") as again:
        assert not [line for line in again.log if "ygw_" in line]
        with Subject(again, "demo", token) as admin:
            assert admin.text("a.md") == "x"
    assert token.encode() not in database.read_bytes()
    assert token.split("_", 2)[2].encode() not in database.read_bytes()


def test_a_gateway_on_loopback_asks_for_nothing(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db") as gateway:
        assert not [line for line in gateway.log if "ygw_" in line]
        assert gateway.get("/metrics").status_code == 200


def test_a_gateway_on_all_addresses_asks_and_one_that_does_not_warns(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "a.db", GATEWAY_HOST="0.0.0.0") as gateway:
        assert [line for line in gateway.log if "ygw_" in line]
        assert httpx.get(f"http://127.0.0.1:{gateway.port}/metrics", timeout=PATIENCE_S).status_code == 401
    with GatewayProcess(tmp_path / "b.db", GATEWAY_HOST="0.0.0.0", GATEWAY_AUTH="none") as gateway:
        assert httpx.get(f"http://127.0.0.1:{gateway.port}/metrics", timeout=PATIENCE_S).status_code == 200
        assert [line for line in gateway.log if "anybody" in line]


def test_a_token_is_made_used_listed_and_revoked(guarded: GatewayProcess, admin: Subject, name: str) -> None:
    made = _create(admin, guarded, name="agent-7", projects={name: {"scope": "write", "paths": ["docs/"]}})
    with Subject(guarded, name, made["token"]) as agent:
        assert agent.write("docs/a.md", "x").status_code == 201
        assert told(agent.write("b.md", "x")) == (404, "file_not_found")
        assert told(agent.get(f"{guarded.url}/api/tokens")) == (403, "forbidden")
        tokens = {each["id"]: each for each in _listed(admin, guarded)}
        entry = tokens[made["id"]]
        assert (entry["subject"], entry["revoked"]) == ("agent-7", None)
        assert entry["last_used"].endswith(":00:00.000Z")
        assert made["token"].split("_", 2)[2] not in json.dumps(tokens)
        assert admin.delete(f"{guarded.url}/api/tokens/{made['id']}").status_code == 204
        assert told(agent.get("/files")) == (401, "unauthenticated")
    assert told(admin.delete(f"{guarded.url}/api/tokens/none")) == (404, "token_not_found")


def test_tokens_are_listed_in_pages(tmp_path: Path) -> None:
    database = tmp_path / "gateway.db"
    with (
        GatewayProcess(database, GATEWAY_AUTH="required", GATEWAY_JWT_KEY=SECRET) as gateway,
        Subject(gateway, "demo", bearer("root", admin=True)) as admin,
    ):
        made = [_create(admin, gateway, name=f"t{each}", projects={"demo": "read"})["id"] for each in range(5)]
        for limit in (1, 2, 5, 1000):
            assert [each["id"] for each in _listed(admin, gateway, limit)] == made
        for limit in ("0", "1001", "x"):
            answer = admin.get(f"{gateway.url}/api/tokens", params={"limit": limit})
            assert told(answer) == (400, "invalid_parameter")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"name": ""},
        {"name": "a"},
        {"name": "a", "admin": True, "expires_in": 0},
        {"name": "a", "admin": True, "expires_in": 1e300},
        {"name": "a\n", "admin": True},
        {"name": "a", "projects": {"demo": {"scope": "write", "path": ["docs/"]}}},
        {"name": "a", "projects": {"demo": "everything"}},
        {"name": "a", "project": {"demo": "read"}},
    ],
    ids=str,
)
def test_a_token_that_is_not_understood_is_not_made(guarded: GatewayProcess, admin: Subject, given: object) -> None:
    assert told(admin.post(f"{guarded.url}/api/tokens", json=given)) == (400, "invalid_body")


def test_a_revoked_token_ends_waits_and_streams_at_once(guarded: GatewayProcess, admin: Subject, name: str) -> None:
    admin.write("a.md", "x")
    made = _create(admin, guarded, name="reader", projects={name: "read"})
    with Subject(guarded, name, made["token"]) as reader, event_stream(reader) as stream:
        stream.until_ready()
        admin.delete(f"{guarded.url}/api/tokens/{made['id']}")
        assert json.loads(stream.next("expired").data) == {"reason": "revoked"}
        assert list(stream) == []


def test_a_ticket_is_good_for_one_connection_to_its_project(guarded: GatewayProcess, admin: Subject, name: str) -> None:
    admin.write("a.md", "x")
    with Subject(guarded, name, None) as browser:
        given = admin.post("/tickets").json()
        assert given["expires_in"] == 30
        address = {"ticket": given["ticket"]}
        other = browser.get(f"{guarded.project('other')}/changes", params=address)
        assert told(other) == (401, "unauthenticated")
        assert told(browser.get("/changes", params=address)) == (401, "unauthenticated")  # it was used up
        address = {"ticket": admin.post("/tickets").json()["ticket"]}
        with browser.stream("GET", "/changes", params=address, headers={"Accept": "text/event-stream"}) as answer:
            assert answer.status_code == 200
            assert [event.name for event in EventStream(answer).until_ready()] == ["change"]
        assert told(browser.get("/changes", params=address)) == (401, "unauthenticated")
        assert told(browser.post("/tickets")) == (401, "unauthenticated")


def test_the_audit_says_who_did_what(guarded: GatewayProcess, admin: Subject, name: str) -> None:
    made = _create(admin, guarded, name="agent-7", projects={name: "write"})
    with Subject(guarded, name, made["token"]) as agent:
        agent.write("a.md", "1")
        agent.write("a.md", "1")  # which changes nothing
        agent.post("/files/move", json={"from": "a.md", "to": "b.md"})
        agent.write("b.md", "2")
        agent.post("/history/b.md/restore", json={"version": 1})
        agent.post("/sync", json={"updates": {"c.md": "AAA="}})
        agent.delete("/files/b.md")
        agent.get(f"{guarded.url}/metrics")
    audit = f"{guarded.url}/api/audit"
    found = admin.get(audit, params={"subject": "agent-7", "project": name}).json()["entries"]
    assert [(each["action"], each["path"], each["version"]) for each in reversed(found)] == [
        ("write", "a.md", 1),
        ("move", "b.md", 1),
        ("write", "b.md", 2),
        ("restore", "b.md", 3),
        ("write", "c.md", 1),
        ("delete", "b.md", 4),
    ]
    assert {each["credential"] for each in found} == {made["id"]}
    refused = admin.get(audit, params={"subject": "agent-7", "limit": 1}).json()
    assert (refused["entries"][0]["action"], refused["next"]) == ("refused", refused["entries"][0]["number"])
    page = admin.get(audit, params={"subject": "agent-7", "limit": 1, "before": refused["next"]}).json()
    assert page["entries"][0]["action"] == "delete"
    assert admin.get(audit, params={"since": "2999-01-01T00:00:00Z"}).json() == {"entries": [], "next": None}
    assert told(admin.get(audit, params={"since": "yesterday"})) == (400, "invalid_parameter")
    created = admin.get(audit, params={"subject": "root", "limit": 1000}).json()["entries"]
    assert f"{made['id']} agent-7" in [each["detail"] for each in created if each["action"] == "token created"]


def test_credentials_stand_in_no_log_no_metric_and_no_audit(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_AUTH="required", GATEWAY_LOG_LEVEL="debug") as gateway:
        (line,) = [line for line in gateway.log if "ygw_" in line]
        token = line.split()[-1]
        with Subject(gateway, "demo", token) as admin, Subject(gateway, "demo", None) as browser:
            admin.write("a.md", "x")
            ticket = admin.post("/tickets").json()["ticket"]
            bad = "ygw_000000000000_" + "secret" * 7 + "x"
            for path in ("/changes", "/files/a.md", "/none/at/all", "/../x"):
                browser.get(path, params={"ticket": ticket})
                browser.get(path, params={"token": bad})
                browser.get(path, headers={"Authorization": f"Bearer {bad}"})
                assert bad not in browser.get(path, headers={"Authorization": f"Bearer {bad}"}).text
            shown = admin.get(f"{gateway.url}/metrics").text + admin.get(f"{gateway.url}/api/audit").text
        gateway.stop()
        assert [line for line in gateway.log if token in line] == [line]
        for secret in (ticket, bad):
            assert secret not in shown + "".join(gateway.log)


def test_commands_on_a_gateway_that_runs(guarded: GatewayProcess, name: str) -> None:
    root = {"GATEWAY_URL": guarded.url, "GATEWAY_TOKEN": bearer("root", admin=True)}
    options = ("--name", "agent-7", "--project", name, "--scope", "write", "--path", "docs/", "--expires", "30d")
    made = _command("token", "create", *options, **root)
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    agent = {"GATEWAY_URL": guarded.url, "GATEWAY_PROJECT": name, "GATEWAY_TOKEN": token}
    file = Path(__file__)
    put = _command("put", str(file), "docs/a.md", **agent)
    assert put.returncode == 0, put.stderr
    assert _command("cat", "docs/a.md", **agent).stdout == file.read_text()
    refused = _command("put", str(file), "a.md", **agent)
    assert (refused.returncode, "file_not_found" in refused.stderr) == (1, True)
    identifier = token.split("_")[1]
    listed = _command("token", "ls", **root).stdout
    (row,) = [line for line in listed.splitlines() if identifier in line]
    assert "agent-7" in row
    assert f"{name}: write docs/" in row
    audit = _command("audit", "--project", name, **root).stdout
    assert [word in audit for word in ("agent-7", identifier, "write", "docs/a.md")] == [True] * 4
    assert _command("token", "revoke", identifier, **root).returncode == 0
    gone = _command("ls", **agent)
    assert (gone.returncode, "unauthenticated" in gone.stderr) == (1, True)
    assert "revoked" in _command("token", "ls", **root).stdout
    assert _command("token", "ls", GATEWAY_URL=guarded.url).returncode == 2


def test_commands_on_the_database_of_a_gateway_that_does_not_run(tmp_path: Path) -> None:
    database = {"GATEWAY_DATABASE": f"sqlite:///{tmp_path / 'gateway.db'}"}
    made = _command("token", "create", "--name", "root", "--admin", "--json", **database)
    assert made.returncode == 0, made.stderr
    token = json.loads(made.stdout)
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_AUTH="required") as gateway:
        assert not [line for line in gateway.log if "ygw_" in line]
        with Subject(gateway, "demo", token["token"]) as admin:
            assert admin.write("a.md", "x").status_code == 201
    audit = json.loads(_command("audit", "--json", **database).stdout)
    assert [(each["action"], each["path"], each["credential"]) for each in audit] == [("write", "a.md", token["id"])]
    assert _command("token", "revoke", token["id"], **database).returncode == 0
    assert _command("token", "revoke", "none", **database).returncode == 1
    assert "revoked" in _command("token", "ls", **database).stdout


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("GATEWAY_JWT_KEY", "too short a secret"),
        ("GATEWAY_JWT_KEY", "/no/such/key.pem"),
        ("GATEWAY_JWT_ALGORITHMS", "none"),
        ("GATEWAY_AUTH", "sometimes"),
    ],
)
def test_settings_that_let_everybody_in_are_refused_and_not_shown(tmp_path: Path, setting: str, value: str) -> None:
    secret = "a secret that nobody may see in the log"
    settings = {"GATEWAY_JWT_KEY": secret, setting: value, "GATEWAY_DATABASE": f"sqlite:///{tmp_path / 'gateway.db'}"}
    refused = _command("serve", "--port", "0", **settings)
    assert refused.returncode == 2
    assert secret not in refused.stdout + refused.stderr


def test_a_token_that_one_gateway_revokes_counts_at_no_other(postgres: PostgresServer) -> None:
    settings = {"GATEWAY_AUTH": "required", "GATEWAY_JWT_KEY": SECRET}
    url = postgres.schema_url()
    with (
        GatewayProcess(url, **settings) as first,
        GatewayProcess(url, **settings) as second,
        Subject(first, "demo", bearer("root", admin=True)) as admin,
    ):
        admin.write("a.md", "x")
        made = _create(admin, first, name="reader", projects={"demo": "read"})
        with Subject(second, "demo", made["token"]) as reader, event_stream(reader) as stream:
            stream.until_ready()
            admin.delete(f"{first.url}/api/tokens/{made['id']}")
            assert json.loads(stream.next("expired").data) == {"reason": "revoked"}
            assert told(reader.get("/files")) == (401, "unauthenticated")
