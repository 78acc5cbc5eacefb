"""Who is in a file, over HTTP and in rooms alike."""

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import httpx
import msgspec
import pytest

from gateway.presence import file_presence
from gateway.presence import presence as presence_module
from gateway.presence.file_presence import FilePresence
from gateway.presence.presence import Presence
from gateway.yjs.messages import AwarenessState
from tests.access.conftest import Subject, bearer
from tests.live.clients import Waiting, event_stream, put
from tests.live.editors import Editor
from tests.support.iterations import Iterations
from tests.support.server import PATIENCE_S, GatewayProcess
from tests.support.turns import until as until_turn

Edit = Callable[..., Editor]
_BOB = {"name": "bob"}


def say(client: httpx.Client, path: str, id: int, state: Any, **more: Any) -> dict[str, Any]:
    """Report a client, for as long as possible unless `ttl` says otherwise: a slow test is no silent client."""
    answer = client.put(f"/presence/{path}/{id}", json={"state": state, "ttl": 60, **more})
    return dict(answer.raise_for_status().json())


def states(answer: dict[str, Any]) -> dict[int, Any]:
    return {client["client_id"]: client["state"] for client in answer["clients"]}


def until(client: httpx.Client, path: str, wanted: dict[int, Any]) -> None:
    """Ask, as a client does that waits, until just these are there."""
    deadline = time.monotonic() + PATIENCE_S
    answer = client.get(f"/presence/{path}")
    while (found := states(answer.json())) != wanted:
        assert time.monotonic() < deadline, found
        tag = answer.headers["ETag"]
        later = client.get(f"/presence/{path}", params={"wait": 60}, headers={"If-None-Match": tag})
        answer = later if later.status_code == 200 else answer


def test_who_says_so_is_in_the_file_until_it_leaves(shared_project: httpx.Client) -> None:
    put(shared_project, "docs/a.md", "x")
    assert states(shared_project.get("/presence/docs/a.md").json()) == {}
    said = say(shared_project, "docs/a.md", 7, _BOB, ttl=45)
    (client,) = said["clients"]
    assert (client["client_id"], client["state"], client["subject"]) == (7, _BOB, None)
    assert 0 < client["expires_in"] <= 45
    assert states(say(shared_project, "docs/a.md", 8, {})) == {7: _BOB, 8: {}}
    assert shared_project.delete("/presence/docs/a.md/7").status_code == 204
    assert shared_project.delete("/presence/docs/a.md/7").status_code == 204
    assert states(shared_project.get("/presence/docs/a.md").json()) == {8: {}}
    assert states(shared_project.get("/presence/docs/b.md").json()) == {}


def test_it_is_not_stored_and_not_in_the_sequence(gateway: GatewayProcess) -> None:
    with gateway.client() as project:
        cursor = put(project, "a.md", "x")["cursor"]
        tag = f'"{say(project, "a.md", 7, _BOB)["version"]}"'
        assert project.get("/changes", params={"since": cursor}).json() == {
            "changes": [],
            "cursor": cursor,
            "more": False,
        }
    gateway.stop()
    gateway.start()
    with gateway.client() as project:
        answer = project.get("/presence/a.md", headers={"If-None-Match": tag})
        assert (answer.status_code, answer.json()["clients"]) == (200, [])


def test_a_tag_holds_until_somebody_says_something_else(shared_project: httpx.Client) -> None:
    put(shared_project, "a.md", "x")
    tag = {"If-None-Match": f'"{say(shared_project, "a.md", 7, _BOB)["version"]}"'}
    assert shared_project.get("/presence/a.md", headers=tag).status_code == 304
    say(shared_project, "a.md", 7, _BOB)  # a renewal
    say(shared_project, "b.md", 7, {"name": "elsewhere"})
    assert shared_project.get("/presence/a.md", headers=tag).status_code == 304
    say(shared_project, "a.md", 7, {"name": "robert"})
    assert shared_project.get("/presence/a.md", headers=tag).status_code == 200


def test_who_waits_hears_of_it_and_is_not_woken_by_writes(gateway: GatewayProcess) -> None:
    with gateway.client() as project:
        put(project, "a.md", "x")
        tag = {"If-None-Match": project.get("/presence/a.md").headers["ETag"]}
        with Waiting(gateway) as waiting:
            asked = waiting.start("GET", "/presence/a.md", params={"wait": 60}, headers=tag)
            put(project, "a.md", "y")
            say(project, "b.md", 1, {})
            say(project, "a.md", 7, _BOB)
            assert states(asked.result(PATIENCE_S).json()) == {7: _BOB}


def test_who_falls_silent_is_withdrawn(shared_project: httpx.Client) -> None:
    put(shared_project, "a.md", "x")
    say(shared_project, "a.md", 7, _BOB, ttl=0.2)
    say(shared_project, "a.md", 8, {}, ttl=60)
    until(shared_project, "a.md", {8: {}})


def test_rooms_and_http_are_one_awareness(shared_project: httpx.Client, edit: Edit) -> None:
    put(shared_project, "a.md", "x")
    say(shared_project, "a.md", 7, _BOB)
    ann = edit().synced()
    ann.until_others("bob")
    ann.say({"name": "ann"})
    answer = shared_project.get("/presence/a.md")
    while len(answer.json()["clients"]) < 2:
        tag = {"If-None-Match": answer.headers["ETag"]}
        later = shared_project.get("/presence/a.md", params={"wait": 60}, headers=tag)
        answer = later if later.status_code == 200 else answer
    assert sorted(client["state"]["name"] for client in answer.json()["clients"]) == ["ann", "bob"]
    say(shared_project, "a.md", 7, {"name": "robert"}, clock=1)  # behind what the gateway has counted: still news
    ann.until_others("robert")
    shared_project.delete("/presence/a.md/7")
    ann.until_others()
    say(shared_project, "a.md", 7, _BOB)
    ann.until_others("bob")
    ann.leave()
    until(shared_project, "a.md", {7: _BOB})


@pytest.mark.parametrize("packed", [False, True])
def test_it_goes_and_comes_with_a_sync(shared_project: httpx.Client, packed: bool) -> None:
    def sync(presence: dict[str, Any]) -> dict[str, Any]:
        question = {"presence": presence}
        if not packed:
            answer = shared_project.post("/sync", json=question)
            return dict(answer.raise_for_status().json()["presence"])
        body, headers = msgspec.msgpack.encode(question), {"Content-Type": "application/msgpack"}
        answer = shared_project.post("/sync", content=body, headers=headers)
        return dict(msgspec.msgpack.decode(answer.raise_for_status().content)["presence"])

    put(shared_project, "a.md", "x")
    say(shared_project, "b.md", 9, {"name": "ann"})
    first = sync({"a.md": {"client_id": 7, "state": _BOB}, "b.md": {}})
    assert {path: states(answer) for path, answer in first.items()} == {"a.md": {7: _BOB}, "b.md": {9: {"name": "ann"}}}
    known = {path: {"version": answer["version"]} for path, answer in first.items()}
    assert sync(known) == {}
    gone = sync({"a.md": {"client_id": 7, **known["a.md"]}, "b.md": known["b.md"]})
    assert {path: states(answer) for path, answer in gone.items()} == {"a.md": {}}
    assert "presence" not in shared_project.post("/sync", json={}).json()


def test_a_stream_tells_it_where_it_is_asked_for(shared_project: httpx.Client) -> None:
    put(shared_project, "docs/a.md", "x")
    say(shared_project, "docs/a.md", 7, _BOB)
    say(shared_project, "other.md", 7, _BOB)
    with event_stream(shared_project, kinds="file,presence", prefix="docs/") as stream:
        change, present = stream.until_ready()
        assert change.name == "change"
        assert (present.name, present.id, present.json["path"]) == ("presence", None, "docs/a.md")
        assert states(present.json) == {7: _BOB}
        say(shared_project, "other.md", 8, {})
        say(shared_project, "docs/b.md", 8, {})
        told = stream.next("presence").json
        assert (told["path"], states(told)) == ("docs/b.md", {8: {}})
        put(shared_project, "docs/a.md", "y")
        assert stream.next("change").json["version"] == 2
        shared_project.delete("/presence/docs/a.md/7")
        told = stream.next("presence").json
        assert (told["path"], told["clients"]) == ("docs/a.md", [])
    with event_stream(shared_project) as stream:
        assert {event.name for event in stream.until_ready()} == {"change"}


@pytest.mark.parametrize("edits", [False, True])
def test_who_writes_without_an_editor_is_shown_at_the_place(
    shared_project: httpx.Client, edit: Edit, edits: bool
) -> None:
    put(shared_project, "a.md", "one three\n")
    assert states(shared_project.get("/presence/a.md").json()) == {}  # nobody was named
    ann = edit().synced()
    agent = {"X-Author": "agent-7"}
    if edits:
        body = {"edits": [{"old": "three", "new": "and three"}]}
        shared_project.post("/edits/a.md", json=body, headers=agent).raise_for_status()
    else:
        plain = {**agent, "Content-Type": "text/plain"}
        shared_project.put("/files/a.md", content="one and three\n", headers=plain).raise_for_status()
    clients = shared_project.get("/presence/a.md").json()["clients"]
    (client,) = [client for client in clients if "user" in client["state"]]
    assert client["state"]["user"]["name"] == "agent-7"
    assert 0 < client["expires_in"] <= 30
    ann.until_text("one and three\n")
    ann.insert("# ", at=0)
    assert ann.cursors() == [["agent-7", "and "]]


@pytest.mark.parametrize(("size", "has_place"), [(1_000, True), (2**18 + 1, False)])
def test_the_place_of_a_very_long_write_is_not_looked_for(
    shared_project: httpx.Client, size: int, has_place: bool
) -> None:
    agent = {"X-Author": "agent-7", "Content-Type": "text/plain"}
    shared_project.put("/files/a.md", content="x" * size, headers=agent).raise_for_status()
    (client,) = shared_project.get("/presence/a.md").json()["clients"]
    assert client["state"]["user"]["name"] == "agent-7"
    assert ("cursor" in client["state"]) == has_place


def test_a_subject_sees_who_is_in_its_files_only_and_speaks_for_itself_only(guarded: GatewayProcess) -> None:
    name = f"project-{uuid.uuid4().hex[:12]}"
    ann = Subject(guarded, name, bearer("ann", projects={name: "write"}))
    bob = Subject(guarded, name, bearer("bob", projects={name: {"scope": "read", "paths": ["docs/"]}}))
    eve = Subject(guarded, name, bearer("eve", projects={"other": "admin"}))
    with ann, bob, eve:
        for path in ("docs/a.md", "secret.md"):
            ann.patch(f"/files/{path}", content=b"\0\0", headers={"Content-Type": "application/octet-stream"})
        say(ann, "docs/a.md", 7, {"name": "ann"})
        say(ann, "secret.md", 7, {"name": "ann"})
        said = say(bob, "docs/a.md", 8, {"name": "ann"})  # whatever it calls itself:
        assert [each["subject"] for each in said["clients"] if each["client_id"] == 8] == ["bob"]
        taken = bob.put("/presence/docs/a.md/7", json={"state": {}})
        assert (taken.status_code, taken.json()["code"]) == (400, "invalid_parameter")
        assert bob.delete("/presence/docs/a.md/7").status_code == 400
        for path in ("secret.md", "nothing.md"):
            for answer in (
                bob.get(f"/presence/{path}"),
                bob.put(f"/presence/{path}/8", json={"state": {}}),
                bob.delete(f"/presence/{path}/7"),
            ):
                assert (answer.status_code, answer.json()["code"]) == (404, "file_not_found")
        question = {"presence": {"secret.md": {"client_id": 8, "state": {}}, "docs/a.md": {"client_id": 7}}}
        answer = bob.post("/sync", json=question).json()["presence"]
        assert sorted(answer) == ["docs/a.md"]
        assert sorted(states(answer["docs/a.md"])) == [7, 8]
        assert sorted(states(ann.get("/presence/secret.md").json())) == [7]
        assert eve.get("/presence/docs/a.md").json()["code"] == "project_not_found"
        with event_stream(bob, kinds="presence") as stream:
            assert [event.json["path"] for event in stream.until_ready()] == ["docs/a.md"]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("a.md/x", {"state": {}}, 400, "invalid_parameter"),
        (f"a.md/{2**53}", {"state": {}}, 400, "invalid_parameter"),
        ("a.md/7", {}, 400, "invalid_body"),
        ("a.md/7", {"state": None}, 400, "invalid_body"),
        ("a.md/7", {"state": []}, 400, "invalid_body"),
        ("a.md/7", {"state": {}, "ttl": 61}, 400, "invalid_body"),
        ("a.md/7", {"state": {}, "ttl": 0}, 400, "invalid_body"),
        ("a.md/7", {"state": {"x": "x" * 70_000}}, 413, "body_too_large"),
        ("a//b/7", {"state": {}}, 400, "invalid_path"),
    ],
)
def test_what_cannot_be_said_is_refused(
    shared_project: httpx.Client, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    put(shared_project, "a.md", "x")
    answer = shared_project.put(f"/presence/{path}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert shared_project.get("/presence/a.md").json()["clients"] == []


def test_a_project_comes_into_being_by_a_write_alone(shared_project: httpx.Client) -> None:
    for answer in (
        shared_project.get("/presence/a.md"),
        shared_project.put("/presence/a.md/7", json={"state": {}}),
        shared_project.delete("/presence/a.md/7"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "project_not_found")


def test_a_file_holds_so_many_clients_and_not_more(shared_project: httpx.Client) -> None:
    put(shared_project, "a.md", "x")
    presence = {"a.md": {"state": {}}}
    for id in range(1000):
        presence["a.md"]["client_id"] = id  # type: ignore[assignment]
        shared_project.post("/sync", json={"presence": presence, "paths": []}).raise_for_status()
    answer = shared_project.put("/presence/a.md/1000", json={"state": {}})
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert len(say(shared_project, "a.md", 999, _BOB)["clients"]) == 1000


def test_the_states_in_a_file_are_bounded_in_total_and_told_file_by_file(
    shared_project: httpx.Client,
) -> None:
    large = {"name": "x" * 60_000}
    for path in ("a.md", "b.md"):
        put(shared_project, path, "x")
        for id in range(17):  # of 1 MiB
            say(shared_project, path, id, large)
    answer = shared_project.put("/presence/a.md/17", json={"state": large})
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert len(say(shared_project, "a.md", 16, large)["clients"]) == 17
    shared_project.delete("/presence/a.md/16").raise_for_status()
    assert len(say(shared_project, "a.md", 17, large)["clients"]) == 17
    with event_stream(shared_project, kinds="presence") as stream:
        told = [stream.next("presence").json for _ in range(2)]
    assert {(event["path"], len(event["clients"])) for event in told} == {("a.md", 17), ("b.md", 17)}


def test_states_are_read_once_for_many_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    monkeypatch.setattr(file_presence, "_as_json", lambda state: read.append(state) or msgspec.Raw(b"{}"))
    file = FilePresence(_Clock(), "demo", "a.md")
    for id in range(3):
        file.say(id, f'{{"a":{id}}}', None, 45, None)
        assert len(asyncio.run(file.answer()).clients) == id + 1
    file.say(1, '{"a":7}', None, 45, None)
    asyncio.run(file.answer())
    assert read == ['{"a":0}', '{"a":1}', '{"a":2}', '{"a":7}']


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ('{"a": 1,\n "b":\t[]}', '{"a":1,"b":[]}'),
        ('{"a":"\u2028\\u00e9 "}', '{"a":"\u2028\\u00e9 "}'),
        ('{"a":1e308}', '{"a":1e308}'),
        ("1" * 308, "1" * 308),
        ('{"a":1e309}', None),
        ("1" * 400 + ".5", None),
        ('{"a":NaN}', None),
        ('"\\ud800"', None),
        ('"\ud800"', None),
        ('"a\nb"', None),
        ("[1,]", None),
        ("[" * 5_000 + "]" * 5_000, None),
        ("", None),
    ],
)
def test_a_state_is_shown_as_it_is_on_one_line_unless_it_is_not_json(state: str, shown: str | None) -> None:
    file = FilePresence(_Clock(), "demo", "a.md")
    file.receive((AwarenessState(7, 1, state),), 7)
    clients = asyncio.run(file.answer()).clients
    assert [bytes(client.state).decode() for client in clients] == ([] if shown is None else [shown])
    packed = msgspec.msgpack.decode(msgspec.msgpack.encode(asyncio.run(file.answer(of_json=False)).clients))
    expected = [] if shown is None else [float(shown) if shown.isdigit() else json.loads(shown)]
    assert [each["state"] for each in packed] == expected


def test_the_values_of_a_large_state_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(msgspec.json, "decode", None)
    file = FilePresence(_Clock(), "demo", "a.md")
    file.receive((AwarenessState(7, 1, '{"a":[' + "[1e5]," * 30_000 + "1]}"),), 7)
    (client,) = asyncio.run(file.answer()).clients
    assert len(client.state) == 180_009


class _Clock:
    """Keeps one file, in a time that stands until the test moves it on."""

    time = 100.0

    def now(self) -> float:
        return self.time

    def note(self, file: FilePresence, size: int, *, visible: bool) -> None: ...

    def relay(self, file: FilePresence, states: tuple[AwarenessState, ...]) -> None: ...

    def version(self, file: FilePresence) -> str:
        return "1"


class _Nowhere:
    """Storage of one gateway."""

    shared = False

    def hear(self, listener: object) -> None: ...


def test_the_clients_of_very_many_files_expire_in_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        iterations, looked_at = Iterations(), list[int]()
        monkeypatch.setattr(presence_module, "_CHECK_S", 0)
        monkeypatch.setattr(FilePresence, "expire", lambda file: looked_at.append(iterations.count))
        presence = Presence(cast(Any, _Nowhere()), cast(Any, None))
        for number in range(1_000):
            presence.join("demo", f"{number}.md", print)
        expiring = asyncio.create_task(presence.expire())
        await until_turn(lambda: len(looked_at) >= 1_000)
        expiring.cancel()
        iterations.stop()
        assert max(Counter(looked_at[:1_000]).values()) <= 2 * 128  # two slices may come between two counts of a turn

    asyncio.run(work())


def test_a_client_is_shown_for_as_long_as_it_said() -> None:
    clock = _Clock()
    file = FilePresence(clock, "demo", "a.md")
    file.say(7, "{}", None, 45, None)
    file.say(8, "{}", None, 30, None)
    assert [client.expires_in for client in asyncio.run(file.answer()).clients] == [45, 30]
    clock.time += 29.5
    assert [client.expires_in for client in asyncio.run(file.answer()).clients] == [15.5, 0.5]
    file.say(8, "{}", None, 30, None)  # a renewal
    clock.time += 15.5
    assert [(client.client_id, client.expires_in) for client in asyncio.run(file.answer()).clients] == [(8, 14.5)]
