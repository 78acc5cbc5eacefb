"""The stock provider of Hocuspocus over the rooms of y-websocket: one document, one sequence of versions."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pycrdt
import pytest

from gateway.yjs.hocuspocus import authenticated, stateless, sync_status
from gateway.yjs.lib0 import var_bytes, var_uint
from gateway.yjs.messages import AwarenessState, awareness_message, sync_step_1, sync_step_2, sync_update
from tests.live.clients import figure, name_of, put, wait_for_figure
from tests.live.editors import Editor, EditorHost, Typewriter
from tests.live.hocuspocus import Open, Provider, RawHocuspocus, providers, raw_hocuspocus
from tests.support.server import GatewayProcess

_TOKEN = var_uint(2) + var_uint(0) + var_bytes(b"") + var_bytes(b"4.8.0")


@pytest.fixture
def open_provider(editor_host: EditorHost) -> Iterator[Open]:
    with providers(editor_host) as open_one:
        yield open_one


@pytest.fixture
def provide(
    open_provider: Open, shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> Callable[..., Provider]:
    """Opens a provider of a file of the shared project."""
    return lambda path="a.md", **options: open_provider(shared_gateway, name_of(shared_project), path, **options)


@pytest.fixture
def raw(shared_gateway: GatewayProcess, shared_project: httpx.Client) -> Iterator[RawHocuspocus]:
    with raw_hocuspocus(shared_gateway, name_of(shared_project)) as client:
        yield client


def text_of(project: httpx.Client, path: str = "a.md") -> str:
    return project.get(f"/files/{path}", params={"format": "text"}).raise_for_status().text


# Editing together


def test_two_providers_and_a_y_websocket_client_converge(
    provide: Callable[..., Provider], edit: Callable[..., Editor], shared_project: httpx.Client
) -> None:
    ann = provide(state={"name": "ann"}).synced()
    bob = provide(state={"name": "bob"}).synced()
    eve = edit(state={"name": "eve"}).synced()
    ann.type("one ")
    bob.until_text("one ")
    eve.until_text("one ")
    eve.type("two ")
    bob.until_text("one two ")
    bob.insert("zero ", 0)
    for each in (ann, bob, eve):
        each.until_text("zero one two ")
    ann.until_others("bob", "eve")
    bob.until_others("ann", "eve")
    eve.until_others("ann", "bob")
    bob.leave()
    ann.until_others("eve")
    eve.until_others("ann")
    ann.until_saved()
    assert text_of(shared_project) == "zero one two "
    put(shared_project, "a.md", "by HTTP")
    ann.until_text("by HTTP")


def test_what_is_saved_is_stored(provide: Callable[..., Provider], shared_project: httpx.Client) -> None:
    ann = provide(text="offline ")
    ann.until_saved()
    assert text_of(shared_project) == "offline "
    typed = "offline "
    for word in ("one ", "two ", "three "):
        ann.type(word)
        typed += word
        ann.until_saved()
        assert text_of(shared_project) == typed
    ann.force_sync()
    ann.until_saved()
    newest = shared_project.get("/history/a.md").json()["versions"][0]["version"]
    ann.cut()
    ann.synced()
    ann.until_saved()
    assert shared_project.get("/history/a.md").json()["versions"][0]["version"] == newest


def test_many_documents_share_a_socket(
    provide: Callable[..., Provider], shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    paths = [f"folder/ä {number}.md" for number in range(20)]
    mine = [provide(path, socket="mine") for path in paths]
    theirs = [provide(path, socket="theirs") for path in paths]
    for number, (here, there) in enumerate(zip(mine, theirs, strict=True)):
        here.type(f"text {number}")
        there.until_text(f"text {number}")
    for each in mine:
        each.until_saved()
    assert [text_of(shared_project, path) for path in paths] == [f"text {number}" for number in range(20)]
    shared_project.delete(f"/files/{paths[3]}").raise_for_status()
    assert mine[3].until_told() == ("closed", "4404: the file was deleted")
    mine[4].type("!")
    theirs[4].until_text("text 4!")
    wait_for_figure(shared_gateway, "gateway_room_connections", 38)


def test_two_sessions_of_one_document_share_a_socket(
    provide: Callable[..., Provider], shared_project: httpx.Client
) -> None:
    left, right = (provide(socket="one", session=True).synced() for _ in range(2))
    left.type("left ")
    right.until_text("left ")
    right.type("right")
    left.until_text("left right")
    left.until_saved()
    assert text_of(shared_project) == "left right"


def test_after_kill_9_all_that_was_saved_is_on_disk(open_provider: Open, tmp_path: Path) -> None:
    database = tmp_path / "gateway.db"
    paths = ["a.md", "b.md", "c.md"]
    with GatewayProcess(database, GATEWAY_ROOM_WINDOW_MS=20) as gateway:
        typists = [open_provider(gateway, "demo", path, socket="one") for path in paths]
        for typist in typists:
            typist.synced().keep_typing("abcdefghij")
        for kill in range(2):
            for typist in typists:
                typist.until_saved_length(8 * (kill + 1))
            gateway.kill()
            saved = [typist.saved for typist in typists]
            with GatewayProcess(database) as another, another.client() as project:  # nobody sends it anything again
                for path, text in zip(paths, saved, strict=True):
                    assert text_of(project, path).startswith(text)
            gateway.start()
        with gateway.client() as project:
            for path, typist in zip(paths, typists, strict=True):
                typist.stop_typing()
                typist.until_saved()
                text = typist.text
                assert text_of(project, path) == text == ("abcdefghij" * len(text))[: len(text)]


def test_a_gateway_that_stops_is_come_back_to(open_provider: Open, tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db") as gateway:
        ann, bob = (open_provider(gateway, "demo", "a.md").synced() for _ in range(2))
        ann.type("before ")
        bob.until_text("before ")
        gateway.stop()
        ann.type("meanwhile")
        gateway.start()
        bob.until_text("before meanwhile")
        ann.until_saved()


# The end of one document


def test_a_deleted_file_ends_its_document_and_may_begin_again(
    provide: Callable[..., Provider], shared_project: httpx.Client
) -> None:
    ann, other = (provide(path, socket="one").synced() for path in ("a.md", "b.md"))
    ann.type("text")
    ann.until_saved()
    shared_project.delete("/files/a.md").raise_for_status()
    assert ann.until_told() == ("closed", "4404: the file was deleted")
    ann.type("!")
    assert ann.unsaved > 0
    other.type("still here")
    other.until_saved()
    ann.attach_again()
    assert ann.until_told()[1].startswith("4404: it holds what is of an earlier incarnation")
    assert shared_project.get("/files/a.md").status_code == 410
    ann.leave()
    fresh = provide("a.md", socket="one").synced()
    fresh.type("new")
    fresh.until_saved()
    assert text_of(shared_project) == "new"


def test_an_invalid_name_is_denied(provide: Callable[..., Provider]) -> None:
    bad, good = (provide(path, socket="one") for path in ("a/../b", "a.md"))
    what, reason = bad.until_told()
    assert (what, reason[:5]) == ("denied", "4400:")
    good.type("text")
    good.until_saved()


def test_a_document_over_the_limit_ends_alone(open_provider: Open, tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_DOCUMENT_BYTES=10_000) as gateway:
        large, small = (open_provider(gateway, "demo", path, socket="one").synced() for path in ("a.md", "b.md"))
        large.insert("x" * 20_000)
        assert large.until_told() == ("closed", "4413: the document would be too large")
        assert large.unsaved > 0
        small.type("text")
        small.until_saved()


def test_an_invalid_update_ends_its_document_alone(raw: RawHocuspocus, shared_project: httpx.Client) -> None:
    for name in ("a.md", "b.md"):
        raw.send(name, _TOKEN)
        raw.until(name, authenticated(read_only=False))
    raw.send("a.md", sync_update(b"\x01\x02\x03"))
    raw.until("a.md", var_uint(7) + var_bytes(b"4422: the update is invalid"))
    raw.send("a.md", sync_update(Typewriter().type("not open any more")))
    raw.send("b.md", sync_update(Typewriter().type("open")))
    raw.until("b.md", sync_status(saved=True))
    assert text_of(shared_project, "b.md") == "open"
    assert shared_project.get("/files/a.md").status_code == 404
    raw.send("b.md", sync_step_1(b"\xff\xff"))
    raw.until("b.md", var_uint(7) + var_bytes(b"4422: an invalid state vector"))


def test_what_is_no_message_of_a_document_that_is_not_open_is_ignored(raw: RawHocuspocus) -> None:
    for message in (sync_step_1(b""), b"\x00", b"\x02\x00\xff", b"\x09", b""):
        raw.send("a.md", message)
    raw.send("a.md", _TOKEN)
    raw.until("a.md", authenticated(read_only=False))


# Message by message


def test_each_update_is_acknowledged_once_and_sync_as_well(raw: RawHocuspocus, shared_project: httpx.Client) -> None:
    put(shared_project, "a.md", "text")
    document: pycrdt.Doc[object] = pycrdt.Doc()
    raw.send("a.md", _TOKEN)
    raw.send("a.md", sync_step_1(document.get_state()))
    before = raw.until("a.md", _step_1_of(shared_project, "a.md"))
    assert before[0] == authenticated(read_only=False)
    assert [message[:2] for message in before[1:]] == [b"\x00\x01"]  # its step 2, before it asks for ours
    raw.send("a.md", sync_step_2(b"\x00\x00"))
    writer = Typewriter()
    for update in writer.updates("abc"):
        raw.send("a.md", sync_update(update))
    raw.send("a.md", sync_step_2(writer.document.get_update()))  # nobody asked for this one
    raw.send("a.md", var_uint(3))
    raw.send("a.md", var_uint(6) + var_bytes(b"end"))
    came = raw.until("a.md", stateless("end"))
    came += _until_acknowledged(raw, 4 - came.count(sync_status(saved=True)))
    raw.send("a.md", sync_update(writer.type("d")))
    came += raw.until("a.md", sync_status(saved=True))
    assert came.count(sync_status(saved=True)) == 4


def _step_1_of(project: httpx.Client, path: str) -> bytes:
    document: pycrdt.Doc[object] = pycrdt.Doc()
    document.apply_update(project.get(f"/files/{path}").content)
    return sync_step_1(document.get_state())


def _until_acknowledged(raw: RawHocuspocus, times: int) -> list[bytes]:
    came: list[bytes] = []
    for _ in range(times):
        came += [*raw.until("a.md", sync_status(saved=True)), sync_status(saved=True)]
    return came


def test_an_update_of_which_a_part_is_missing_is_acknowledged_once_the_rest_has_come(
    raw: RawHocuspocus, shared_project: httpx.Client
) -> None:
    raw.send("a.md", _TOKEN)
    writer = Typewriter()
    _, second = writer.updates("ab")
    raw.send("a.md", sync_update(second))
    came = raw.until("a.md", sync_step_1(b"\x00"))  # the gateway asks for what is missing
    assert sync_status(saved=True) not in came
    raw.send("a.md", sync_step_2(writer.document.get_update()))
    raw.until("a.md", sync_status(saved=True))
    assert text_of(shared_project) == "ab"


def test_stateless_messages_are_for_the_server_unless_they_are_broadcast(
    provide: Callable[..., Provider], raw: RawHocuspocus, edit: Callable[..., Editor]
) -> None:
    ann, bob, elsewhere = provide().synced(), provide().synced(), provide("b.md").synced()
    edit().synced()
    ann.send_stateless("to the server")  # which has no hook
    ann.type("x")
    bob.until_text("x")
    raw.send("a.md", _TOKEN)
    raw.send("a.md", var_uint(6) + var_bytes("to ä all".encode()))
    assert ann.until_stateless() == "to ä all"
    assert bob.until_stateless() == "to ä all"
    raw.send("b.md", _TOKEN)
    raw.send("b.md", var_uint(6) + var_bytes(b"next"))
    assert elsewhere.until_stateless() == "next"


_HOSTILE = {
    "empty": b"",
    "a pong": b"\x0a",
    "a name that ends too early": b"\x7f" + b"a",
    "a name that is no UTF-8": b"\x02\xff\xff\x02\x00\x00",
    "a name alone": b"\x04a.md",
    "a length without end": b"\xff" * 12,
    "a name of a megabyte": var_bytes(b"a" * 2**20) + _TOKEN,
    "a document that is not open": var_bytes(b"other.md") + sync_step_1(b"\x00"),
    "an unknown type": var_bytes(b"a.md") + var_uint(99),
    "an unknown sync type": var_bytes(b"a.md") + var_uint(0) + var_uint(9),
    "half a token": var_bytes(b"b.md") + var_uint(2) + var_uint(0) + b"\x7f",
    "what a server says": var_bytes(b"a.md") + var_uint(2) + var_uint(2) + var_bytes(b"read-write"),
    "awareness that ends too early": var_bytes(b"a.md") + var_uint(1) + var_bytes(b"\x05"),
    "awareness of very many": var_bytes(b"a.md")
    + awareness_message(tuple(AwarenessState(client, 1, "{}") for client in range(1000))),
    "stateless that ends too early": var_bytes(b"a.md") + var_uint(5) + b"\x7f",
}


@pytest.mark.parametrize("frame", _HOSTILE.values(), ids=_HOSTILE)
def test_hostile_frames_are_ignored(
    raw: RawHocuspocus, shared_gateway: GatewayProcess, shared_project: httpx.Client, frame: bytes
) -> None:
    raw.send("a.md", _TOKEN)
    raw.until("a.md", authenticated(read_only=False))
    ignored = figure(shared_gateway, "gateway_room_messages_ignored_total")
    raw.socket.send(frame)
    raw.socket.send("a text")
    raw.send("a.md", sync_update(Typewriter().type("the edit after it counts")))
    raw.until("a.md", sync_status(saved=True))
    assert text_of(shared_project) == "the edit after it counts"
    assert figure(shared_gateway, "gateway_room_messages_ignored_total") == ignored + 2


def test_a_client_that_leaves_a_document_is_there_no_more(
    raw: RawHocuspocus, shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    for number in range(50):
        raw.send(f"{number}.md", _TOKEN)
    wait_for_figure(shared_gateway, "gateway_room_connections", 50)
    for number in range(50):
        raw.send(f"{number}.md", var_uint(7))
    wait_for_figure(shared_gateway, "gateway_room_connections", 0)
    raw.send("0.md", _TOKEN)
    wait_for_figure(shared_gateway, "gateway_room_connections", 1)
    raw.socket.close()
    wait_for_figure(shared_gateway, "gateway_room_connections", 0)


def test_one_socket_has_a_bound_of_documents(raw: RawHocuspocus) -> None:
    for number in range(1001):
        raw.send(f"{number}.md", _TOKEN)
    raw.until("1000.md", var_uint(2) + var_uint(1) + var_bytes(b"1013: more than 1000 documents on one socket"))
    raw.send("999.md", sync_update(Typewriter().type("x")))
    raw.until("999.md", sync_status(saved=True))


def test_names_are_echoed_as_they_came(raw: RawHocuspocus) -> None:
    name = "a.md\0" + base64.b64encode(bytes(30)).decode()
    raw.send(name, _TOKEN)
    assert raw.receive() == (name, authenticated(read_only=False))
