"""Subscriptions: something is sent only when a selected field has moved, and a client that comes back loses nothing."""

import base64
import itertools
import json
import random
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import httpx
import pytest
from pycrdt import Doc, Text
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.access.conftest import Subject, bearer
from tests.graphql.asking import PATH, Asker, ExpiredBefore
from tests.live.clients import event_stream
from tests.support.server import GatewayProcess

_BLOCKS = 500


def _put(project: httpx.Client, path: str, text: str) -> int:
    answer = project.put(f"/files/{path}", content=text)
    assert answer.is_success, answer.text
    return int(answer.json()["version"])


def _turn(project: httpx.Client) -> tuple[str, str]:
    session = project.post("/sessions", json={}).json()["id"]
    return session, project.post(f"/sessions/{session}/turns", json={"prompt": "Do it"}).json()["id"]


def _add(project: httpx.Client, session: str, turn: str, *contents: Any) -> None:
    blocks = [{"type": "text", "content": content} for content in contents]
    answer = project.post(f"/sessions/{session}/turns/{turn}/blocks", json={"blocks": blocks})
    assert answer.is_success, answer.text


def _finish(project: httpx.Client, session: str, turn: str) -> None:
    assert project.patch(f"/sessions/{session}/turns/{turn}", json={"status": "completed"}).is_success


def test_the_status_of_a_turn_is_two_messages_after_the_present_one(
    asker: Asker, project: httpx.Client, name: str
) -> None:
    session, turn = _turn(project)
    query = "subscription ($p: String!, $s: String!, $t: String!) { turn(project: $p, session: $s, id: $t) { status } }"
    with asker.follow(query, p=name, s=session, t=turn) as results:
        assert next(results) == {"data": {"turn": {"status": "pending"}}}
        for number in range(_BLOCKS):
            _add(project, session, turn, number)
        _finish(project, session, turn)
        assert [result["data"]["turn"]["status"] for result in results] == ["running", "completed"]


def test_the_blocks_of_a_turn_come_once_each_and_from_where_a_client_was(
    asker: Asker, project: httpx.Client, name: str
) -> None:
    session, turn = _turn(project)
    query = """subscription ($p: String!, $s: String!, $t: String!, $after: Int!) {
        turn(project: $p, session: $s, id: $t, afterBlock: $after) { blockCount blocks { index content } } }"""
    _add(project, session, turn, "a", "b")
    with asker.follow(query, p=name, s=session, t=turn, after=1) as results:
        assert next(results)["data"]["turn"] == {"blockCount": 2, "blocks": [{"index": 1, "content": "b"}]}
        for content in "cde":
            _add(project, session, turn, content)
        _finish(project, session, turn)
        told = [block for result in results for block in result["data"]["turn"]["blocks"]]
    assert told == [{"index": 2 + n, "content": content} for n, content in enumerate("cde")]


def test_a_text_is_sent_only_when_it_has_moved(asker: Asker, project: httpx.Client, name: str) -> None:
    query = 'subscription ($p: String!) { file(project: $p, path: "a.md") { text } }'
    _put(project, "a.md", "one")
    with asker.follow(query, p=name) as results:
        assert next(results)["data"]["file"] == {"text": "one"}
        for number in range(3):  # of another root
            assert project.put("/files/a.md", content=str(number), params={"root": "notes"}).is_success
        _put(project, "a.md", "two")
        assert next(results)["data"]["file"] == {"text": "two"}


def test_increments_make_the_document(asker: Asker, project: httpx.Client, name: str) -> None:
    query = """subscription ($p: String!, $from: Int) {
        file(project: $p, path: "a.md", fromVersion: $from) { version update deleted } }"""
    project.post("/sessions", json={})
    doc = Doc({"content": Text()})
    with asker.follow(query, p=name) as results:  # there is no file yet
        for number in range(1, 4):
            assert _put(project, "a.md", "line\n" * number) == number
            file = next(results)["data"]["file"]
            assert file["version"] == number
            doc.apply_update(base64.b64decode(file["update"]))
            assert str(doc["content"]) == "line\n" * number
    _put(project, "a.md", "the end")
    with asker.follow(query, p=name, **{"from": 3}) as results:
        file = next(results)["data"]["file"]
        whole = project.get("/files/a.md").content
        assert len(base64.b64decode(file["update"])) < len(whole)
        doc.apply_update(base64.b64decode(file["update"]))
        assert (file["version"], str(doc["content"])) == (4, "the end")
        assert project.delete("/files/a.md").is_success
        assert next(results)["data"]["file"] == {"version": 5, "update": None, "deleted": True}


_CHANGES = """subscription ($p: String!, $since: String) { changes(project: $p, since: $since) { cursor reset changes {
    __typename ... on FileChange { path version changeType } ... on TurnChange { turnId status blockCount } } } }"""


def test_a_client_that_is_cut_and_comes_back_is_told_what_the_feed_has(
    asker: Asker, project: httpx.Client, name: str
) -> None:
    """Whoever is cut at any moment, and goes on from its last cursor, knows in the end what the feed tells."""
    randomness = random.Random(7)
    _put(project, "0.md", "begin")
    enough = threading.Event()

    def write() -> None:
        with httpx.Client(base_url=project.base_url, verify=False) as writer:
            for number in itertools.count():
                path = f"{number % 11}.md"
                if number % 13 == 12:
                    writer.delete(f"/files/{path}")
                else:
                    _put(writer, path, str(number))
                if enough.is_set():
                    return

    known: dict[str, tuple[int, bool]] = {}
    since: str | None = None

    def take(batch: dict[str, Any]) -> str:
        for change in batch["changes"]:
            known[change["path"]] = (change["version"], change["changeType"] == "deleted")
        return str(batch["cursor"])

    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(25):
        with asker.follow(_CHANGES, p=name, since=since) as results:
            for _ in range(randomness.randint(1, 4)):
                since = take(next(results)["data"]["changes"])
    enough.set()
    thread.join()
    feed = project.get("/changes").json()
    with asker.follow(_CHANGES, p=name, since=since) as results:
        while since != feed["cursor"]:
            since = take(next(results)["data"]["changes"])
    assert {path: version for path, (version, deleted) in known.items() if not deleted} == {
        change["path"]: change["version"] for change in feed["changes"]
    }


def test_changes_select_kinds_paths_and_what_is_asked_of_them(asker: Asker, project: httpx.Client, name: str) -> None:
    session, turn = _turn(project)
    _put(project, "docs/a.md", "one")
    since = project.post("/files/status", json={}).json()["cursor"]
    files = """subscription ($p: String!, $since: String) { changes(project: $p, since: $since, prefix: "docs/") {
        cursor changes { __typename ... on FileChange { path text } } } }"""
    statuses = """subscription ($p: String!, $since: String) { changes(project: $p, since: $since) {
        changes { ... on TurnChange { status } } } }"""
    with asker.follow(files, p=name, since=since) as told, asker.follow(statuses, p=name, since=since) as turns:
        assert next(told)["data"]["changes"]["changes"] == []  # the cursor to go on from
        assert next(turns)["data"]["changes"]["changes"] == []
        _put(project, "b.md", "elsewhere")
        for number in range(5):
            _add(project, session, turn, number)
        _put(project, "docs/a.md", "two")
        change = {"__typename": "FileChange", "path": "docs/a.md", "text": "two"}
        assert next(told)["data"]["changes"]["changes"] == [change]
        _finish(project, session, turn)
        assert next(turns)["data"]["changes"]["changes"] == [{"status": "running"}]
        assert next(turns)["data"]["changes"]["changes"] == [{"status": "completed"}]


def test_updates_in_the_feed_build_on_those_before(asker: Asker, project: httpx.Client, name: str) -> None:
    query = """subscription ($p: String!) { changes(project: $p) { changes { ... on FileChange { path update } } } }"""
    _put(project, "a.md", "x" * 5000)
    doc = Doc({"content": Text()})
    with asker.follow(query, p=name) as results:
        sizes = []
        for number in range(3):
            (change,) = next(results)["data"]["changes"]["changes"]
            update = base64.b64decode(change["update"])
            doc.apply_update(update)
            sizes.append(len(update))
            assert str(doc["content"]) == "x" * 5000 + "!" * number
            _put(project, "a.md", "x" * 5000 + "!" * (number + 1))
    assert sizes[0] > 5000
    assert max(sizes[1:]) < 200


def test_what_cannot_be_followed_is_refused(asker: Asker, project: httpx.Client, name: str) -> None:
    _put(project, "a.md", "one")
    for query, code in [
        ('subscription ($p: String!) { changes(project: $p, since: "odd") { cursor } }', "invalid_cursor"),
        ('subscription ($p: String!) { changes(project: $p, kinds: ["odd"]) { cursor } }', "invalid_parameter"),
        ('subscription ($p: String!) { file(project: $p, path: "../a") { version } }', "invalid_path"),
        ('subscription ($p: String!) { turn(project: $p, session: "s", id: "t") { status } }', "session_not_found"),
        ('subscription ($p: String!) { file(project: "none", path: "a.md", fromVersion: 1) { version } }', None),
    ]:
        with asker.follow(query, p=name) as results:
            (result,) = results
            assert code is None or result["errors"][0]["extensions"]["code"] == code, query
            assert "data" not in result or result["data"] is None


# The protocol graphql-transport-ws


@contextmanager
def _open(gateway: GatewayProcess, query: str = "", **payload: str) -> Iterator[ClientConnection]:
    url = f"{gateway.url.replace('http', 'ws')}{PATH}{query}"
    with connect(url, subprotocols=["graphql-transport-ws"], open_timeout=120) as socket:  # type: ignore[list-item]
        socket.send(json.dumps({"type": "connection_init", "payload": payload}))
        yield socket


def _messages(socket: ClientConnection) -> Iterator[dict[str, Any]]:
    while True:
        yield json.loads(socket.recv(timeout=120))


def _closed(socket: ClientConnection) -> int:
    """The code with which the gateway closes it."""
    with pytest.raises(ConnectionClosed) as closed:
        for _ in _messages(socket):
            pass
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def _subscribe(socket: ClientConnection, identifier: str, query: str, **variables: Any) -> None:
    payload = {"query": query, "variables": variables}
    with suppress(ConnectionClosed):  # the gateway says why
        socket.send(json.dumps({"type": "subscribe", "id": identifier, "payload": payload}))


def test_many_operations_on_one_socket(shared_gateway: GatewayProcess, project: httpx.Client, name: str) -> None:
    _put(project, "a.md", "one")
    query = "subscription ($p: String!, $path: String!) { file(project: $p, path: $path) { version } }"
    with _open(shared_gateway) as socket:
        messages = _messages(socket)
        assert next(messages) == {"type": "connection_ack"}
        socket.send('{"type":"ping","payload":{"a":1}}')
        assert next(messages) == {"type": "pong", "payload": {"a": 1}}
        _subscribe(socket, "1", query, p=name, path="a.md")
        assert next(messages) == {"id": "1", "type": "next", "payload": {"data": {"file": {"version": 1}}}}
        _subscribe(socket, "2", "query ($p: String!) { project(id: $p) { id } }", p=name)
        assert next(messages)["payload"] == {"data": {"project": {"id": name}}}
        assert next(messages) == {"id": "2", "type": "complete"}
        _subscribe(socket, "3", "{ nonsense }")
        assert next(messages)["type"] == "error"
        named = {"query": "query A { __typename } query B { __typename }", "operationName": "C"}
        socket.send(json.dumps({"type": "subscribe", "id": "4", "payload": named}))
        (error,) = next(messages)["payload"]
        assert error["extensions"]["code"] == "invalid_body"
        socket.send('{"type":"complete","id":"1"}')
        _subscribe(socket, "1", query, p=name, path="b.md")
        socket.send('{"type":"ping"}')  # what came before it has been read when it is answered
        assert next(messages)["type"] == "pong"
        _put(project, "a.md", "two")
        _put(project, "b.md", "one")
        assert next(messages) == {"id": "1", "type": "next", "payload": {"data": {"file": {"version": 1}}}}


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (['{"type":"connection_init"}', '{"type":"connection_init"}'], 4429),
        (['{"type":"subscribe","id":"1","payload":{"query":"{__typename}"}}'], 4401),
        (["nonsense"], 4400),
        (['{"type":"odd"}'], 4400),
        (['{"type":"connection_init"}', '{"type":"subscribe","id":"1","payload":{}}'], 4400),
        (['{"type":"connection_init"}', '{"type":"subscribe","payload":{"query":"{__typename}"}}'], 4400),
        ([b"\x00\x01"], 4400),
    ],
)
def test_what_breaks_the_protocol_closes_the_socket(
    shared_gateway: GatewayProcess, frames: list[str | bytes], code: int
) -> None:
    url = f"{shared_gateway.url.replace('http', 'ws')}{PATH}"
    with connect(url, subprotocols=["graphql-transport-ws"], open_timeout=120) as socket:  # type: ignore[list-item]
        for frame in frames:
            socket.send(frame)
        assert _closed(socket) == code


def test_an_identifier_is_used_once_at_a_time(shared_gateway: GatewayProcess, project: httpx.Client, name: str) -> None:
    _put(project, "a.md", "one")
    query = 'subscription ($p: String!) { file(project: $p, path: "a.md") { version } }'
    with _open(shared_gateway) as socket:
        _subscribe(socket, "1", query, p=name)
        _subscribe(socket, "1", query, p=name)
        assert _closed(socket) == 4409


def test_a_socket_has_so_many_operations_at_once(
    shared_gateway: GatewayProcess, project: httpx.Client, name: str
) -> None:
    _put(project, "a.md", "one")
    query = 'subscription ($p: String!) { file(project: $p, path: "a.md") { version } }'
    with _open(shared_gateway) as socket:
        for number in range(100):
            _subscribe(socket, str(number), query, p=name)
        messages = _messages(socket)
        told = [next(messages) for _ in range(101)]
        assert {message.get("id") for message in told} == {None, *map(str, range(100))}
        _put(project, "a.md", "two")
        assert {next(messages)["payload"]["data"]["file"]["version"] for _ in range(100)} == {2}
        _subscribe(socket, "more", query, p=name)
        assert _closed(socket) == 4400


def test_another_protocol_is_not_accepted(shared_gateway: GatewayProcess) -> None:
    with connect(f"{shared_gateway.url.replace('http', 'ws')}{PATH}", open_timeout=120) as socket:
        assert _closed(socket) == 4406


# Credentials


def test_subscriptions_see_what_is_granted(guarded: GatewayProcess, name: str) -> None:
    owner = Subject(guarded, name, bearer("owner", projects={name: "admin"}))
    reader = bearer("ann", projects={name: {"scope": "read", "paths": ["docs/"]}})
    query = "subscription ($p: String!, $path: String!) { file(project: $p, path: $path) { text } }"
    with closing(owner), Asker(guarded.url, reader) as asker, Asker(guarded.url, bearer("root", admin=True)) as root:
        owner.write("secret.md", "hidden")
        # Both ask the same, and wait at the same place.
        with asker.follow(_CHANGES, p=name) as results, root.follow(_CHANGES, p=name) as all_results:
            assert next(results)["data"]["changes"]["changes"] == []
            assert next(all_results)["data"]["changes"]["changes"][0]["path"] == "secret.md"
            owner.write("secret.md", "still hidden")
            assert next(all_results)["data"]["changes"]["changes"][0]["path"] == "secret.md"
            owner.write("docs/a.md", "open")
            for told in (results, all_results):
                (change,) = next(told)["data"]["changes"]["changes"]
                assert change["path"] == "docs/a.md"
        for path in ("secret.md", "never.md"):
            with asker.follow(query, p=name, path=path) as results:
                (refused,) = results
                assert refused["errors"][0]["extensions"]["code"] == "file_not_found"
        with asker.follow(query, p="other", path="docs/a.md") as results:
            (refused,) = results
            assert refused["errors"][0]["extensions"]["code"] == "project_not_found"


def test_a_token_comes_within_the_socket_and_its_expiry_closes_it(guarded: GatewayProcess, name: str) -> None:
    owner = Subject(guarded, name, bearer("owner", projects={name: "admin"}))
    query = "subscription ($p: String!) { changes(project: $p) { cursor } }"
    with closing(owner):
        owner.write("a.md", "one")
        with _open(guarded, Authorization=f"Bearer {bearer('ann', 2, projects={name: 'read'})}") as socket:
            _subscribe(socket, "1", query, p=name)
            assert _closed(socket) == 4401
        with _open(guarded, f"?token={bearer('ann', projects={name: 'read'})}") as socket:
            messages = _messages(socket)
            assert next(messages) == {"type": "connection_ack"}
            _subscribe(socket, "1", query, p=name)
            assert "cursor" in next(messages)["payload"]["data"]["changes"]
        for odd in ({}, {"token": "nonsense"}):
            with _open(guarded, **odd) as socket:
                assert _closed(socket) == 4401


def test_expiry_and_revocation_end_an_event_stream(guarded: GatewayProcess, name: str) -> None:
    admin = bearer("root", admin=True)
    query = "subscription ($p: String!) { changes(project: $p) { cursor } }"
    with (
        Subject(guarded, name, admin) as owner,
        httpx.Client(base_url=guarded.url, headers={"Authorization": f"Bearer {admin}"}, verify=False) as api,
    ):
        owner.write("a.md", "one")
        for seconds in (2, 10, 60):  # a token that has expired before it was sent was too short
            with Asker(guarded.url, bearer("ann", seconds, projects={name: "read"})) as asker, suppress(ExpiredBefore):
                with asker.follow(query, p=name) as results:
                    told = list(results)
                break
        assert told[-1]["errors"][0]["extensions"]["code"] == "unauthenticated"
        given = {"name": "agent", "projects": {name: "read"}}
        made = api.post("/api/tokens", json=given)
        assert made.is_success, made.text
        with Asker(guarded.url, made.json()["token"]) as asker, asker.follow(query, p=name) as results:
            assert "data" in next(results)
            assert api.delete(f"/api/tokens/{made.json()['id']}").is_success
            (last,) = results
            assert last["errors"][0]["extensions"]["code"] == "unauthenticated"


def test_a_gateway_that_stops_ends_subscriptions_without_completing_them(gateway: GatewayProcess, name: str) -> None:
    query = "subscription ($p: String!) { changes(project: $p) { cursor } }"
    with gateway.client(name) as project, Asker(gateway.url) as asker:
        _put(project, "a.md", "one")
        question = {"query": query, "variables": {"p": name}}
        headers = {"Accept": "text/event-stream"}
        with asker.stream("POST", PATH, json=question, headers=headers) as answer, _open(gateway) as socket:
            lines = answer.iter_lines()
            assert "event: next" in lines
            _subscribe(socket, "1", query, p=name)
            messages = _messages(socket)
            assert [next(messages)["type"] for _ in range(2)] == ["connection_ack", "next"]
            stopping = threading.Thread(target=gateway.stop)
            stopping.start()
            assert "event: complete" not in list(lines)
            assert _closed(socket) == 1012
            stopping.join()


def test_a_stream_of_the_http_api_tells_the_same_cursors(asker: Asker, project: httpx.Client, name: str) -> None:
    _put(project, "a.md", "one")
    with event_stream(project) as events, asker.follow(_CHANGES, p=name) as results:
        events.until_ready()
        cursors = [next(results)["data"]["changes"]["cursor"]]
        for number in range(3):
            _put(project, "a.md", str(number))
            assert next(results)["data"]["changes"]["cursor"] == events.next("change").id
    assert cursors
