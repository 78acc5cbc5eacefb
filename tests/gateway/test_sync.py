"""`POST P/sync`: many files in one round trip, each for itself or all or none."""

import base64
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import msgspec
import pycrdt
import pytest

from tests.support.oracle import Oracle

_OCTETS = {"Content-Type": "application/octet-stream"}
_MSGPACK = {"Content-Type": "application/msgpack"}


def encoded(update: bytes) -> str:
    return base64.b64encode(update).decode()


def decoded(update: str) -> bytes:
    return base64.b64decode(update)


def typed(text: str) -> bytes:
    """An update of a replica of its own."""
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    document.get("content", type=pycrdt.Text).insert(0, text)
    return document.get_update()


def sync(project: httpx.Client, **question: Any) -> dict[str, Any]:
    answer: dict[str, Any] = project.post("/sync", json=question).raise_for_status().json()
    return answer


def text_of(project: httpx.Client, path: str) -> str:
    return project.get(f"/files/{path}", params={"format": "text"}).raise_for_status().text


class Replica:
    """All files of a project, kept by sync alone."""

    def __init__(self, project: httpx.Client) -> None:
        self.project = project
        self.documents: dict[str, pycrdt.Doc[Any]] = {}
        self.cursor: str | None = None
        self._sent: dict[str, bytes] = {}
        self.received = 0

    def _document(self, path: str) -> "pycrdt.Doc[Any]":
        if path not in self.documents:
            self.documents[path] = pycrdt.Doc()
            self._sent[path] = self.documents[path].get_state()
        return self.documents[path]

    def type(self, path: str, text: str) -> None:
        self._document(path).get("content", type=pycrdt.Text).insert(0, text)

    def sync(self, **options: Any) -> None:
        updates = {}
        for path, document in self.documents.items():
            if document.get_state() != self._sent[path]:
                updates[path] = encoded(document.get_update(self._sent[path]))
        more = True
        while more:
            question = {"updates": updates, **options} | ({} if self.cursor is None else {"since": self.cursor})
            answer = sync(self.project, **question)
            assert all("code" not in result for result in answer["results"].values()), answer["results"]
            for change in answer["changes"]:
                if "update" in change:
                    self.received += len(decoded(change["update"]))
                    self._document(change["path"]).apply_update(decoded(change["update"]))
            self.cursor, more, updates = answer["cursor"], answer["more"], {}
        self._sent = {path: document.get_state() for path, document in self.documents.items()}

    @property
    def texts(self) -> dict[str, str]:
        return {
            path: str(document.get("content", type=pycrdt.Text)) for path, document in sorted(self.documents.items())
        }


def test_who_pushes_gets_receipts_and_what_others_wrote(shared_project: httpx.Client, oracle: Oracle) -> None:
    start = sync(shared_project, updates={"a.md": encoded(typed("mine"))})
    assert start["results"]["a.md"]["version"] == 1
    assert [change["path"] for change in start["changes"]] == ["a.md"]
    assert "update" not in start["changes"][0]  # it is the client's own
    theirs = typed("theirs")
    shared_project.patch("/files/b.md", content=theirs, headers=_OCTETS).raise_for_status()
    answer = sync(shared_project, since=start["cursor"], updates={"c.md": encoded(typed("more"))})
    changes = {change["path"]: change for change in answer["changes"]}
    assert set(changes) == {"b.md", "c.md"}
    assert oracle.text([decoded(changes["b.md"]["update"])]) == "theirs"
    assert (changes["b.md"]["from_version"], changes["b.md"]["change_type"]) == (0, "created")
    assert "update" not in changes["c.md"]
    assert sync(shared_project, since=answer["cursor"])["changes"] == []


def test_who_writes_to_what_he_has_not_seen_is_given_it(shared_project: httpx.Client, oracle: Oracle) -> None:
    cursor = sync(shared_project, updates={"other.md": encoded(typed("x"))})["cursor"]
    theirs, mine = typed("theirs "), typed("mine ")
    shared_project.patch("/files/a.md", content=theirs, headers=_OCTETS).raise_for_status()
    answer = sync(shared_project, since=cursor, updates={"a.md": encoded(mine)})
    (change,) = answer["changes"]
    assert oracle.text([mine, decoded(change["update"])]) == text_of(shared_project, "a.md")


def test_an_increment_comes_where_the_client_names_its_version(shared_project: httpx.Client, oracle: Oracle) -> None:
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    text = document.get("content", type=pycrdt.Text)
    updates: list[bytes] = []
    subscription = document.observe(lambda event: updates.append(event.update))
    for number in range(20):
        text += f"line {number}\n" * 20
        shared_project.patch("/files/a.md", content=updates[-1], headers=_OCTETS).raise_for_status()
    document.unobserve(subscription)
    (change,) = sync(shared_project, versions={"a.md": 18}, paths=["a.md"])["changes"]
    assert (change["from_version"], change["version"]) == (18, 20)
    assert len(decoded(change["update"])) <= sum(map(len, updates[18:])) + 32
    assert oracle.text([*updates[:18], decoded(change["update"])]) == str(text)


def test_one_bad_file_does_not_hold_up_the_rest(shared_project: httpx.Client) -> None:
    updates = {"good.md": encoded(typed("good")), "bad.md": encoded(b"noise"), "also.md": encoded(typed("also"))}
    answer = sync(shared_project, updates=updates)
    assert answer["results"]["bad.md"]["code"] == "invalid_update"
    assert answer["results"]["good.md"]["changed"] is True
    assert {change["path"] for change in answer["changes"]} == {"good.md", "also.md"}
    assert shared_project.get("/files/bad.md").status_code == 404


def test_a_gap_is_told_with_what_the_gateway_has(shared_project: httpx.Client) -> None:
    sync(shared_project, updates={"other.md": encoded(typed("x"))})
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    text = document.get("content", type=pycrdt.Text)
    text += "lost"
    before = document.get_state()
    text += "late"
    answer = sync(shared_project, updates={"a.md": encoded(document.get_update(before))})
    problem = answer["results"]["a.md"]
    assert (problem["status"], problem["code"]) == (409, "missing_predecessors")
    have = base64.urlsafe_b64decode(problem["state_vector"] + "==")
    sync(shared_project, updates={"a.md": encoded(document.get_update(have))})
    assert text_of(shared_project, "a.md") == "lostlate"


@pytest.mark.parametrize("bad", [b"noise", None])
def test_atomic_is_all_or_nothing(shared_project: httpx.Client, bad: bytes | None) -> None:
    sync(shared_project, updates={"there.md": encoded(typed("there"))})
    before = shared_project.get("/files").json()
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    text = document.get("content", type=pycrdt.Text)
    text += "lost"
    state = document.get_state()
    text += "late"
    wrong = document.get_update(state) if bad is None else bad
    updates = {"a.md": encoded(typed("a")), "there.md": encoded(typed("more")), "wrong.md": encoded(wrong)}
    refused = shared_project.post("/sync", json={"updates": updates, "atomic": True})
    assert (refused.status_code, refused.json()["code"]) == (409, "sync_refused")
    code = "missing_predecessors" if bad is None else "invalid_update"
    assert refused.json()["results"]["wrong.md"]["code"] == code
    assert shared_project.get("/files").json() == before
    assert text_of(shared_project, "there.md") == "there"
    del updates["wrong.md"]
    answer = sync(shared_project, updates=updates, atomic=True)
    assert {path: result["changed"] for path, result in answer["results"].items()} == {"a.md": True, "there.md": True}
    history = [shared_project.get(f"/files/{path}").headers["X-Version"] for path in updates]
    assert history == ["1", "2"]


def test_the_same_request_a_thousand_times_makes_one_version(shared_project: httpx.Client) -> None:
    question = {"updates": {f"{number}.md": encoded(typed(f"text {number}")) for number in range(3)}}

    def send(atomic: bool) -> None:
        with httpx.Client(base_url=shared_project.base_url, timeout=120) as client:
            for _ in range(125):
                answer = sync(client, **question, atomic=atomic)
                assert {result["version"] for result in answer["results"].values()} == {1}

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, [False, True] * 4))
    listing = shared_project.get("/files").json()
    assert [entry["version"] for entry in listing["files"]] == [1, 1, 1]
    assert listing["cursor"].endswith(".3")


def test_what_may_come_back_is_bounded_and_the_rest_follows(shared_project: httpx.Client, oracle: Oracle) -> None:
    texts = {f"{number:02}.md": f"{number} " * 500 for number in range(30)}
    sync(shared_project, updates={path: encoded(typed(text)) for path, text in texts.items()})
    got: dict[str, bytes] = {}
    question: dict[str, Any] = {"max_bytes": 4_000}
    for _ in range(40):
        answer = sync(shared_project, **question)
        size = sum(len(decoded(change["update"])) for change in answer["changes"])
        assert size <= 4_000 or len(answer["changes"]) == 1
        got |= {change["path"]: decoded(change["update"]) for change in answer["changes"]}
        question["since"] = answer["cursor"]
        if not answer["more"]:
            break
    assert {path: oracle.text([update]) for path, update in got.items()} == texts


def test_message_pack_carries_raw_bytes(shared_project: httpx.Client) -> None:
    update = typed("packed \0 bytes")
    body = msgspec.msgpack.encode({"updates": {"a.md": update}})
    answer = shared_project.post("/sync", content=body, headers=_MSGPACK).raise_for_status()
    assert answer.headers["Content-Type"] == "application/msgpack"
    assert msgspec.msgpack.decode(answer.content)["results"]["a.md"]["version"] == 1
    asked = msgspec.msgpack.encode({"versions": {}})
    told = msgspec.msgpack.decode(shared_project.post("/sync", content=asked, headers=_MSGPACK).content)
    assert told["changes"][0]["update"] == shared_project.get("/files/a.md").content
    mixed = shared_project.post("/sync", content=asked, headers={**_MSGPACK, "Accept": "application/json"})
    assert decoded(mixed.json()["changes"][0]["update"]) == told["changes"][0]["update"]


def test_ten_thousand_files_go_in_one_request_and_no_more(shared_project: httpx.Client) -> None:
    update = typed("x")
    updates = {f"{number}.md": update for number in range(10_000)}
    body = msgspec.msgpack.encode({"updates": updates, "atomic": True, "max_bytes": 0})
    answer = msgspec.msgpack.decode(
        shared_project.post("/sync", content=body, headers=_MSGPACK).raise_for_status().content
    )
    assert len(answer["results"]) == 10_000
    assert answer["cursor"].endswith(".10000")
    body = msgspec.msgpack.encode({"updates": {**updates, "one more.md": update}})
    refused = shared_project.post("/sync", content=body, headers=_MSGPACK)
    assert (refused.status_code, refused.json()["code"]) == (413, "too_many_paths")


@pytest.mark.parametrize(
    "question",
    [{"updates": {"../x": "AAA="}}, {"updates": {"a": "no base64!"}}, {"updates": []}, {"max_bytes": -1}, {"x": 1}, []],
)
def test_what_is_no_question_is_refused(shared_project: httpx.Client, question: Any) -> None:
    refused = shared_project.post("/sync", json=question)
    assert refused.status_code == 400
    assert refused.json()["code"] in ("invalid_path", "invalid_body")


def test_a_deleted_file_comes_as_deleted(shared_project: httpx.Client) -> None:
    cursor = sync(shared_project, updates={"a.md": encoded(typed("x"))})["cursor"]
    shared_project.delete("/files/a.md").raise_for_status()
    (change,) = sync(shared_project, since=cursor)["changes"]
    assert (change["change_type"], change["version"], "update" in change) == ("deleted", 2, False)


@pytest.mark.parametrize("seed", range(4))
def test_replicas_that_sync_now_and_then_end_alike(shared_project: httpx.Client, oracle: Oracle, seed: int) -> None:
    randomness = random.Random(seed)
    replicas = [Replica(shared_project) for _ in range(3)]
    for _ in range(60):
        replica = randomness.choice(replicas)
        replica.type(randomness.choice(["a.md", "b/c.md", "d.md"]), randomness.choice(["one ", "two ", "🙂"]))
        if randomness.random() < 0.4:
            replica.sync(atomic=randomness.random() < 0.5, max_bytes=randomness.choice([0, 50, 10_000]))
    for _ in range(2):
        for replica in replicas:
            replica.sync()
    assert replicas[0].texts == replicas[1].texts == replicas[2].texts
    for path, text in replicas[0].texts.items():
        assert oracle.text([shared_project.get(f"/files/{path}").content]) == text
