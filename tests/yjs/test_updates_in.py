"""What comes in: checked before it is stored, stored canonically, refused without a trace."""

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pycrdt
import pytest

from gateway.yjs.scan import scan
from gateway.yjs.updates import merge
from tests.support.oracle import Oracle
from tests.support.server import GatewayProcess

_NOTHING = b"\x00\x00"
_OCTETS = {"Content-Type": "application/octet-stream"}
_PANIC = bytes.fromhex("010187ad4bddc78887ad84da010191420c000000")
"""Makes yrs panic on any document of client 1234567; Yjs takes it."""
_V2 = bytes.fromhex("00000101000001040f0c636f6e74656e7468656c6c6f07050101000001010000")
"""What `encodeStateAsUpdateV2` makes of "hello": a reader of version 1 sees an empty update, and bytes after it."""


class Typist:
    """A replica that keeps each of its updates."""

    def __init__(self, client_id: int) -> None:
        self.document: pycrdt.Doc[object] = pycrdt.Doc(client_id=client_id)
        self.text = self.document.get("content", type=pycrdt.Text)
        self.updates: list[bytes] = []
        self._subscription = self.document.observe(lambda event: self.updates.append(event.update))

    def type(self, text: str, position: int | None = None) -> bytes:
        """Insert text; returns the update."""
        self.text.insert(len(self.text) if position is None else position, text)
        return self.updates[-1]

    def erase(self, start: int, end: int) -> bytes:
        del self.text[start:end]
        return self.updates[-1]


def _patch(project: httpx.Client, update: bytes, path: str = "a.md") -> httpx.Response:
    return project.patch(f"/files/{path}", content=update, headers=_OCTETS)


@pytest.fixture
def typist() -> Typist:
    return Typist(7)


@pytest.fixture
def written(shared_project: httpx.Client, typist: Typist) -> httpx.Client:
    """A project with a file of three versions, one of them a deletion."""
    for update in (typist.type("hello world"), typist.erase(0, 2), typist.type("!")):
        assert _patch(shared_project, update).json()["changed"]
    return shared_project


REPEATS: dict[str, Callable[[Typist], bytes]] = {
    "the same bytes": lambda typist: typist.updates[0],
    "the last bytes": lambda typist: typist.updates[-1],
    "a deletion again": lambda typist: typist.updates[1],
    "an empty update": lambda typist: b"\x00\x00",
    "the whole state, with its delete set": lambda typist: typist.document.get_update(),
    "the updates merged": lambda typist: merge(typist.updates),
    "the delete set alone": lambda typist: typist.document.get_update(typist.document.get_state()),
}


@pytest.mark.parametrize("repeat", REPEATS)
def test_what_adds_nothing_makes_no_version(written: httpx.Client, typist: Typist, repeat: str) -> None:
    cursor = written.get("/files").json()["cursor"]
    receipt = _patch(written, REPEATS[repeat](typist))
    assert receipt.status_code == 200
    assert (receipt.json()["changed"], receipt.json()["version"]) == (False, 3)
    assert written.get("/files").json()["cursor"] == cursor


def test_what_yjs_encodes_anew_makes_no_version(written: httpx.Client, typist: Typist, oracle: Oracle) -> None:
    assert _patch(written, oracle.whole(typist.updates)).json()["changed"] is False


def test_a_gap_in_structs_is_refused_with_what_the_gateway_has_and_the_difference_heals_it(
    written: httpx.Client, typist: Typist
) -> None:
    typist.type("lost on the way")
    refused = _patch(written, typist.type("late"))
    assert (refused.status_code, refused.json()["code"]) == (409, "missing_predecessors")
    _heal(written, typist, refused.json()["state_vector"])


def test_a_gap_in_deletes_alone_is_refused_too(written: httpx.Client, typist: Typist) -> None:
    end = len(typist.text)
    typist.type("lost on the way")
    refused = _patch(written, typist.erase(end + 2, end + 5))
    assert (refused.status_code, refused.json()["code"]) == (409, "missing_predecessors")
    _heal(written, typist, refused.json()["state_vector"])


def _heal(project: httpx.Client, typist: Typist, state_vector: str) -> None:
    have = base64.urlsafe_b64decode(state_vector + "=" * (-len(state_vector) % 4))
    receipt = _patch(project, typist.document.get_update(have))
    assert (receipt.json()["changed"], receipt.json()["version"]) == (True, 4)
    assert project.get("/files/a.md?format=text").text == str(typist.text)


REFUSED = {
    "version 2 of the encoding": _V2,
    "bytes after the end": b"\x00\x00\x00",
    "nothing": b"",
    "half an update": b"\x01\x01\x07",
    "noise": bytes(range(256)) * 40,
    "what makes yrs panic": _PANIC,
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_no_document_can_load_is_refused_without_a_trace(written: httpx.Client, typist: Typist, kind: str) -> None:
    # The panic needs a document of a certain client; for the others it makes no difference.
    other = Typist(1234567)
    assert _patch(written, other.type("x" * 40), "b.md").status_code == 201
    before = [written.get(f"/files/{path}?at_version=1").content for path in ("a.md", "b.md")]
    cursor = written.get("/files").json()["cursor"]
    for path in ("a.md", "b.md", "new.md"):
        refused = _patch(written, REFUSED[kind], path)
        if kind == "what makes yrs panic" and path != "b.md":
            continue  # elsewhere it is a gap, or harmless
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_update"), path
        assert written.get("/files/new.md").status_code == 404
        assert written.get("/files").json()["cursor"] == cursor
    assert [written.get(f"/files/{path}?at_version=1").content for path in ("a.md", "b.md")] == before
    receipt = _patch(written, other.type("and on"), "b.md").json()
    assert (receipt["changed"], receipt["version"]) == (True, 2)
    assert written.get("/files/b.md?format=text").text == str(other.text)


_WITH_EMOJI = bytes.fromhex("01010100040107636f6e74656e740678f09f99827900")
"""What Yjs makes of inserting "x🙂y"."""
_TYPED_SINCE = b"\x01\x01\x03\x00\x84\x01\x03\x0f" + " and so on 🙂".encode() + b"\x00"
"""Another client types behind the "y"."""
PARTED = {
    "deleting one half": bytes.fromhex("000101010201"),
    "inserting between the halves": bytes.fromhex("01010200c401010102017a00"),
    "one half of what comes with it": bytes.fromhex("01010100040107636f6e74656e740678f09f9982790101010201"),
    "both halves one by one, with others": bytes.fromhex("01010200c401010102017a01010201010201"),
}


@pytest.mark.parametrize("kind", PARTED)
@pytest.mark.parametrize("cold", [False, True])
def test_half_a_character_becomes_what_yjs_makes_of_it(
    gateway: GatewayProcess, project: httpx.Client, oracle: Oracle, kind: str, cold: bool
) -> None:
    """Each half is U+FFFD; and nothing that stands behind, or is typed since, is lost."""
    before = [] if "comes with it" in kind else [_WITH_EMOJI]
    updates = [*before, PARTED[kind], _TYPED_SINCE]
    for number, update in enumerate(updates, 1):
        with gateway.client() as client:
            receipt = _patch(client, update).json()
        assert (receipt["changed"], receipt["version"]) == (True, number)
        if cold:
            gateway.stop()
            gateway.start()
    right = oracle.text(updates)
    assert ("\ufffd" in right) == ("both" not in kind)
    with gateway.client() as client:
        for _ in range(2):
            assert client.get("/files/a.md?format=text").text == right
            for version in range(len(updates) + 1):
                served = [client.get(f"/files/a.md?from_version={version}").content or _NOTHING]
                if version:
                    served.insert(0, client.get(f"/files/a.md?at_version={version}").content)
                    assert oracle.text(served[:1]) == oracle.text(updates[:version])
                assert oracle.text(served) == right
                assert oracle.text([*updates[:version], *served]) == right
            assert client.patch("/files/a.md", content=b"broken", headers=_OCTETS).status_code == 400  # opens it anew
        for update in (*updates, oracle.whole(updates)):
            assert _patch(client, update).json()["changed"] is False
        for edit in ("x🙂🙂y", "x🙂z", "🙃"):
            client.put("/files/a.md", content=edit.encode(), headers={"Content-Type": "text/plain"}).raise_for_status()
            assert client.get("/files/a.md?format=text").text == edit


@pytest.mark.parametrize("clock", range(5))
def test_a_replica_that_has_one_half_is_sent_the_rest(project: httpx.Client, clock: int) -> None:
    """yrs would begin with the "y", one place too early."""
    _patch(project, _WITH_EMOJI)
    for _ in range(2):
        known = base64.urlsafe_b64encode(bytes([1, 1, clock])).decode()
        lacking = project.get(f"/files/a.md?state_vector={known}").content
        assert sum(struct.length for struct in scan(lacking).structs) == {0: 4, 1: 3, 2: 3, 3: 1, 4: 0}[clock]
        assert _patch(project, b"broken").status_code == 400  # closes the document


def test_many_writers_on_one_file_make_one_sequence_of_versions(shared_project: httpx.Client, oracle: Oracle) -> None:
    typists = [Typist(100 + number) for number in range(8)]
    for typist in typists:
        for number in range(25):
            typist.type(f"<{typist.document.client_id}:{number}>", 0)

    def send(typist: Typist) -> list[int]:
        with httpx.Client(base_url=shared_project.base_url, timeout=120) as client:
            return [_patch(client, update).raise_for_status().json()["version"] for update in typist.updates]

    with ThreadPoolExecutor(len(typists)) as pool:
        versions = [version for sent in pool.map(send, typists) for version in sent]
    assert sorted(versions) == list(range(1, len(versions) + 1))
    text = shared_project.get("/files/a.md?format=text").text
    assert text == oracle.text([update for typist in typists for update in typist.updates])
    assert shared_project.get("/files/a.md?from_version=1").headers["X-From-Version"] in ("0", "1")


def test_every_truncation_of_an_update_is_refused_and_the_next_writer_goes_on(
    written: httpx.Client, typist: Typist
) -> None:
    update = typist.type("e\N{COMBINING ACUTE ACCENT} and 🙂 at once")
    cursor = written.get("/files").json()["cursor"]
    for end in range(len(update)):
        refused = _patch(written, update[:end])
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_update"), end
    for surplus in (b"\x00", b"\x00\x00", update):
        refused = _patch(written, update + surplus)
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_update"), surplus
    assert written.get("/files").json()["cursor"] == cursor
    receipt = _patch(written, update).json()
    assert (receipt["changed"], receipt["version"]) == (True, 4)
    assert written.get("/files/a.md?format=text").text == str(typist.text)


def test_refused_updates_among_many_writers_leave_no_hole_in_the_versions(
    shared_project: httpx.Client, oracle: Oracle
) -> None:
    typists = [Typist(200 + number) for number in range(6)]
    for typist in typists:
        for number in range(20):
            typist.type(f"<{typist.document.client_id}:{number}>", 0)
    bad = [
        _PANIC,
        _V2,
        b"",
        bytes(range(256)),
        Typist(1234568).type("only to be cut")[:-3],
    ]
    first = Typist(1234567).type("x" * 40)  # without it the panicking bytes are harmless
    assert _patch(shared_project, first).status_code == 201

    def send(typist: Typist) -> list[int]:
        versions = []
        with httpx.Client(base_url=shared_project.base_url, timeout=120) as client:
            for number, update in enumerate(typist.updates):
                assert _patch(client, bad[number % len(bad)]).json()["code"] == "invalid_update"
                versions.append(_patch(client, update).raise_for_status().json()["version"])
        return versions

    with ThreadPoolExecutor(len(typists)) as pool:
        versions = [version for sent in pool.map(send, typists) for version in sent]
    assert sorted(versions) == list(range(2, len(versions) + 2))
    updates = [first, *(update for typist in typists for update in typist.updates)]
    assert shared_project.get("/files/a.md?format=text").text == oracle.text(updates)
    for version in (1, len(versions) // 2, len(versions) + 1):
        old = shared_project.get(f"/files/a.md?at_version={version}").content
        news = shared_project.get(f"/files/a.md?from_version={version}").content
        assert oracle.text([old, news] if news else [old]) == oracle.text(updates)
