"""What requests may do with a credential, and what of a project exists for them."""

import concurrent.futures
import json
from typing import Any

import httpx
import pytest

from tests.access.conftest import Subject, bearer, told
from tests.live.clients import EventStream, event_stream
from tests.support.server import PATIENCE_S, GatewayProcess


def _subject(gateway: GatewayProcess, name: str, scope: str, *paths: str, subject: str = "ann") -> Subject:
    grant: Any = {"scope": scope, "paths": list(paths)} if paths else scope
    return Subject(gateway, name, bearer(subject, projects={name: grant}))


def _admin(gateway: GatewayProcess, name: str) -> Subject:
    return Subject(gateway, name, bearer("root", admin=True))


_OPEN = ["/healthz", "/readyz", "/openapi.json", "/"]


def test_without_a_credential_nothing_is_told_but_that_one_is_needed(guarded: GatewayProcess, name: str) -> None:
    with Subject(guarded, name, None) as nobody, _admin(guarded, name) as admin:
        admin.write("a.md", "secret")
        for path in ("/files", "/files/a.md", "/files/none", "/changes", "/sessions", "/history/a.md"):
            answer = nobody.get(path)
            assert told(answer) == (401, "unauthenticated")
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert told(nobody.post("/files/status", json={})) == (401, "unauthenticated")
        assert told(nobody.write("b.md", "x")) == (401, "unauthenticated")
        assert told(nobody.get(f"{guarded.url}/metrics")) == (401, "unauthenticated")
        assert [nobody.get(guarded.url + path).status_code for path in _OPEN] == [200] * 4


@pytest.mark.parametrize("header", ["Bearer", "Bearer x", "Basic YTpi", "Bearer ygw_x", "Bearer a.b.c", ""])
def test_a_credential_that_does_not_count_is_refused(guarded: GatewayProcess, name: str, header: str) -> None:
    with guarded.client(name, headers={"Authorization": header}) as client:
        assert told(client.get("/files")) == (401, "unauthenticated")


def test_two_credentials_are_none(guarded: GatewayProcess, name: str) -> None:
    token = f"Bearer {bearer(admin=True)}"
    headers = [("Authorization", token), ("Authorization", token)]
    assert told(guarded.get(f"/api/projects/{name}/files", headers=headers)) == (401, "unauthenticated")


def test_the_scheme_may_be_written_in_any_case(guarded: GatewayProcess, name: str) -> None:
    with _admin(guarded, name) as admin:
        admin.write("a.md", "x")
        token = admin.headers["Authorization"].removeprefix("Bearer ")
        assert admin.get("/files", headers={"Authorization": f"bEARER {token}"}).status_code == 200


def test_a_project_that_is_not_granted_is_as_one_that_never_was(guarded: GatewayProcess, name: str) -> None:
    with _admin(guarded, name) as admin, Subject(guarded, name, bearer(projects={"other": "admin"})) as ann:
        admin.write("a.md", "secret")
        tag = admin.get("/files/a.md").headers["ETag"]

        def answers(project: str) -> list[tuple[int, Any]]:
            base = guarded.project(project)
            found = [
                ann.get(f"{base}/files"),
                ann.get(f"{base}/files/a.md"),
                ann.get(f"{base}/files/a.md", headers={"If-None-Match": tag}),
                ann.get(f"{base}/changes", headers={"Accept": "text/event-stream"}),
                ann.post(f"{base}/files/status", json={"since": "x"}),
                ann.put(f"{base}/files/b.md", content="x", headers={"Content-Type": "text/plain"}),
                ann.post(f"{base}/sessions", json={}),
                ann.get(f"{base}/history/a.md"),
                ann.post(f"{base}/sync", json={}),
            ]
            return [(each.status_code, each.text.replace(project, "NAME")) for each in found]

        there = answers(name)
        assert there == answers(f"{name}-none")
        assert {status for status, _ in there} == {404}


def test_a_scope_that_is_missing_is_named(guarded: GatewayProcess, name: str) -> None:
    with (
        _admin(guarded, name) as admin,
        _subject(guarded, name, "read") as reader,
        _subject(guarded, name, "turns") as agent,
    ):
        admin.write("a.md", "text")
        assert reader.text("a.md") == "text"
        for answer in (
            reader.write("a.md", "x"),
            reader.delete("/files/a.md"),
            reader.post("/files/move", json={"from": "a.md", "to": "b.md"}),
            reader.post("/history/a.md/restore", json={"version": 1}),
            reader.post("/sync", json={"updates": {"a.md": "AAA="}}),
        ):
            assert told(answer) == (403, "forbidden")
            assert "`write`" in answer.json()["detail"]
        refused = reader.post("/sessions", json={})
        assert (told(refused), "`turns`" in refused.json()["detail"]) == ((403, "forbidden"), True)
        assert told(agent.get("/files/a.md")) == (403, "forbidden")
        assert told(reader.get(f"{guarded.url}/metrics")) == (403, "forbidden")
        assert admin.get(f"{guarded.url}/metrics").status_code == 200
        session = agent.post("/sessions", json={}).json()["id"]
        turn = agent.post(f"/sessions/{session}/turns", json={"prompt": "p"}).json()["id"]
        block = {"blocks": [{"type": "text", "content": {"text": "t"}}]}
        assert agent.post(f"/sessions/{session}/turns/{turn}/blocks", json=block).status_code == 200
        assert reader.get(f"/sessions/{session}/turns/{turn}").json()["block_count"] == 1
        assert told(reader.patch(f"/sessions/{session}/turns/{turn}", json={"status": "failed"})) == (403, "forbidden")


def test_paths_that_are_not_granted_never_were(guarded: GatewayProcess, name: str) -> None:
    with _admin(guarded, name) as admin, _subject(guarded, name, "write", "docs/", "README.md") as ann:
        for path in ("docs/a.md", "docs/gone.md", "README.md", "README.md.bak", "secret/a.md", "secret/gone.md"):
            admin.write(path, "old")
        admin.delete("/files/docs/gone.md")
        admin.delete("/files/secret/gone.md")
        assert ann.listed() == ["README.md", "docs/a.md"]
        assert ann.listed(prefix="docs/a") == ["docs/a.md"]
        assert ann.listed(prefix="d") == ["docs/a.md"]
        assert ann.listed(prefix="secret/") == []
        assert ann.listed(after="README.md", limit="1") == ["docs/a.md"]
        page = ann.get("/files", params={"limit": 1}).json()
        assert ([entry["path"] for entry in page["files"]], page["next"]) == (["README.md"], "README.md")
        deleted = ann.get("/files", params={"deleted": "true"}).json()["files"]
        assert [entry["path"] for entry in deleted] == ["docs/gone.md"]
        assert {change["path"] for change in ann.changed()["changes"]} == {"README.md", "docs/a.md"}
        never = ann.changed(paths=["secret/never.md"], versions={"secret/never.md": 1})
        there = ann.changed(paths=["secret/a.md"], versions={"secret/a.md": 1})
        assert json.dumps(there).replace("/a.md", "/never.md") == json.dumps(never)
        feed = ann.get("/changes").json()["changes"]
        assert [entry["path"] for entry in feed] == ["docs/a.md", "README.md"]

        def answers(path: str) -> list[tuple[int, str]]:
            found = [
                ann.get(f"/files/{path}"),
                ann.get(f"/files/{path}", params={"at_version": 1}),
                ann.write(path, "x"),
                ann.patch(f"/files/{path}", content=b"\0\0", headers={"Content-Type": "application/octet-stream"}),
                ann.delete(f"/files/{path}"),
                ann.post("/files/move", json={"from": path, "to": "docs/b.md"}),
                ann.post("/files/move", json={"from": "docs/a.md", "to": path}),
                ann.get(f"/history/{path}"),
                ann.post(f"/history/{path}/restore", json={"version": 1}),
                ann.get("/changes", params={"path": path}),
            ]
            return [(each.status_code, each.text.replace(path, "PATH")) for each in found]

        for path in ("secret/a.md", "secret/gone.md", "README.md.bak"):
            assert answers(path) == answers("secret/never.md")
        assert admin.listed() == ["README.md", "README.md.bak", "docs/a.md", "secret/a.md"]
        assert told(ann.get("/sessions")) == (403, "forbidden")


def test_what_is_asked_again_is_answered_for_who_asks(guarded: GatewayProcess, name: str) -> None:
    """Remembered answers and 304s of one are not those of another."""
    with (
        _admin(guarded, name) as admin,
        _subject(guarded, name, "read", "docs/") as ann,
        _subject(guarded, name, "read", "src/", subject="bob") as bob,
        Subject(guarded, name, None) as nobody,
    ):
        admin.write("docs/a.md", "a")
        start = admin.changed()["cursor"]
        admin.write("src/b.md", "b")
        for _ in range(3):  # read, remembered, remembered
            assert [change["path"] for change in admin.changed()["changes"]] == ["docs/a.md", "src/b.md"]
            assert [change["path"] for change in ann.changed()["changes"]] == ["docs/a.md"]
            assert [change["path"] for change in bob.changed()["changes"]] == ["src/b.md"]
            assert ann.changed(start)["changes"] == []
            assert [change["path"] for change in bob.changed(start)["changes"]] == ["src/b.md"]
        tag = {"If-None-Match": admin.get("/files/docs/a.md").headers["ETag"]}
        for _ in range(2):
            answers = [each.get("/files/docs/a.md", headers=tag) for each in (admin, ann, bob, nobody)]
            assert [answer.status_code for answer in answers] == [304, 304, 404, 401]


def test_who_waits_is_woken_by_what_exists_for_it_alone(guarded: GatewayProcess, name: str) -> None:
    with (
        _admin(guarded, name) as admin,
        _subject(guarded, name, "read", "docs/") as ann,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        admin.write("docs/a.md", "a")
        cursor = admin.changed()["cursor"]
        waits = [
            pool.submit(ann.post, "/files/status", json={"since": cursor, "wait": 60}),
            pool.submit(ann.get, "/changes", params={"since": cursor, "wait": 60}),
            pool.submit(ann.get, "/changes", params={"since": cursor, "wait": 60, "path": ["docs/a.md", "src/b.md"]}),
        ]
        with event_stream(ann, since=cursor) as stream:
            stream.until_ready()
            admin.write("src/b.md", "secret")
            session = admin.post("/sessions", json={}).json()["id"]
            admin.post(f"/sessions/{session}/turns", json={"prompt": "secret"})
            admin.write("docs/a.md", "b")
            assert json.loads(stream.next("change").data)["path"] == "docs/a.md"
        for wait in waits:
            changes = wait.result().json()["changes"]
            assert [change["path"] for change in changes] == ["docs/a.md"]


def test_who_writes_is_the_subject(guarded: GatewayProcess, name: str) -> None:
    with _admin(guarded, name) as admin, _subject(guarded, name, "write") as ann:
        ann.write("a.md", "1")
        ann.write("a.md", "2", **{"X-Author": "bob"})
        admin.write("a.md", "3", **{"X-Author": "bob"})
        admin.write("a.md", "4")
        versions = ann.get("/history/a.md").json()["versions"]
        assert [entry["author"] for entry in reversed(versions)] == ["ann", "ann", "bob", "root"]


def test_a_key_of_one_subject_is_not_that_of_another(guarded: GatewayProcess, name: str) -> None:
    with _subject(guarded, name, "turns") as ann, _subject(guarded, name, "turns", subject="bob") as bob:
        key = {"Idempotency-Key": "the-same"}
        sessions = [each.post("/sessions", json={}, headers=key).json()["id"] for each in (ann, ann, bob)]
        assert sessions[0] == sessions[1] != sessions[2]


def test_sync_reaches_what_the_grant_reaches(guarded: GatewayProcess, name: str) -> None:
    with _admin(guarded, name) as admin, _subject(guarded, name, "write", "docs/") as ann:
        admin.write("docs/a.md", "a")
        admin.write("src/b.md", "secret")
        update = "AAA="
        asked = {"updates": {"docs/a.md": update, "src/b.md": update, "src/never.md": update}}
        answer = ann.post("/sync", json=asked).json()
        assert [change["path"] for change in answer["changes"]] == ["docs/a.md"]
        codes = {path: result.get("code") for path, result in answer["results"].items()}
        assert codes == {"docs/a.md": None, "src/b.md": "file_not_found", "src/never.md": "file_not_found"}
        refused = ann.post("/sync", json={**asked, "atomic": True})
        assert told(refused) == (409, "sync_refused")


def test_a_credential_that_expires_ends_waits_and_streams(guarded: GatewayProcess, name: str) -> None:
    with _admin(guarded, name) as admin:
        admin.write("a.md", "a")
        cursor = admin.changed()["cursor"]
    seconds, opened = 1.0, False
    while not opened:  # before the credential ends
        seconds *= 2
        token = bearer(seconds=seconds, projects={name: "read"})
        with Subject(guarded, name, token) as ann:
            events = {"Accept": "text/event-stream"}
            with ann.stream("GET", "/changes", params={"since": cursor}, headers=events) as answer:
                opened = answer.status_code == 200
                if opened:
                    stream = EventStream(answer)
                    assert json.loads(stream.next("expired").data) == {"reason": "expired"}
                    assert list(stream) == []
    token = bearer(seconds=2, projects={name: "read"})
    with Subject(guarded, name, token) as ann, concurrent.futures.ThreadPoolExecutor() as pool:
        wait = pool.submit(ann.post, "/files/status", json={"since": cursor, "wait": 60})
        assert told(wait.result()) == (401, "unauthenticated")
        assert "expired" in wait.result().json()["detail"]
        assert told(ann.get("/files")) == (401, "unauthenticated")


def test_the_description_says_which_scope_each_operation_needs(guarded: GatewayProcess) -> None:
    description = guarded.get("/openapi.json").json()
    assert description["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    needed = {
        operation["operationId"]: [scope for each in operation["security"] for scope in each["bearer"]]
        for operations in description["paths"].values()
        for operation in operations.values()
    }
    assert {name for name, scopes in needed.items() if not scopes} == {"health", "readiness", "openapi", "pushKey"}
    assert (needed["readFile"], needed["putText"], needed["createTurn"]) == (["read"], ["write"], ["turns"])
    assert (needed["readTurn"], needed["metrics"]) == (["turns", "read"], ["admin"])
    for operations in description["paths"].values():
        for operation in operations.values():
            assert not operation["security"] or {"401", "403"} <= set(operation["responses"])


def test_every_operation_refuses_who_has_no_credential(guarded: GatewayProcess, name: str) -> None:
    description = guarded.get("/openapi.json").json()
    for template, operations in description["paths"].items():
        path = template.replace("{project}", name).replace("{", "").replace("}", "")
        for method, operation in operations.items():
            answer = httpx.request(method, guarded.url + path, timeout=PATIENCE_S)
            assert (answer.status_code == 401) == bool(operation["security"]), (method, path, answer.text)
