"""The API of files against a model that is a list of texts a file, and at the end against npm's Yjs."""

import base64
import uuid
from typing import Any

import httpx
import pycrdt
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.oracle import Oracle
from tests.support.server import GatewayProcess

_OCTETS = {"Content-Type": "application/octet-stream"}
_PLAIN = {"Content-Type": "text/plain"}
_PATHS = st.sampled_from(["a.md", "dir/b.md", "dir/ä.md"])
_CLIENTS = st.integers(0, 2)
_TEXTS = st.text(alphabet="abc \n\u00e4😀", min_size=1, max_size=8)
_WHERE = st.floats(0, 1)


class Client:
    """A replica of one incarnation of a file."""

    def __init__(self, number: int) -> None:
        self.document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=1000 + number)
        self.text = self.document.get("content", type=pycrdt.Text)

    def change(self, text: str, where: float, erase: bool) -> bytes:
        """Edit; returns the update."""
        state = self.document.get_state()
        written = str(self.text)
        offset = len(written[: int(where * len(written))].encode())
        if erase and written:
            end = len(self.text)
            del self.text[offset if offset < end else 0 : end]
        else:
            self.text.insert(offset, text)
        return self.document.get_update(state)


class File:
    """What the model knows of a file."""

    def __init__(self) -> None:
        self.texts: list[str | None] = []
        """The text of every version; None for a tombstone."""
        self.born: list[tuple[int, str]] = []
        """The first version and the name of every incarnation."""
        self.begin()

    def begin(self) -> None:
        self.updates: list[bytes] = []
        self.clients: dict[int, Client] = {}

    @property
    def version(self) -> int:
        return len(self.texts)

    @property
    def lives(self) -> bool:
        return bool(self.texts) and self.texts[-1] is not None

    @property
    def tag(self) -> str:
        return f'"{self.born[-1][1]}.{self.version}"'

    def client(self, number: int) -> Client:
        """A client, up to date when it joins."""
        if number not in self.clients:
            self.clients[number] = Client(number)
            for update in self.updates:
                self.clients[number].document.apply_update(update)
        return self.clients[number]


def text_of(*updates: bytes) -> str:
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    for update in updates:
        document.apply_update(update)
    return str(document.get("content", type=pycrdt.Text))


def adds_nothing(updates: list[bytes], update: bytes) -> bool:
    """Whether a document of `updates` has all of `update`: two may have erased the same."""
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    for each in updates:
        document.apply_update(each)
    news: list[bytes] = []
    subscription = document.observe(lambda event: news.append(event.update))
    document.apply_update(update)
    document.unobserve(subscription)
    return not news


class FilesOverHTTP(RuleBasedStateMachine):
    gateway: GatewayProcess
    oracle: Oracle

    @initialize()
    def begin(self) -> None:
        self.http = self.gateway.client(f"machine-{uuid.uuid4().hex[:12]}")
        self.files: dict[str, File] = {}
        self.cursors: list[tuple[str, dict[str, int]]] = []
        """Cursors, and the versions that the client had seen there."""

    def teardown(self) -> None:
        if hasattr(self, "http"):
            for path, file in self.files.items():
                if file.lives:
                    assert self.oracle.text(file.updates) == file.texts[-1], path
            self.http.close()

    def file(self, path: str) -> File:
        return self.files.setdefault(path, File())

    def _accepted(self, path: str, answer: httpx.Response, update: bytes | None) -> None:
        """A write made a version: take it into the model."""
        file = self.file(path)
        reborn = not file.lives
        assert answer.status_code == (201 if reborn else 200), answer.text
        receipt = answer.json()
        assert (receipt["version"], receipt["changed"], receipt["path"]) == (file.version + 1, True, path)
        if reborn:
            file.begin()
            incarnation = answer.headers["X-Incarnation"]
            assert incarnation not in [name for _, name in file.born]
            file.born.append((file.version + 1, incarnation))
        if update is None:
            parameters = {} if reborn else {"from_version": file.version}
            update = self.http.get(f"/files/{path}", params=parameters).content
        file.updates.append(update)
        file.texts.append(text_of(*file.updates))
        assert answer.headers["ETag"] == file.tag

    # Writing

    @rule(path=_PATHS, client=_CLIENTS, text=_TEXTS, where=_WHERE, erase=st.booleans(), follow=st.booleans())
    def patch(self, path: str, client: int, text: str, where: float, erase: bool, follow: bool) -> None:
        file = self.file(path)
        if not file.lives:
            file.begin()
        replica = file.client(client)
        if follow:
            for update in file.updates:
                replica.document.apply_update(update)
        update = replica.change(text, where, erase)
        headers = {**_OCTETS, "X-Incarnation": file.born[-1][1]} if file.lives and follow else _OCTETS
        clients = file.clients
        self._send(path, update, headers)
        file.clients = clients

    def _send(self, path: str, update: bytes, headers: dict[str, str]) -> None:
        answer = self.http.patch(f"/files/{path}", content=update, headers=headers)
        if self.file(path).lives and adds_nothing(self.file(path).updates, update):
            assert answer.json()["changed"] is False
            return
        self._accepted(path, answer, update)

    @precondition(lambda self: any(file.lives for file in self.files.values()))
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from([path for path, file in self.files.items() if file.lives]))
        file = self.files[path]
        update = data.draw(st.sampled_from([*file.updates, b"\x00\x00"]))
        answer = self.http.patch(f"/files/{path}", content=update, headers=_OCTETS)
        assert (answer.status_code, answer.json()["changed"], answer.json()["version"]) == (200, False, file.version)

    @rule(path=_PATHS, client=_CLIENTS, text=_TEXTS, where=_WHERE)
    def lose_an_update(self, path: str, client: int, text: str, where: float) -> None:
        file = self.file(path)
        if not file.lives:
            return
        replica = file.client(client)
        replica.change(text, where, False)
        late = replica.change(text, where, False)
        refused = self.http.patch(f"/files/{path}", content=late, headers=_OCTETS)
        assert (refused.status_code, refused.json()["code"]) == (409, "missing_predecessors")
        encoded = refused.json()["state_vector"]
        have = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        self._send(path, replica.document.get_update(have), _OCTETS)

    @rule(path=_PATHS, text=_TEXTS, base=st.sampled_from(["none", "current", "stale", "create"]))
    def put(self, path: str, text: str, base: str) -> None:
        file = self.file(path)
        headers = dict(_PLAIN)
        if base == "create":
            headers["If-None-Match"] = "*"
        elif base == "current" and file.lives:
            headers["If-Match"] = f'"other.1", W/{file.tag}'
        elif base == "stale":
            headers["If-Match"] = '"stale.1"'
        answer = self.http.put(f"/files/{path}", content=text.encode(), headers=headers)
        if base == "stale" or (base == "create" and file.lives):
            assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
            assert answer.headers.get("ETag") == (file.tag if file.lives else None)
        elif file.lives and file.texts[-1] == text:
            assert answer.json()["changed"] is False
        else:
            self._accepted(path, answer, None)
            assert file.texts[-1] == text

    @rule(path=_PATHS)
    def delete(self, path: str) -> None:
        file = self.file(path)
        answer = self.http.delete(f"/files/{path}")
        if file.lives:
            assert (answer.status_code, answer.headers["X-Version"]) == (204, str(file.version + 1))
            file.texts.append(None)
        else:
            assert answer.status_code == (410 if file.version else 404)

    @rule(path=_PATHS, client=_CLIENTS)
    def write_to_a_former_life(self, path: str, client: int) -> None:
        file = self.file(path)
        former = (
            file.born[-1][1] if file.born and not file.lives else file.born[-2][1] if len(file.born) > 1 else "none"
        )
        update = Client(client).change("late", 0, False)
        headers = {**_OCTETS, "X-Incarnation": former}
        answer = self.http.patch(f"/files/{path}", content=update, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (410, "file_deleted")

    @rule(source=_PATHS, goal=_PATHS)
    def move(self, source: str, goal: str) -> None:
        here, there = self.file(source), self.file(goal)
        answer = self.http.post("/files/move", json={"from": source, "to": goal})
        if not here.lives:
            assert answer.status_code in ((410,) if here.version else (404,))
        elif there.lives:
            assert (answer.status_code, answer.json()["code"]) == (409, "file_exists")
        else:
            text = here.texts[-1]
            self._accepted(goal, answer, None)
            assert there.texts[-1] == text
            here.texts.append(None)

    # Reading

    @rule(path=_PATHS, data=st.data())
    def read(self, path: str, data: st.DataObject) -> None:
        file = self.file(path)
        if not file.lives:
            assert self.http.get(f"/files/{path}").status_code == (410 if file.version else 404)
            return
        url = f"/files/{path}"
        whole = self.http.get(url)
        assert (text_of(whole.content), whole.headers["ETag"], whole.headers["X-From-Version"]) == (
            file.texts[-1], file.tag, "0",
        )  # fmt: skip
        assert self.http.get(url, params={"format": "text"}).text == file.texts[-1]
        assert self.http.get(url, headers={"Accept": "text/plain"}).text == file.texts[-1]
        assert self.http.get(url, params={"format": "json"}).json().get("content") in (file.texts[-1], None)
        assert self.http.get(url, headers={"If-None-Match": f"W/{file.tag}"}).status_code == 304
        self._read_version(file, url, data.draw(st.integers(1, file.version)))
        self._read_since(file, url, data.draw(st.integers(0, file.version + 1)))
        self._read_lacking(file, url, data.draw(st.integers(0, len(file.updates))))

    def _read_version(self, file: File, url: str, version: int) -> None:
        answer = self.http.get(url, params={"at_version": version})
        expected = file.texts[version - 1]
        if expected is None:
            assert answer.status_code == 410
            return
        assert (text_of(answer.content), answer.headers["X-Version"]) == (expected, str(version))
        life = [name for born, name in file.born if born <= version][-1]
        assert answer.headers["X-Incarnation"] == life

    def _read_since(self, file: File, url: str, version: int) -> None:
        answer = self.http.get(url, params={"from_version": version})
        if version > file.version:
            assert (answer.status_code, answer.json()["code"]) == (409, "version_ahead")
        elif version == file.version:
            assert (answer.status_code, answer.headers["X-From-Version"]) == (204, str(version))
        elif version < file.born[-1][0]:
            assert answer.headers["X-From-Version"] == "0"
            assert text_of(answer.content) == file.texts[-1]
        else:
            base = self.http.get(url, params={"at_version": version}).content
            assert answer.headers["X-From-Version"] in ("0", str(version))
            assert text_of(base, answer.content) == text_of(base, answer.content, answer.content) == file.texts[-1]

    def _read_lacking(self, file: File, url: str, known: int) -> None:
        replica: pycrdt.Doc[Any] = pycrdt.Doc()
        for update in file.updates[:known]:
            replica.apply_update(update)
        vector = base64.urlsafe_b64encode(replica.get_state()).decode().rstrip("=")
        replica.apply_update(self.http.get(url, params={"state_vector": vector}).raise_for_status().content)
        assert str(replica.get("content", type=pycrdt.Text)) == file.texts[-1]

    @precondition(lambda self: any(file.version for file in self.files.values()))
    @rule(data=st.data())
    def ask_what_changed(self, data: st.DataObject) -> None:
        versions = {path: file.version for path, file in self.files.items() if file.version}
        if self.cursors:
            cursor, seen = data.draw(st.sampled_from(self.cursors))
            for url, question in (("/files/status", {"since": cursor}), ("/changes", None)):
                answer = (
                    self.http.post(url, json=question) if question else self.http.get(url, params={"since": cursor})
                ).raise_for_status()
                found = {change["path"]: change for change in answer.json()["changes"]}
                assert set(found) == {path for path, version in versions.items() if seen.get(path, 0) < version}
                for path, change in found.items():
                    self._check_change(change, self.files[path], seen.get(path, 0), by_version=False)
        known = {path: data.draw(st.integers(0, version + 1)) for path, version in versions.items()}
        answer = self.http.post("/files/status", json={"versions": known}).raise_for_status().json()
        found = {change["path"]: change for change in answer["changes"]}
        for path, version in known.items():
            file = self.files[path]
            unchanged = version == file.version or (version == 0 and not file.lives)
            assert (path in found) is not unchanged, (path, version, file.texts)
            if path in found:
                self._check_change(found[path], file, version, by_version=True)
        self.cursors.append((answer["cursor"], versions))

    def _check_change(self, change: dict[str, Any], file: File, seen: int, *, by_version: bool) -> None:
        assert change["version"] == file.version
        assert change.get("reset", False) is (by_version and seen > file.version)
        had = 0 < seen <= file.version and file.texts[seen - 1] is not None
        expected = "deleted" if not file.lives else "modified" if had or seen > file.version else "created"
        assert change["change_type"] == expected

    @precondition(lambda self: any(file.version for file in self.files.values()))
    @invariant()
    def the_listing_is_what_exists(self) -> None:
        answer = self.http.get("/files", params={"limit": 2})
        listed = answer.json()["files"]
        while (after := answer.json()["next"]) is not None:
            answer = self.http.get("/files", params={"limit": 2, "after": after})
            listed += answer.json()["files"]
        expected = {path: file.version for path, file in sorted(self.files.items()) if file.lives}
        assert {entry["path"]: entry["version"] for entry in listed} == expected


def test_the_api_of_files_does_what_the_model_does(shared_gateway: GatewayProcess, oracle: Oracle) -> None:
    FilesOverHTTP.gateway, FilesOverHTTP.oracle = shared_gateway, oracle
    run_state_machine_as_test(
        FilesOverHTTP,
        settings=settings(
            max_examples=50,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
