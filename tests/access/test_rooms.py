"""Rooms with credentials: stock providers, the ways to send a token, read-only rooms, the end of a credential."""

import contextlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

import pycrdt
import pytest
from websockets.exceptions import ConnectionClosed

from gateway.yjs.messages import sync_step_1, sync_step_2
from tests.access.conftest import Subject, bearer
from tests.live.editors import Editor, EditorHost, raw_client
from tests.support.server import PATIENCE_S, GatewayProcess

Open = Callable[..., Editor]


@pytest.fixture(scope="module")
def editor_host(node: str) -> Iterator[EditorHost]:
    host = EditorHost()
    yield host
    host.close()


@pytest.fixture
def open_editor(editor_host: EditorHost, guarded: GatewayProcess, name: str) -> Iterator[Open]:
    """Opens an editor of `a.md` with a token."""
    opened: list[Editor] = []

    def open_one(token: str | None, path: str = "a.md", **options: Any) -> Editor:
        params = {} if token is None else {"token": token}
        opened.append(Editor(editor_host, guarded, name, path, params=params, **options))
        return opened[-1]

    yield open_one
    for editor in opened:
        if not editor.left:
            editor.leave()


@pytest.fixture
def admin(guarded: GatewayProcess, name: str) -> Iterator[Subject]:
    with Subject(guarded, name, bearer("root", admin=True)) as client:
        yield client


def test_stock_providers_edit_with_a_token_as_parameter(
    open_editor: Open, guarded: GatewayProcess, admin: Subject, name: str
) -> None:
    ann, bob = (open_editor(bearer(who, projects={name: "write"})).synced() for who in ("ann", "bob"))
    ann.type("hello ")
    bob.until_text("hello ")
    bob.type("world")
    ann.until_text("hello world")
    assert admin.text("a.md") == "hello world"
    authors = {entry["author"] for entry in admin.get("/history/a.md").json()["versions"]}
    assert authors <= {"ann", "bob", "ann, bob"}
    audit = admin.get(f"{guarded.url}/api/audit", params={"project": name}).json()
    assert {entry["subject"] for entry in audit["entries"]} == {"ann", "bob"}


@pytest.mark.parametrize("kind", ["none", "wrong", "expired", "other project", "other path", "turns alone"])
def test_a_stock_provider_without_a_right_is_sent_away_for_good(
    open_editor: Open, admin: Subject, name: str, kind: str
) -> None:
    admin.write("a.md", "secret")
    token, code = {
        "none": (None, 4401),
        "wrong": ("ygw_x", 4401),
        "expired": (bearer(seconds=-1, projects={name: "write"}), 4401),
        "other project": (bearer(projects={"other": "write"}), 4403),
        "other path": (bearer(projects={name: {"scope": "write", "paths": ["docs/"]}}), 4403),
        "turns alone": (bearer(projects={name: "turns"}), 4403),
    }[kind]
    editor = open_editor(token)
    assert editor.until_ended() == code
    assert editor.text == ""


def test_the_same_is_said_of_a_file_that_is_not_there(open_editor: Open, name: str) -> None:
    assert open_editor(bearer(projects={name: {"scope": "write", "paths": ["docs/"]}})).until_ended() == 4403


@pytest.mark.parametrize("way", ["header", "query", "subprotocol", "ticket"])
def test_a_token_may_come_in_each_of_these_ways(guarded: GatewayProcess, admin: Subject, name: str, way: str) -> None:
    admin.write("a.md", "text")
    token = bearer(projects={name: "read"})
    options: dict[str, Any] = {
        "header": {"additional_headers": {"Authorization": f"Bearer {token}"}},
        "query": {"query": f"?token={token}"},
        "subprotocol": {"subprotocols": ["yjs-gateway", f"bearer.{token}"]},
        "ticket": {"query": "?ticket=" + admin.post("/tickets").json()["ticket"]},
    }[way]
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    with raw_client(guarded, name, "a.md", **options) as client:
        client.send(sync_step_1(document.get_state()))
        document.apply_update(client.receive_sync("step_2"))
        assert client.socket.subprotocol == ("yjs-gateway" if way == "subprotocol" else None)
    assert str(document.get("content", type=pycrdt.Text)) == "text"


def test_who_may_read_only_reads_and_says_where_it_is(open_editor: Open, name: str) -> None:
    # Written in the room: whoever writes by HTTP is seen among the others for half a minute.
    writer = open_editor(bearer("ann", projects={name: "write"}), text="text", state={"name": "ann"}).synced()
    reader = open_editor(bearer("bob", projects={name: "read"}), state={"name": "bob"}).synced()
    reader.until_text("text")
    writer.until_others("bob")
    reader.until_others("ann")
    writer.type("!")
    reader.until_holds("!")
    writer.delete(0, 2)
    reader.until_text("xt!")
    reader.disconnect()
    reader.connect()
    reader.synced()  # it answers with all that it has, deletes too, which is nothing new
    writer.type("?")
    reader.until_text("xt!?")


def test_who_may_read_only_and_types_is_told_and_sent_away(open_editor: Open, admin: Subject, name: str) -> None:
    admin.write("a.md", "text")
    reader = open_editor(bearer("bob", projects={name: "read"})).synced()
    reader.type("!")
    assert reader.until_ended() == 4403
    assert admin.text("a.md") == "text"
    admin.delete("/files/a.md")
    offline = open_editor(bearer("bob", projects={name: "read"}), path="b.md", text="typed before")
    assert offline.until_ended() == 4403
    assert admin.get("/files/b.md").status_code == 404


def test_read_only_rooms_say_permission_denied_before_they_close(
    guarded: GatewayProcess, admin: Subject, name: str
) -> None:
    admin.write("a.md", "text")
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    with raw_client(guarded, name, "a.md", query=f"?token={bearer(projects={name: 'read'})}") as client:
        client.join(document)
        whole = document.get_update()
        client.send_update(whole)
        client.send(sync_step_2(whole))
        document.get("content", type=pycrdt.Text).insert(0, "x")
        client.send_update(document.get_update())
        messages: list[Any] = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                messages.append(client.socket.recv(60))
        assert messages[-1][:2] == b"\x02\x00"  # y-protocols: auth, permission denied
        assert client.socket.close_code == 4403
    assert admin.text("a.md") == "text"


def test_deleting_is_adding_too(guarded: GatewayProcess, admin: Subject, name: str) -> None:
    admin.write("a.md", "text")
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    with raw_client(guarded, name, "a.md", query=f"?token={bearer(projects={name: 'read'})}") as client:
        client.join(document)
        before = document.get_state()
        document.get("content", type=pycrdt.Text).clear()
        client.send_update(document.get_update(before))
        assert client.close_code() == 4403
    assert admin.text("a.md") == "text"


@pytest.mark.parametrize("way", ["expires", "revoked"])
def test_a_credential_that_ends_while_somebody_types_loses_nothing(
    open_editor: Open, guarded: GatewayProcess, admin: Subject, name: str, way: str
) -> None:
    tokens, lasting = f"{guarded.url}/api/tokens", bearer("ann", projects={name: "write"})
    other = open_editor(bearer("bob", projects={name: "write"})).synced()
    typed = "".join(f"{number} " for number in range(20))

    def type_until_it_ends(token: str) -> tuple[Editor, Future[Any]] | None:
        """The typist, and the end of its credential; None where that came before all was typed."""
        typist = open_editor(token)
        ended = typist.start("until_ended")
        for word in typed.split():
            typist.type(f"{word} ")
        seen = other.start("until_holds", text=typed)
        wait([ended, seen], PATIENCE_S, FIRST_COMPLETED)
        if seen.done():
            return typist, ended
        typist.renew(lasting)  # what it has typed is stored after all, and taken back
        seen.result(PATIENCE_S)
        typist.delete(0, len(typed))
        other.until_text("")
        typist.leave()
        return None

    if way == "expires":
        seconds = 3.0
        while (found := type_until_it_ends(bearer("ann", seconds=seconds, projects={name: "write"}))) is None:
            seconds *= 3
    else:
        made = admin.post(tokens, json={"name": "ann", "projects": {name: "write"}}).json()
        found = type_until_it_ends(made["token"])
        admin.delete(f"{tokens}/{made['id']}")
    assert found is not None
    typist, ended = found
    typist.type("while it ends ")
    assert ended.result(PATIENCE_S) == 4401
    typist.type("and after")
    typist.renew(lasting)
    typist.synced()
    other.until_text(typed + "while it ends and after")
    assert admin.text("a.md") == typed + "while it ends and after"


def test_a_room_with_a_bad_name_says_so_before_it_asks_who_is_there(guarded: GatewayProcess) -> None:
    with raw_client(guarded, "demo", "a/../b", quoted=True) as client:
        assert client.close_code() == 4400


def test_refusals_are_in_the_audit(guarded: GatewayProcess, admin: Subject, name: str) -> None:
    with raw_client(guarded, name, "a.md", query="?token=ygw_nothing") as client:
        assert client.close_code() == 4401
    entries = admin.get(f"{guarded.url}/api/audit", params={"limit": 1000}).json()["entries"]
    assert "refused" in {entry["action"] for entry in entries}
    assert "ygw_nothing" not in json.dumps(entries)
