"""Two subjects with projects of their own and with overlapping paths of a shared one: no byte of one reaches the other.

Each thing that is made bears a mark that nobody can guess, in its path and in its content. Whatever a subject is sent,
by any operation of `/openapi.json`, a stream or a room, must hold no mark of what does not exist for it, and an answer
about that must be the answer about something that never was, to the byte.
"""

import base64
import contextlib
import json
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import http_ece
import httpx
import pycrdt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateway.yjs.hocuspocus import authenticated, permission_denied
from gateway.yjs.lib0 import var_bytes, var_uint
from gateway.yjs.messages import sync_step_1
from tests.access.conftest import Subject, bearer
from tests.access.keys import SECRET
from tests.live.editors import WEBSOCKET
from tests.live.hocuspocus import raw_hocuspocus
from tests.support.server import PATIENCE_S, GatewayProcess

_PATHS = {"ann": ("docs/", "both/"), "bob": ("src/", "both/")}
_FOLDERS = ("docs/", "src/", "both/", "")
_SUBJECTS = st.sampled_from(("ann", "bob"))


def _other(subject: str) -> str:
    return "bob" if subject == "ann" else "ann"


class _Stream:
    """All bytes of an event stream, as they come."""

    def __init__(self, subject: Subject) -> None:
        self.text = ""
        kinds = {"kinds": "file,turn,presence"}
        self._answer = subject.stream("GET", "/changes", params=kinds, headers={"Accept": "text/event-stream"})
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(httpx.HTTPError), self._answer as answer:
            self._response = answer
            for chunk in answer.iter_text():
                with self._more:
                    self.text += chunk
                    self._more.notify_all()

    def until(self, text: str) -> str:
        with self._more:
            assert self._more.wait_for(lambda: text in self.text, PATIENCE_S)
            return self.text


class _Inbox:
    """Receives webhooks and push messages on a real socket; messages are by their receiver's path, decrypted."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.auth = secrets.token_bytes(16)
        self.messages: dict[str, list[str]] = {}
        self._more = threading.Condition()
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                inbox.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(201)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def keys(self) -> dict[str, str]:
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        values = {"p256dh": point, "auth": self.auth}
        return {name: base64.urlsafe_b64encode(value).decode() for name, value in values.items()}

    def take(self, path: str, body: bytes) -> None:
        if path.startswith("/push/"):
            body = http_ece.decrypt(body, private_key=self.key, auth_secret=self.auth, version="aes128gcm")
        with self._more:
            self.messages.setdefault(path, []).append(body.decode("latin-1"))
            self._more.notify_all()

    def until(self, path: str, text: str) -> None:
        with self._more:
            came = self._more.wait_for(lambda: any(text in each for each in self.messages.get(path, ())), PATIENCE_S)
            assert came, (path, self.messages.get(path))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class TwoSubjects(RuleBasedStateMachine):
    gateway: ClassVar[GatewayProcess]
    description: ClassVar[dict[str, Any]]
    inbox: ClassVar[_Inbox]

    @initialize()
    def begin(self) -> None:
        run = secrets.token_hex(4)
        self.shared, self.own = f"shared-{run}", {"ann": f"ann-{run}", "bob": f"bob-{run}"}
        self.marks: dict[str, set[str]] = {"ann": set(), "bob": set()}
        """Those of what does not exist for a subject."""
        self.paths: list[tuple[str, str]] = []
        self.turns: list[tuple[str, str, str]] = []
        self.clients: dict[tuple[str, str], Subject] = {}
        self.tags: list[tuple[str, str, str]] = []
        for subject, paths in _PATHS.items():
            grant = {self.own[subject]: "write", self.shared: {"scope": "write", "paths": list(paths)}}
            token = bearer(subject, projects=grant)
            for project in (self.shared, *self.own.values()):
                self.clients[subject, project] = Subject(self.gateway, project, token)
        root = bearer("root", admin=True)
        self.roots = {each: Subject(self.gateway, each, root) for each in (self.shared, *self.own.values())}
        for root_client in self.roots.values():
            root_client.write("both/begin.md", "begin").raise_for_status()
        for subject, paths in _PATHS.items():
            self._subscribe(subject, bearer(subject, projects={self.shared: {"scope": "admin", "paths": list(paths)}}))
        self.streams = {each: _Stream(self.clients[each, self.shared]) for each in _PATHS}
        for stream in self.streams.values():
            stream.until("event: ready")

    def _subscribe(self, subject: str, token: str) -> None:
        """A webhook and push messages of the shared project, with a grant of the subject's paths."""
        name, inbox = f"{subject}-{self.shared}", self.inbox
        with Subject(self.gateway, self.shared, token) as owner:
            hook = {"url": f"{inbox.url}/hook/{name}", "include": "text"}
            owner.put(f"/hooks/{subject}", json=hook).raise_for_status()
            push = {"endpoint": f"{inbox.url}/push/{name}", "keys": inbox.keys}
            wanted = {"subscription": push, "filter": {}, "quiet_seconds": 0}
            owner.put(f"/push/{subject}", json=wanted).raise_for_status()

    def teardown(self) -> None:
        if not hasattr(self, "streams"):
            return
        last = f"both/{secrets.token_hex(8)}.md"
        self.roots[self.shared].write(last, "end")
        for subject, stream in self.streams.items():
            self._check(subject, stream.until(last))
            name = f"{subject}-{self.shared}"
            self.inbox.until(f"/hook/{name}", last)
            self.inbox.until(f"/push/{name}", "")  # the others are held back for some seconds
            for path in (f"/hook/{name}", f"/push/{name}"):
                self._check(subject, "".join(self.inbox.messages[path]))
        for client in (*self.clients.values(), *self.roots.values()):
            client.close()

    # What exists for whom

    def _sees(self, subject: str, project: str, path: str) -> bool:
        if project == self.own[subject]:
            return True
        return project == self.shared and path.startswith(_PATHS[subject])

    def _mark(self, project: str, path: str) -> str:
        """A mark of something that is about to be made."""
        mark = secrets.token_hex(8)
        for subject in _PATHS:
            if not self._sees(subject, project, path):
                self.marks[subject].add(mark)
        return mark

    def _check(self, subject: str, text: str, asked: str = "") -> None:
        crossed = [mark for mark in self.marks[subject] if mark in text and mark not in asked]
        assert not crossed, (subject, text[:2000])

    # What is made

    @rule(subject=_SUBJECTS, folder=st.sampled_from(_FOLDERS), own=st.booleans())
    def write(self, subject: str, folder: str, own: bool) -> None:
        project = self.own[subject] if own else self.shared
        folder = folder if own or folder in _PATHS[subject] else _PATHS[subject][0]
        mark = self._mark(project, folder)
        path = f"{folder}{mark}.md"
        answer = self.clients[subject, project].write(path, f"text {mark}")
        assert answer.status_code == 201
        self.paths.append((project, path))
        self.tags.append((project, path, answer.headers["ETag"]))

    @rule(subject=_SUBJECTS, data=st.data())
    def change(self, subject: str, data: st.DataObject) -> None:
        project, path = self._known(data)
        if not self._sees(subject, project, path):
            return
        client, mark = self.clients[subject, project], self._mark(project, path)
        match data.draw(st.sampled_from(("write", "edit", "append", "delete", "move", "restore", "sync"))):
            case "write":
                client.write(path, mark)
            case "edit":
                client.post(f"/edits/{path}", json={"edits": [{"start": 0, "end": 0, "text": mark}]})
            case "append":
                other: pycrdt.Doc[Any] = pycrdt.Doc()
                other.get("other", type=pycrdt.Text).insert(0, mark)
                client.patch(f"/files/{path}", content=other.get_update())
            case "delete":
                client.delete(f"/files/{path}")
            case "move":
                target = f"{path.rpartition('/')[0]}/{mark}.md".lstrip("/")
                if client.post("/files/move", json={"from": path, "to": target}).is_success:
                    self.paths.append((project, target))
            case "restore":
                client.post(f"/history/{path}/restore", json={"version": 1})
            case "sync":
                document: pycrdt.Doc[Any] = pycrdt.Doc()
                document.get("other", type=pycrdt.Text).insert(0, mark)
                client.post("/sync", json={"updates": {path: _base64(document.get_update())}})

    @rule(subject=_SUBJECTS)
    def work(self, subject: str) -> None:
        """A turn, in the subject's own project; in the shared one its grant does not reach so far."""
        project = self.own[subject]
        client, mark = self.clients[subject, project], self._mark(project, "")
        session = client.post("/sessions", json={"title": mark}).json()["id"]
        turn = client.post(f"/sessions/{session}/turns", json={"prompt": mark}).json()["id"]
        block = {"type": "text", "content": {"text": mark}}
        client.post(f"/sessions/{session}/turns/{turn}/blocks", json={"blocks": [block]}).raise_for_status()
        self.turns.append((project, session, turn))
        self.marks[_other(subject)] |= {session, turn}
        assert self.clients[subject, self.shared].post("/sessions", json={}).status_code == 403

    # What is asked

    def _known(self, data: st.DataObject) -> tuple[str, str]:
        return data.draw(st.sampled_from(self.paths)) if self.paths else (self.shared, "both/begin.md")

    @rule(subject=_SUBJECTS, data=st.data())
    def ask(self, subject: str, data: st.DataObject) -> None:
        """Any operation, about anything that there is."""
        operations = [
            (template, method, operation)
            for template, each in self.description["paths"].items()
            for method, operation in each.items()
            if not template.endswith(("/turns/{turn}/output", "/turns/{turn}/events"))  # which does not end by itself
        ]
        template, method, operation = data.draw(st.sampled_from(operations))
        project, path = self._known(data)
        turn_project, session, turn = data.draw(st.sampled_from(self.turns or [(project, "none", "none")]))
        if "{session}" in template:
            project = turn_project
        of_files = ("deleteFile", "putText", "editText", "appendUpdate", "restore", "moveFile", "sync")
        changes = operation["operationId"] in of_files
        if changes and self._sees(subject, project, path):
            return  # `change` does that
        names = _Names({"project": project, "session": session, "turn": turn, "token": "none", "client_id": "7"})
        headers, content = self._body(operation["operationId"], path)
        query = data.draw(st.sampled_from(self._queries(operation["operationId"], path)))
        url = self.gateway.url + template.format_map(names | {"path": path})
        client = self.clients[subject, self.shared]
        answer = client.request(method.upper(), url, params=query, content=content, headers=headers)
        asked = str(answer.request.url) + str(content) + str(headers)
        self._check(subject, _all_of(answer), asked)
        if not self._sees(subject, project, path) and "{path" in template:
            never = f"{path.rpartition('/')[0]}/{secrets.token_hex(8)}.md".lstrip("/")
            headers, content = self._body(operation["operationId"], never)
            query = {name: value.replace(path, never) for name, value in query.items()}
            url = self.gateway.url + template.format_map(names | {"path": never})
            other = client.request(method.upper(), url, params=query, content=content, headers=headers)
            assert (answer.status_code, answer.text.replace(path, never)) == (other.status_code, other.text)

    @staticmethod
    def _body(name: str, path: str) -> tuple[dict[str, str], bytes | None]:
        """What an operation takes, about a path."""
        plain, octets = {"Content-Type": "text/plain"}, {"Content-Type": "application/octet-stream"}
        bodies: dict[str, Any] = {
            "moveFile": {"from": path, "to": "both/moved.md"},
            "fileStatus": {"paths": [path, "both/begin.md"], "versions": {path: 1}},
            "sync": {"paths": [path], "versions": {path: 1}},
            "restore": {"version": 1},
            "createSession": {},
            "createTurn": {"prompt": "p"},
            "appendBlocks": {"blocks": [{"type": "text", "content": ""}]},
            "setTurnStatus": {"status": "failed"},
            "createToken": {"name": "mine", "admin": True},
            "editText": {"edits": [{"start": 0, "end": 0, "text": "x"}]},
            "putPresence": {"state": {"user": {"name": "x"}}},
            "putHook": {"url": "https://example.org/"},
            "replayHook": {"since": "0.0"},
        }
        if name == "putText":
            return plain, b"text"
        if name == "appendUpdate":
            return octets, b"\0\0"
        if name not in bodies:
            return {}, None
        return {"Content-Type": "application/json"}, json.dumps(bodies[name]).encode()

    @staticmethod
    def _queries(name: str, path: str) -> list[dict[str, str]]:
        prefix = path.rpartition("/")[0]
        return {
            "listFiles": [{}, {"prefix": prefix}, {"deleted": "true"}, {"after": path[:-3], "limit": "1"}],
            "changeFeed": [{}, {"path": path}, {"prefix": prefix}, {"limit": "1"}],
            "readFile": [{}, {"format": "text"}, {"at_version": "1"}, {"from_version": "0"}],
            "history": [{}, {"group": "60"}, {"diff": "1..2"}],
        }.get(name, [{}])

    @rule(subject=_SUBJECTS, again=st.booleans())
    def look_around(self, subject: str, again: bool) -> None:
        """All that tells of many files; asked again, from what is remembered."""
        for project in (self.shared, *self.own.values()):
            client = self.clients[subject, project]
            for _ in range(1 + again):
                for answer in (
                    client.get("/files"),
                    client.get("/files", params={"deleted": "true"}),
                    client.post("/files/status", json={}),
                    client.get("/changes"),
                    client.post("/sync", json={}),
                    client.get("/sessions"),
                ):
                    self._check(subject, _all_of(answer))

    @rule(subject=_SUBJECTS, data=st.data())
    def appear(self, subject: str, data: st.DataObject) -> None:
        """Presence in a file, by HTTP; and who else is there."""
        project, path = self._known(data)
        client = self.clients[subject, project]
        if self._sees(subject, project, path):
            state = {"user": {"name": self._mark(project, path)}}
            client.put(f"/presence/{path}/{len(subject) + data.draw(st.integers(1, 3))}", json={"state": state})
        self._check(subject, _all_of(client.get(f"/presence/{path}")), path)
        self._check(subject, _all_of(client.post("/sync", json={"presence": {path: {"client_id": 9}}})), path)

    @rule(subject=_SUBJECTS, data=st.data())
    def mutate(self, subject: str, data: st.DataObject) -> None:
        """A mutation of GraphQL, of a file that may not exist for the subject."""
        project, path = self._known(data)
        mark = self._mark(project, path) if self._sees(subject, project, path) else "nothing"
        arguments = f"project: {json.dumps(project)}, path: {json.dumps(path)}"
        edits = f"[{{start: 0, end: 0, text: {json.dumps(mark)}}}]"
        put, edit = f"putText({arguments}, text: {json.dumps(mark)})", f"edit({arguments}, edits: {edits})"
        field = data.draw(st.sampled_from((put, edit)))
        query = f"mutation {{ {field} {{ version }} }}"
        answer = self.clients[subject, project].post(f"{self.gateway.url}/api/graphql", json={"query": query})
        self._check(subject, _all_of(answer), query)
        if not self._sees(subject, project, path):
            assert answer.json()["errors"]

    @rule(subject=_SUBJECTS, data=st.data())
    def use_a_tool(self, subject: str, data: st.DataObject) -> None:
        """A tool of the Model Context Protocol, about a file that may not exist for the subject."""
        project, path = self._known(data)
        tools: list[tuple[str, dict[str, Any]]] = [
            ("list_files", {}),
            ("what_changed", {}),
            ("read_file", {"path": path}),
            ("history", {"path": path}),
        ]
        name, arguments = data.draw(st.sampled_from(tools))
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
        headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}
        url = f"{self.gateway.url}/mcp?project={project}"
        answer = self.clients[subject, project].post(url, json=call, headers=headers)
        self._check(subject, _all_of(answer), path)
        assert answer.status_code == (404 if project == self.own[_other(subject)] else 200), answer.text

    @rule(subject=_SUBJECTS)
    def query(self, subject: str) -> None:
        """By GraphQL: all files of all projects, and some by name."""
        client = self.clients[subject, self.shared]
        for project in (self.shared, *self.own.values()):
            named = [path for each, path in self.paths[-10:] if each == project]
            fields = ["files { files { path text } cursor }"]
            fields += [
                f"f{n}: file(path: {json.dumps(path)}) {{ version text history {{ versions {{ version author }} }} }}"
                for n, path in enumerate(named)
            ]
            query = f"{{ project(id: {json.dumps(project)}) {{ {' '.join(fields)} }} }}"
            answer = client.post(f"{self.gateway.url}/api/graphql", json={"query": query})
            self._check(subject, _all_of(answer), query)
            found = (answer.json().get("data") or {}).get("project") or {}
            assert project != self.shared or found.get("files"), answer.text
            assert all(found.get(f"f{n}") is None or self._sees(subject, project, p) for n, p in enumerate(named))

    @rule(subject=_SUBJECTS, data=st.data())
    def poll(self, subject: str, data: st.DataObject) -> None:
        """The newest tag of something tells nobody who may not read it whether it is still the newest."""
        if not self.tags:
            return
        project, path, tag = data.draw(st.sampled_from(self.tags))
        if self._sees(subject, project, path):
            return
        answer = self.clients[subject, project].get(f"/files/{path}", headers={"If-None-Match": tag})
        assert answer.status_code == 404

    @rule(subject=_SUBJECTS, data=st.data())
    def enter(self, subject: str, data: st.DataObject) -> None:
        """A room of something that may not exist for the subject."""
        project, path = self._known(data)
        token = self.clients[subject, project].headers["Authorization"].removeprefix("Bearer ")
        url = f"{self.gateway.project(project)}/ws/{path}?token={token}".replace("http", "ws", 1)
        received: list[bytes] = []
        with connect(url, **WEBSOCKET) as socket, contextlib.suppress(ConnectionClosed):
            received.append(bytes(socket.recv(PATIENCE_S)))
            socket.send(sync_step_1(b"\0"))
            received.append(bytes(socket.recv(PATIENCE_S)))
        self._check(subject, b"".join(received).decode("latin-1"), path)
        if not self._sees(subject, project, path):
            assert (received, socket.close_code) == ([], 4403)

    @rule(subject=_SUBJECTS, data=st.data())
    def enter_by_hocuspocus(self, subject: str, data: st.DataObject) -> None:
        project, path = self._known(data)
        token = self.clients[subject, project].headers["Authorization"].removeprefix("Bearer ").encode()
        with raw_hocuspocus(self.gateway, project) as raw:
            raw.send(path, var_uint(2) + var_uint(0) + var_bytes(token))
            first = raw.receive()[1]
            if self._sees(subject, project, path):
                assert first == authenticated(read_only=False)
                raw.send(path, sync_step_1(b"\0"))
                self._check(subject, raw.receive()[1].decode("latin-1"), path)
            else:
                assert first == permission_denied("4403: the credential does not reach that far")

    @invariant()
    def nothing_crosses_by_the_standing_streams(self) -> None:
        for subject, stream in getattr(self, "streams", {}).items():
            self._check(subject, stream.text)


class _Names(dict[str, str]):
    """The names in the template of a path; of what this machine makes none of, one that is not there."""

    def __missing__(self, name: str) -> str:
        return "none"

    def __or__(self, other: Any) -> "_Names":
        return _Names({**self, **other})


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _all_of(answer: httpx.Response) -> str:
    return answer.content.decode("latin-1") + str(answer.headers)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[type[TwoSubjects]]:
    settings = {"GATEWAY_AUTH": "required", "GATEWAY_JWT_KEY": SECRET, "GATEWAY_MCP": "true"}
    hosts = {"GATEWAY_HOOK_HOSTS": "127.0.0.1", "GATEWAY_PUSH_HOSTS": "127.0.0.1"}
    with GatewayProcess(tmp_path / "gateway.db", **settings, **hosts) as gateway:
        TwoSubjects.gateway, TwoSubjects.inbox = gateway, _Inbox()
        TwoSubjects.description = gateway.get("/openapi.json").json()
        yield TwoSubjects
        TwoSubjects.inbox.close()


def test_no_byte_of_one_subject_reaches_another(machine: type[TwoSubjects]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=12,
            stateful_step_count=40,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # each step is several requests: to shrink a failure takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
