"""The list of projects, and erasing one while clients are connected to it."""

import uuid
from typing import Any

import httpx
import pytest

from gateway.rooms.close_codes import FILE_DELETED
from tests.access.conftest import Subject, bearer, guarded, name, told
from tests.live.clients import PLAIN, Waiting, event_stream, put
from tests.live.test_rooms import Edit
from tests.support.server import PATIENCE_S, GatewayProcess

__all__ = ["guarded", "name"]


def _list(gateway: GatewayProcess, token: str | None = None, **parameters: Any) -> dict[str, Any]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = gateway.get("/api/projects", params=parameters, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def _erase(client: httpx.Client) -> httpx.Response:
    return client.delete(str(client.base_url).rstrip("/"))


def test_projects_are_listed_by_page(gateway: GatewayProcess) -> None:
    assert _list(gateway) == {"projects": [], "next": None}
    receipts = {}
    for project in ("b", "a", "c"):
        with gateway.client(project) as client:
            put(client, "gone.md", "gone")
            client.delete("/files/gone.md").raise_for_status()
            receipts[project] = put(client, "a.md", "text")
            (file,) = client.get("/files").json()["files"]
    first = _list(gateway, limit=2)
    assert [each["id"] for each in first["projects"]] == ["a", "b"]
    assert first["next"] == "b"
    last = _list(gateway, limit=2, after="b")
    assert last == {
        "projects": [
            {
                "id": "c",
                "cursor": receipts["c"]["cursor"],
                "last_modified": receipts["c"]["last_modified"],
                "files": 1,
                "size": file["size"],
            }
        ],
        "next": None,
    }
    assert _list(gateway, limit=3)["next"] is None


@pytest.mark.parametrize("limit", ["0", "1001", "x", ""])
def test_a_limit_that_is_none_is_refused(shared_gateway: GatewayProcess, limit: str) -> None:
    answer = shared_gateway.get("/api/projects", params={"limit": limit})
    assert told(answer) == (400, "invalid_parameter")


def test_an_erased_project_is_gone_and_begins_anew(gateway: GatewayProcess, open_editor: Edit) -> None:
    with gateway.client("kept") as kept, gateway.client("demo") as demo:
        put(kept, "a.md", "kept")
        old = put(demo, "a.md", "secret")
        tag = demo.get("/files/a.md").headers["ETag"]
        editor = open_editor(gateway, "demo", "a.md")
        editor.synced()
        waiting = Waiting(gateway)
        asked = [
            waiting.start("GET", "/files/a.md", params={"wait": 60}, headers={"If-None-Match": tag}),
            waiting.start("GET", "/changes", params={"wait": 60, "since": old["cursor"]}),
            waiting.start("POST", "/files/status", json={"since": old["cursor"], "wait": 60}),
        ]
        with event_stream(demo) as stream:
            stream.until_ready()
            assert _erase(demo).status_code == 204
            assert editor.until_ended() == FILE_DELETED
            for each in asked:
                assert told(each.result(timeout=PATIENCE_S)) == (404, "project_not_found")
            for _ in stream:  # until it ends
                pass
        for path in ("/files/a.md", "/files", "/changes", "/history/a.md", "/sessions"):
            assert told(demo.get(path)) == (404, "project_not_found")
        assert told(_erase(demo)) == (404, "project_not_found")
        assert [each["id"] for each in _list(gateway)["projects"]] == ["kept"]
        stale = {"Content-Type": "text/plain", "If-Match": tag}
        assert demo.put("/files/a.md", content="x", headers=stale).status_code == 412
        assert demo.put("/files/a.md", content="x", params={"base_version": 1}, headers=PLAIN).status_code in (404, 412)
        assert told(demo.get("/files")) == (404, "project_not_found")
        new = put(demo, "a.md", "new")
        assert new["version"] == 1
        assert new["cursor"].split(".")[0] != old["cursor"].split(".")[0]
        assert demo.get("/files/a.md", headers={"If-None-Match": tag, "Accept": "text/plain"}).text == "new"
        assert demo.get("/changes", params={"since": old["cursor"]}).json()["reset"] is True
        assert kept.get("/files/a.md", headers={"Accept": "text/plain"}).text == "kept"


def test_a_running_turn_of_an_erased_project_ends_nowhere(gateway: GatewayProcess) -> None:
    with gateway.client("demo") as demo:
        session = demo.post("/sessions", json={}).raise_for_status().json()["id"]
        turn = demo.post(f"/sessions/{session}/turns", json={"prompt": "do"}).raise_for_status().json()["id"]
        url = f"/sessions/{session}/turns/{turn}"
        demo.patch(url, json={"status": "running"}).raise_for_status()
        with demo.stream("GET", f"{url}/events", headers={"Accept": "text/event-stream"}) as events:
            assert events.status_code == 200
            assert _erase(demo).status_code == 204
            for _ in events.iter_lines():  # until it ends
                pass
        assert told(demo.get(url)) == (404, "project_not_found")
        block = {"blocks": [{"type": "text", "content": "x"}]}
        assert demo.post(f"{url}/blocks", json=block).status_code == 404
        assert told(demo.get("/sessions")) == (404, "project_not_found")


def test_a_credential_sees_and_erases_what_it_is_granted(guarded: GatewayProcess, name: str) -> None:
    names = [f"{name}-{each}" for each in ("a", "b", "c")]
    with Subject(guarded, name, bearer("root", admin=True)) as admin:
        for each in names:
            answer = admin.put(guarded.project(each) + "/files/a.md", content="x", headers=PLAIN)
            assert answer.status_code == 201

        def seen(**grant: Any) -> list[tuple[str, int | None]]:
            found = _list(guarded, bearer(**grant), limit=2)
            projects = found["projects"]
            while found["next"] is not None:
                found = _list(guarded, bearer(**grant), limit=2, after=found["next"])
                projects += found["projects"]
            return [(each["id"], each["files"]) for each in projects if each["id"].startswith(name)]

        assert seen(admin=True) == [(each, 1) for each in names]
        assert seen(projects={f"{name}-*": "read"}) == [(each, 1) for each in names]
        assert seen(projects={names[2]: "read", names[0]: "write", "never": "read"}) == [(names[0], 1), (names[2], 1)]
        hidden = {f"{name}-*": "read", names[1]: "turns"}
        assert seen(projects=hidden) == [(names[0], 1), (names[2], 1)]
        assert seen(projects={names[0]: {"scope": "read", "paths": ["docs/"]}}) == [(names[0], None)]
        assert seen(projects={}) == []
        assert told(guarded.get("/api/projects")) == (401, "unauthenticated")
        for scope, expected in (("write", (403, "forbidden")), ("read turns", (403, "forbidden"))):
            with Subject(guarded, names[0], bearer(projects={names[0]: scope})) as subject:
                assert told(_erase(subject)) == expected
        with Subject(guarded, names[0], bearer("eve", projects={names[1]: "admin"})) as other:
            assert told(_erase(other)) == (404, "project_not_found")
        with Subject(guarded, names[0], bearer("ann", projects={names[0]: "admin"})) as owner:
            assert _erase(owner).status_code == 204
        (entry, *_) = admin.get(f"{guarded.url}/api/audit", params={"project": names[0]}).json()["entries"]
        assert (entry["action"], entry["subject"], entry["project"]) == ("project erased", "ann", names[0])


def test_a_name_that_is_none_is_refused(shared_gateway: GatewayProcess) -> None:
    with shared_gateway.client(uuid.uuid4().hex) as client:
        answer = client.delete(f"{shared_gateway.url}/api/projects/a%20b")
        assert told(answer) == (400, "invalid_project")
        answer = client.delete(shared_gateway.project(uuid.uuid4().hex), params={"force": "1"})
        assert told(answer) == (400, "invalid_parameter")
