"""Every version names the credential that it was written with."""

from pathlib import Path
from typing import Any

import httpx

from tests.access.conftest import Subject, bearer
from tests.access.keys import SECRET
from tests.gateway.test_transfer import run
from tests.live.editors import Typewriter, raw_client
from tests.support.server import GatewayProcess


def _history(client: httpx.Client, path: str, **parameters: Any) -> list[tuple[int, str | None, str | None]]:
    answer = client.get(f"/history/{path}", params=parameters).raise_for_status().json()
    return [(each["version"], each["author"], each.get("credential")) for each in answer["versions"]]


def _token(root: Subject, gateway: GatewayProcess, name: str, project: str) -> tuple[str, str]:
    wanted = {"name": name, "projects": {project: "write"}}
    made = root.post(f"{gateway.url}/api/tokens", json=wanted).raise_for_status().json()
    return made["id"], made["token"]


def test_each_way_to_write_notes_the_credential(guarded: GatewayProcess, name: str) -> None:
    with Subject(guarded, name, bearer("root", admin=True)) as root:
        identifier, token = _token(root, guarded, "agent", name)
        with Subject(guarded, name, token) as agent:
            agent.write("a.md", "one").raise_for_status()
            root.write("a.md", "two", **{"X-Author": "bob"}).raise_for_status()
            agent.post("/edits/a.md", json={"edits": [{"old": "two", "new": "three"}]}).raise_for_status()
            agent.post("/history/a.md/restore", json={"version": 1}).raise_for_status()
            agent.post("/sync", json={"updates": {"a.md": "AAA="}}).raise_for_status()
            mutation = f'mutation {{ putText(project: "{name}", path: "a.md", text: "four") {{ version }} }}'
            agent.post(f"{guarded.url}/api/graphql", json={"query": mutation}).raise_for_status()
            found = _history(agent, "a.md")
            assert found == [
                *((version, "agent", identifier) for version in (5, 4, 3)),
                (2, "bob", "jwt"),
                (1, "agent", identifier),
            ]
            query = (
                f'{{ project(id: "{name}") {{ file(path: "a.md") {{ history {{ versions {{ credential }} }} }} }} }}'
            )
            told = agent.post(f"{guarded.url}/api/graphql", json={"query": query}).json()["data"]["project"]["file"]
            assert [each["credential"] for each in told["history"]["versions"]] == [each[2] for each in found]
            agent.post("/files/move", json={"from": "a.md", "to": "b.md"}).raise_for_status()
            assert _history(agent, "b.md") == [(1, "agent", identifier)]
            update = Typewriter().type("more")
            agent.patch("/files/b.md", content=update).raise_for_status()
            assert _history(agent, "b.md")[0] == (2, "agent", identifier)
            agent.delete("/files/b.md").raise_for_status()
            assert _history(agent, "b.md")[0] == (3, "agent", identifier)


def test_neighbours_of_one_author_name_all_credentials(guarded: GatewayProcess, name: str) -> None:
    with Subject(guarded, name, bearer("root", admin=True)) as root:
        (first, one), (second, two) = (_token(root, guarded, "agent", name) for _ in range(2))
        for token, text in ((one, "1"), (two, "2"), (one, "3")):
            with Subject(guarded, name, token) as agent:
                agent.write("a.md", text).raise_for_status()
        assert _history(root, "a.md", group=60) == [(3, "agent", f"{first}, {second}")]


def test_typing_in_a_room_names_the_credential(guarded: GatewayProcess, name: str) -> None:
    with Subject(guarded, name, bearer("root", admin=True)) as root:
        identifier, token = _token(root, guarded, "typist", name)
        cursor = root.write("other.md", "x").json()["cursor"]
        with raw_client(guarded, name, "a.md", query=f"?token={token}") as client:
            client.receive_sync("step_1")
            client.send_update(Typewriter().type("x"))
            root.get("/changes", params={"since": cursor, "wait": 60}).raise_for_status()
        assert _history(root, "a.md") == [(1, "typist", identifier)]


def test_credentials_move_with_their_project(tmp_path: Path) -> None:
    settings = {"GATEWAY_AUTH": "required", "GATEWAY_JWT_KEY": SECRET}
    with (
        GatewayProcess(tmp_path / "old.db", **settings) as old,
        Subject(old, "demo", bearer("root", admin=True)) as root,
    ):
        identifier, token = _token(root, old, "agent", "demo")
        with Subject(old, "demo", token) as agent:
            agent.write("a.md", "x").raise_for_status()
    run(tmp_path / "old.db", "export", "demo", str(tmp_path / "demo.yjsp"))
    run(tmp_path / "new.db", "import", str(tmp_path / "demo.yjsp"))
    with GatewayProcess(tmp_path / "new.db") as new, new.client() as client:
        client.put("/files/a.md", content="y", headers={"Content-Type": "text/plain"}).raise_for_status()
        assert _history(client, "a.md") == [(2, None, None), (1, "agent", identifier)]
    assert "0 faults" in run(tmp_path / "new.db", "verify")
