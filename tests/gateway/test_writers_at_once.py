"""Writers of every kind in flight at the same time, against a model: there is one order in which all of it is right.

A volley of writes is sent at once. Then the versions that came of it are read, one after another, and each must be what
one of the writes, or a room, makes of the version before it; no write that was acknowledged may be without its version,
and every refusal must have been right at some moment. `VOLLEY_EXAMPLES` says how many runs of volleys are tried.
"""

import os
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from websockets.exceptions import ConnectionClosed

from tests.gateway.test_state_machine import adds_nothing, text_of
from tests.live.editors import RawClient, Typewriter, raw_client
from tests.support.server import GatewayProcess

_OCTETS = {"Content-Type": "application/octet-stream"}
_PLAIN = {"Content-Type": "text/plain"}
_FILES = ("a.md", "b.md")
_AT_ONCE = 8
_KINDS = ("put", "put", "put", "patch", "patch", "patch", "room", "room", "delete", "restore", "move")
_VOLLEYS = st.lists(
    st.tuples(st.sampled_from(_KINDS), st.sampled_from(_FILES), st.integers(0, 99)), min_size=2, max_size=_AT_ONCE
)


@dataclass(frozen=True)
class State:
    """A file at one version; version 0 is before its first incarnation, and `whole` is None where it is not alive."""

    version: int
    whole: bytes | None = None
    incarnation: str = ""
    last_modified: str = ""

    @property
    def alive(self) -> bool:
        return self.whole is not None

    @property
    def text(self) -> str | None:
        return None if self.whole is None else text_of(self.whole)

    @property
    def tag(self) -> str:
        return f'"{self.incarnation}.{self.version}"'

    def has(self, update: bytes) -> bool:
        """Whether the document has all of an update."""
        return self.whole is not None and adds_nothing([self.whole], update)


@dataclass
class Write:
    """A write: how it is sent, and what it makes of a file."""

    path: str
    what: str
    send: Callable[[httpx.Client], httpx.Response | None]
    makes: Callable[[State, State, list[State]], bool]
    """Whether a version is what this write makes of the one before it, given all earlier ones."""
    refused: dict[str, Callable[[State], bool]] = field(default_factory=dict)
    """By code of the problem, when it is right."""
    superfluous: Callable[[State], bool] = lambda state: False
    """Where it makes no version."""
    update: bytes | None = None
    """Of a write in a room."""
    answer: httpx.Response | None = None


def _put(path: str, text: str, headers: dict[str, str], condition: str, tag: str) -> Write:
    def makes(before: State, after: State, _: list[State]) -> bool:
        allowed = {"": True, "match": before.alive and before.tag == tag, "create": not before.alive}[condition]
        return allowed and after.text == text

    refused = {"match": lambda state: not state.alive or state.tag != tag, "create": lambda state: state.alive}
    return Write(
        path,
        f"PUT {text!r} {condition}",
        lambda http: http.put(f"/files/{path}", content=text.encode(), headers={**_PLAIN, **headers}),
        makes,
        {"precondition_failed": refused[condition]} if condition else {},
        lambda state: state.text == text,
    )


def _patch(path: str, update: bytes, incarnation: str) -> Write:
    headers = {**_OCTETS, "X-Incarnation": incarnation} if incarnation else _OCTETS

    def makes(before: State, after: State, _: list[State]) -> bool:
        if incarnation and before.incarnation != incarnation:
            return False
        return after.text == text_of(*([before.whole] if before.whole is not None else []), update)

    return Write(
        path,
        f"PATCH {incarnation}",
        lambda http: http.patch(f"/files/{path}", content=update, headers=headers),
        makes,
        {"file_deleted": lambda state: state.incarnation != incarnation or not state.alive} if incarnation else {},
        lambda state: state.has(update),
    )


def _delete(path: str) -> Write:
    def dead(state: State) -> bool:
        return not state.alive

    return Write(
        path,
        "DELETE",
        lambda http: http.delete(f"/files/{path}"),
        lambda before, after, _: before.alive and not after.alive,
        {"file_deleted": dead, "file_not_found": dead},
    )


def _restore(path: str, version: int, expected: str) -> Write:
    return Write(
        path,
        f"restore {version}",
        lambda http: http.post(f"/history/{path}/restore", json={"version": version}),
        lambda before, after, earlier: after.text == expected == earlier[version].text,
        superfluous=lambda state: state.text == expected,
    )


def _room(gateway: GatewayProcess, project: str, path: str, update: bytes) -> Write:
    """It is acknowledged when somebody else in the room is sent it."""

    def send(http: httpx.Client) -> None:
        try:
            with raw_client(gateway, project, path) as reader, raw_client(gateway, project, path) as writer:
                seen = _join(reader)
                _join(writer)
                writer.send_update(update)
                while not adds_nothing(seen, update):
                    seen.append(reader.receive_sync("update"))
            write.answer = httpx.Response(200)
        except ConnectionClosed as closed:
            # The file was deleted, or the room is of an incarnation that is just over: the edit is not acknowledged.
            if closed.rcvd is None or closed.rcvd.code not in (4404, 1013):
                raise

    write = Write(path, "room", send, lambda before, after, _: False, update=update)
    return write


def _join(client: RawClient) -> list[bytes]:
    client.send(b"\0\0\1\0")
    return [client.receive_sync("step_2")]


class WritersAtOnce(RuleBasedStateMachine):
    gateway: GatewayProcess

    @initialize()
    def begin(self) -> None:
        self.project = f"volleys-{uuid.uuid4().hex[:12]}"
        self.http = self.gateway.client(self.project)
        self.others = [self.gateway.client(self.project) for _ in range(_AT_ONCE)]
        self.threads = ThreadPoolExecutor(_AT_ONCE)
        self.states = {path: [State(0)] for path in _FILES}
        begun = self.http.put("/files/begin.md", content=b"", headers=_PLAIN).raise_for_status()
        self.cursor: str = begun.json()["cursor"]
        self.sequence = _sequence(self.cursor)
        self.number = 0

    def teardown(self) -> None:
        if hasattr(self, "threads"):
            self.threads.shutdown()
            for client in (self.http, *self.others):
                client.close()

    @rule(volley=_VOLLEYS)
    def send_at_once(self, volley: list[tuple[str, str, int]]) -> None:
        writes = [self._make(*each) for each in volley]
        together = threading.Barrier(len(writes))

        def send(client: httpx.Client, write: Write) -> None:
            together.wait()
            answer = write.send(client)
            if answer is not None:
                write.answer = answer

        list(self.threads.map(send, self.others, writes))
        self._check(writes)

    def _make(self, kind: str, path: str, choice: int) -> Write:
        """A write of that kind; what came of earlier volleys is no part of what Hypothesis draws, since it varies."""
        state, alive = self.states[path][-1], [each for each in self.states[path] if each.alive]
        self.number += 1
        if kind == "put":
            condition = ("", "match", "create")[choice % 3]
            headers = {"match": {"If-Match": state.tag}, "create": {"If-None-Match": "*"}}.get(condition, {})
            text = (f"put {self.number}\n", "the same", (state.text or "") + "more\n")[choice // 3 % 3]
            return _put(path, text, headers, condition, state.tag)
        if kind == "patch" and state.alive and choice % 2:
            return _patch(path, Typewriter(state.whole).type(f"more {self.number}\n"), state.incarnation)
        if kind == "patch":
            return _patch(path, Typewriter().type(f"patch {self.number} 🙂\n"), "")
        if kind == "room":
            return _room(self.gateway, self.project, path, Typewriter().type(f"room {self.number} 🙂\n"))
        if kind == "restore" and alive:
            chosen = alive[choice % len(alive)]
            return _restore(path, chosen.version, chosen.text or "")
        if kind == "move":
            return self._move(path, next(each for each in _FILES if each != path))
        return _delete(path)

    def _move(self, source: str, goal: str) -> Write:
        def makes(before: State, after: State, _: list[State]) -> bool:
            lives = [each.text for each in self.states[source] if each.alive]
            return not before.alive and after.text in lives

        def refused(state: State) -> bool:
            return True  # by the state of the other file, which is checked below

        return Write(
            goal,
            f"move from {source}",
            lambda http: http.post("/files/move", json={"from": source, "to": goal}),
            makes,
            {"file_exists": lambda state: state.alive, "file_deleted": refused, "file_not_found": refused},
        )

    # What came of it

    def _check(self, writes: list[Write]) -> None:
        known = {path: len(states) for path, states in self.states.items()}
        for path in _FILES:
            self._read(path)
        moments = {path: states[known[path] - 1 :] for path, states in self.states.items()}
        claims = self._claims(writes, moments)
        moved = [write.what.removeprefix("move from ") for write in claims.values() if write.what.startswith("move")]
        for path in _FILES:
            states = self.states[path]
            rooms = [write.update for write in writes if write.update is not None and write.path == path]
            for before, after in zip(moments[path], moments[path][1:], strict=False):
                write = claims.get((path, after.version))
                if write is not None:
                    assert write.makes(before, after, states[: after.version]), (path, after.version, write.what)
                elif after.alive:
                    known_already = [before.whole] if before.whole is not None else []
                    assert after.whole is not None
                    assert adds_nothing([*known_already, *rooms], after.whole), (path, after.version)
                else:
                    moved.remove(path)  # the tombstone that a move has left
                self._check_lives(before, after, states)
        assert moved == []
        for write in writes:
            if write.update is not None and write.answer is not None:
                assert any(state.has(write.update) for state in moments[write.path]), write.what
        self._check_feed({path for path in _FILES if len(moments[path]) > 1})

    def _read(self, path: str) -> None:
        """The versions of a file that are new."""
        states = self.states[path]
        answer = self.http.get(f"/history/{path}", params={"limit": 1000})
        if answer.status_code == 404:
            assert len(states) == 1
            return
        entries = answer.raise_for_status().json()["versions"][::-1]
        assert [entry["version"] for entry in entries] == list(range(1, len(entries) + 1))
        assert len(entries) >= len(states) - 1
        for entry in entries[len(states) - 1 :]:
            version = entry["version"]
            answer = self.http.get(f"/files/{path}", params={"at_version": version})
            if entry.get("deleted", False):
                assert answer.status_code == 410
                states.append(State(version, last_modified=entry["last_modified"]))
            else:
                assert answer.raise_for_status().headers["X-Version"] == str(version)
                incarnation = answer.headers["X-Incarnation"]
                states.append(State(version, answer.content, incarnation, entry["last_modified"]))

    def _claims(self, writes: list[Write], moments: dict[str, list[State]]) -> dict[tuple[str, int], Write]:
        """The write of each version, by its receipt; what has none must be right to have none."""
        claims: dict[tuple[str, int], Write] = {}
        sequences: list[tuple[int, str, int]] = []
        for write in writes:
            answer, during = write.answer, moments[write.path]
            if write.update is not None:
                continue
            assert answer is not None
            if answer.status_code >= 400:
                code = answer.json()["code"]
                assert code in write.refused, (write.what, answer.text)
                assert any(map(write.refused[code], during)), (write.what, answer.text)
                if write.what.startswith("move") and code != "file_exists":
                    source = write.what.removeprefix("move from ")
                    assert any(not state.alive for state in moments[source])
                continue
            if answer.status_code == 204:
                version = int(answer.headers["X-Version"])
            else:
                receipt = answer.json()
                version = receipt["version"]
                if not receipt["changed"]:
                    assert any(map(write.superfluous, during)), write.what
                    continue
                sequences.append((_sequence(receipt["cursor"]), write.path, version))
                state = during[version - during[0].version]
                assert receipt["last_modified"] == state.last_modified
                assert answer.headers["ETag"] == state.tag
                before = during[version - during[0].version - 1]
                assert answer.status_code == (200 if before.alive else 201), write.what
            assert during[0].version < version <= during[-1].version, (write.what, version)
            assert (write.path, version) not in claims, (write.what, claims[write.path, version].what)
            claims[write.path, version] = write
        sequences.sort()
        for path in _FILES:
            versions = [version for _, of, version in sequences if of == path]
            assert versions == sorted(versions), "a later version has an earlier cursor"
        assert len({sequence for sequence, _, _ in sequences}) == len(sequences)
        assert all(sequence > self.sequence for sequence, _, _ in sequences)
        return claims

    def _check_lives(self, before: State, after: State, states: list[State]) -> None:
        if before.alive and after.alive:
            assert before.whole is not None
            assert (after.incarnation, after.has(before.whole)) == (before.incarnation, True), "something is lost"
        elif after.alive:
            assert after.incarnation not in {state.incarnation for state in states[: after.version]}
        else:
            assert before.alive, "a tombstone after a tombstone"

    def _check_feed(self, changed: set[str]) -> None:
        news = self.http.get("/changes", params={"since": self.cursor}).raise_for_status().json()
        assert {entry["path"]: entry["version"] for entry in news["changes"]} == {
            path: self.states[path][-1].version for path in changed
        }
        self.cursor = news["cursor"]
        self.sequence = _sequence(self.cursor)


def _sequence(cursor: str) -> int:
    return int(cursor.rpartition(".")[2])


def test_writes_at_the_same_time_have_one_order_in_which_all_are_right(shared_gateway: GatewayProcess) -> None:
    WritersAtOnce.gateway = shared_gateway
    run_state_machine_as_test(
        WritersAtOnce,
        settings=settings(
            max_examples=int(os.environ.get("VOLLEY_EXAMPLES", "20")),
            stateful_step_count=8,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            phases=[Phase.generate],  # another time the same writes come in another order
        ),
    )
