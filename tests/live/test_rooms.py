"""Rooms: stock providers and odd clients over one document, one sequence of versions, one feed."""

import contextlib
import itertools
import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pycrdt
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from gateway.rooms.member import _ASK_AGAIN_S
from gateway.yjs.awareness import EXPIRY_S, Awareness
from gateway.yjs.messages import (
    AwarenessMessage,
    AwarenessState,
    awareness_message,
    sync_step_1,
    sync_step_2,
    sync_update,
)
from tests.live.clients import OCTETS, Waiting, Wakes, figure, name_of, names, put, wait_for_figure
from tests.live.editors import WEBSOCKET, Editor, Typewriter, client_frame, raw_client, resident_bytes
from tests.support.server import PATIENCE_S, GatewayProcess

Edit = Callable[..., Editor]
_PATIENCE = 60
"""Seconds, the wait of a request: longer than what is waited for takes."""


def text_of(project: httpx.Client, path: str = "a.md") -> str:
    return project.get(f"/files/{quote(path)}", params={"format": "text"}).raise_for_status().text


def version_of(project: httpx.Client, path: str = "a.md") -> int:
    answer = project.get(f"/files/{path}")
    return int(answer.headers["X-Version"]) if answer.status_code == 200 else 0


def until_text(project: httpx.Client, text: str, path: str = "a.md") -> int:
    """Wait, from change to change, until a file has a text; returns its version then."""
    since = None
    while True:
        parameters = {"kinds": "file", "path": path, "wait": _PATIENCE} | ({} if since is None else {"since": since})
        answer = project.get("/changes", params=parameters)
        if answer.status_code == 200:  # else the project is still to be
            changes, since = answer.json()["changes"], answer.json()["cursor"]
            assert changes, "it never came"
            found = project.get(f"/files/{quote(path)}", params={"format": "text"})
            if found.status_code == 200 and found.text == text:
                return int(found.headers["X-Version"])


def most_versions(updates: int, seconds: float, window: float = 0.05) -> float:
    """The most versions that a room makes of so many small updates of one client in a time: one at once, then one a
    window, and one more wherever there are so many that they are stored in parts."""
    return 2 + seconds / window * 1.1 + updates / 400


# Editing together


def test_what_each_types_all_see(edit: Edit, shared_project: httpx.Client) -> None:
    editors = [edit().synced() for _ in range(4)]
    for number, editor in enumerate(editors):
        editor.type(f"<{number} says hello>")
        for other in editors:
            other.until_holds(f"<{number} says hello>")
    assert len({editor.text for editor in editors}) == 1
    assert text_of(shared_project) == editors[0].text


def test_those_who_type_at_the_same_moment_end_with_the_same_text(edit: Edit, shared_project: httpx.Client) -> None:
    editors = [edit().synced() for _ in range(3)]
    randomness = random.Random(3)
    for round_ in range(20):
        for number, editor in enumerate(editors):
            length = len(editor.text)
            if length > 5 and randomness.random() < 0.4:
                editor.delete(randomness.randrange(length - 3), 3)
            editor.insert(f"({number}.{round_})", randomness.randrange(length // 2 + 1))
    for number, editor in enumerate(editors):
        editor.insert(f"[end {number}]")
    for editor in editors:
        for number in range(3):
            editor.until_holds(f"[end {number}]")
    texts = {editor.text for editor in editors}
    assert texts == {text_of(shared_project)}


def test_an_edit_is_stored_before_anybody_is_sent_it(
    open_editor: Edit, gateway: GatewayProcess, project: httpx.Client
) -> None:
    writer, reader = (open_editor(gateway, "demo", "a.md").synced() for _ in range(2))
    for number in range(2):
        seen = reader.start("until_holds", text=f"<{number}>")
        writer.insert(f"<{number}>")
        seen.result()
        gateway.kill()
        gateway.start()
        with gateway.client() as client:
            assert f"<{number}>" in text_of(client)
        writer.synced()
        reader.synced()


def test_one_keystroke_is_one_version_and_a_burst_is_few(edit: Edit, shared_project: httpx.Client) -> None:
    editor = edit().synced()
    editor.type("a")
    version, typed = until_text(shared_project, "a"), "a"
    assert version == 1
    for key in "bcd":  # each after the one before is stored
        editor.type(key)
        typed += key
        assert until_text(shared_project, typed) == version + 1
        version += 1
    burst, started = "key by key " * 100, time.monotonic()
    editor.type(burst)
    version = until_text(shared_project, typed + burst)
    assert version - 4 <= most_versions(len(burst), time.monotonic() - started)
    versions = shared_project.get("/history/a.md", params={"limit": 1000}).json()["versions"]
    assert [entry["version"] for entry in versions] == list(range(version, 0, -1))[:1000]


def test_what_comes_within_the_window_is_one_version(open_editor: Edit, tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_ROOM_WINDOW_MS=400) as gateway, gateway.client() as project:
        writer = open_editor(gateway, "demo", "a.md").synced()
        words, started = [f"<{number}>" for number in range(40)], time.monotonic()
        for word in words:
            writer.insert(word)
        version = until_text(project, "".join(words))
        assert version <= most_versions(len(words), time.monotonic() - started, window=0.4)


# The defects of rooms as others have them


def test_an_edit_before_an_immediate_close_is_stored(edit: Edit, shared_project: httpx.Client) -> None:
    bystander = edit("other.md").synced()
    typed = ""
    for number in range(10):
        typed += f"<{number}>"
        edit().synced().leave(f"<{number}>")
        until_text(shared_project, typed)
    bystander.type("still here")
    until_text(shared_project, "still here", "other.md")


@pytest.mark.parametrize("size", [0, 2_000_000])
def test_edits_in_flight_when_a_client_leaves_are_all_stored(
    shared_gateway: GatewayProcess, shared_project: httpx.Client, size: int
) -> None:
    put(shared_project, "a.md", "x" * size)
    writer = Typewriter(shared_project.get("/files/a.md").content)
    updates = writer.updates("." * 50)
    with raw_client(shared_gateway, name_of(shared_project), "a.md") as client:
        client.receive_sync("step_1")
        # Sync step 1 makes the gateway read the file while the edits and the end of the connection come in.
        frames = [sync_step_1(b"\0"), *map(sync_update, updates)]
        client.socket.socket.sendall(b"".join(map(client_frame, frames)))
        client.socket.socket.shutdown(socket.SHUT_RDWR)
    until_text(shared_project, "x" * size + "." * 50)


@pytest.mark.parametrize("count", [5, 50])
def test_first_connections_at_the_same_moment_all_sync(edit: Edit, shared_project: httpx.Client, count: int) -> None:
    put(shared_project, "a.md", "here already")
    editors = [edit() for _ in range(count)]
    for editor in editors:
        editor.synced()
        assert editor.text == "here already"
    editors[0].type("!")
    for editor in editors:
        editor.until_text("here already!")


def test_a_newcomer_is_told_who_is_there_and_all_are_told_who_is_lost(edit: Edit) -> None:
    ada = edit(state={"name": "Ada"}).synced()
    bob = edit(state={"name": "Bob"}).synced()
    ada.until_others("Bob")
    bob.until_others("Ada")
    newcomer = edit(state={"name": "Cyd"}).synced()
    newcomer.until_others("Ada", "Bob")
    ada.until_others("Bob", "Cyd")
    bob.disconnect()  # says good-bye
    ada.until_others("Cyd")
    newcomer.until_others("Ada")
    lost = ada.start("until_others", others=[])
    newcomer.cut()  # says nothing, and comes back
    lost.result(PATIENCE_S)
    newcomer.say({"name": "Dora"})
    ada.until_others("Dora")
    newcomer.leave()
    ada.until_others()


def test_the_lost_are_withdrawn_by_what_a_returning_client_can_outdo() -> None:
    """The clock that withdraws is the last one: the client's next word is news to everybody (y-protocols)."""
    awareness = Awareness()
    assert awareness.receive([AwarenessState(7, 3, '{"a":1}')], "lost", 0.0)
    assert awareness.withdraw("another") == ()
    assert awareness.withdraw("lost") == (AwarenessState(7, 3, "null"),)
    assert awareness.receive([AwarenessState(7, 4, '{"a":2}')], "back", 1.0)
    assert awareness.states() == (AwarenessState(7, 4, '{"a":2}'),)


def test_an_old_state_of_who_has_left_does_not_come_back() -> None:
    awareness = Awareness()
    lost, gone, silent = (AwarenessState(client, 5, "{}") for client in (1, 2, 3))
    awareness.receive([lost], "lost", 0.0)
    awareness.receive([gone, silent], "other", 0.0)
    awareness.withdraw("lost")
    awareness.receive([AwarenessState(2, 6, "null")], "other", 0.0)
    awareness.expire(EXPIRY_S)
    echoes = [state for old in (lost, gone, silent) for state in (old, AwarenessState(old.client, 4, "{}"))]
    assert awareness.receive(echoes, "echo", EXPIRY_S) == ()
    assert awareness.receive([AwarenessState(2, 6, "{}"), AwarenessState(1, 5, "null")], "echo", EXPIRY_S) == ()
    assert awareness.states() == ()
    back = (AwarenessState(1, 6, "{}"), AwarenessState(2, 7, "{}"), AwarenessState(3, 6, "{}"))
    assert awareness.receive(back, "back", EXPIRY_S) == back


def test_the_clocks_of_a_bounded_number_of_clients_are_remembered() -> None:
    awareness = Awareness()
    for client in range(10_000):
        awareness.receive([AwarenessState(client, 5, "{}")], client, 0.0)
        awareness.withdraw(client)
    newest = [AwarenessState(client, 5, "{}") for client in range(9_000, 9_010)]
    assert awareness.receive(newest, "echo", 0.0) == ()
    oldest = (AwarenessState(0, 5, "{}"),)
    assert awareness.receive(oldest, "echo", 0.0) == oldest


def test_a_late_echo_shows_nobody_who_has_left(shared_gateway: GatewayProcess, shared_project: httpx.Client) -> None:
    left = AwarenessState(111, 5, '{"name":"Ada"}')
    name = name_of(shared_project)
    with raw_client(shared_gateway, name, "a.md") as present:
        present.receive_sync("step_1")  # with it a client is told who is there, and from then on of each change
        with raw_client(shared_gateway, name, "a.md") as leaving:
            leaving.send(awareness_message((left,)))
            assert present.receive_awareness() == AwarenessMessage((left,))
        assert present.receive_awareness() == AwarenessMessage((AwarenessState(111, 5, "null"),))
        present.send(awareness_message((left,)))
        present.send(awareness_message((AwarenessState(222, 1, "{}"),)))
        assert present.receive_awareness() == AwarenessMessage((AwarenessState(222, 1, "{}"),))


def test_awareness_expires_unless_it_is_renewed() -> None:
    awareness = Awareness()
    awareness.receive([AwarenessState(1, 1, "{}"), AwarenessState(2, 1, "{}")], "them", 0.0)
    assert awareness.receive([AwarenessState(1, 1, "{}")], "them", 15.0) == ()  # an echo renews nothing
    awareness.receive([AwarenessState(2, 2, "{}")], "them", 15.0)
    assert awareness.expire(EXPIRY_S - 0.1) == ()
    assert awareness.expire(EXPIRY_S) == (AwarenessState(1, 1, "null"),)
    assert awareness.states() == (AwarenessState(2, 2, "{}"),)
    assert awareness.expire(EXPIRY_S + 15.0) == (AwarenessState(2, 2, "null"),)
    assert len(awareness) == 0


def test_awareness_is_never_stored(edit: Edit, shared_project: httpx.Client) -> None:
    editors = [edit(state={"name": name}) for name in ("Ada", "Bob")]
    editors[0].until_others("Bob")
    for number in range(20):
        editors[1].say({"name": f"Bob {number}"})
    editors[0].until_others("Bob 19")
    assert version_of(shared_project) == 0


@pytest.mark.parametrize("clients", [1, 101])
def test_a_client_says_of_itself_only_so_much(
    shared_gateway: GatewayProcess, shared_project: httpx.Client, clients: int
) -> None:
    state = '"' + "x" * (300_000 // clients) + '"'
    with raw_client(shared_gateway, name_of(shared_project), "a.md") as client:
        writer = Typewriter()
        client.join(writer.document)
        client.send(awareness_message(tuple(AwarenessState(number, 1, state) for number in range(clients))))
        client.send(awareness_message((AwarenessState(7, 1, "{}"),)))
        assert client.receive_awareness() == AwarenessMessage((AwarenessState(7, 1, "{}"),))
        client.send_update(writer.type("and goes on editing"))
        until_text(shared_project, "and goes on editing")


def test_a_hundred_thousand_updates_in_one_turn_are_all_stored(
    open_editor: Edit, gateway: GatewayProcess, project: httpx.Client
) -> None:
    count = 100_000
    bystander = open_editor(gateway, "demo", "other.md").synced()
    follower = open_editor(gateway, "demo", "a.md").synced()
    updates = Typewriter().updates("." * count)
    frames = b"".join(client_frame(sync_update(update)) for update in updates)
    started = time.monotonic()
    with raw_client(gateway, "demo", "a.md") as client:
        sending = threading.Thread(target=client.socket.socket.sendall, args=(frames,))
        sending.start()
        for number in range(20):  # the loop has a turn for everybody else meanwhile
            bystander.insert(f"<{number}>")
            until_text(project, "".join(f"<{each}>" for each in range(number + 1)), "other.md")
        follower.until_text("." * count)
        sending.join()
    assert text_of(project) == "." * count
    assert version_of(project) <= most_versions(count, time.monotonic() - started)


def test_rooms_that_come_and_go_leave_nothing(gateway: GatewayProcess, project: httpx.Client) -> None:
    length = 200_000
    put(project, "a.md", "x" * length)
    sizes = []
    for _ in range(5):
        for _ in range(40):
            with raw_client(gateway, "demo", "a.md") as client:
                client.join(pycrdt.Doc())
        wait_for_figure(gateway, "gateway_room_connections", 0)
        wait_for_figure(gateway, "gateway_rooms", 0)
        wait_for_figure(gateway, "gateway_hot_documents", 0)
        sizes.append(resident_bytes(gateway))
    assert sizes[-1] - sizes[0] < 40 * length, sizes  # a quarter of what 160 rooms hold


_NAMES = ["plain", "with space", "ünï/cödé/文書.md", "100%.md", "a?b#c", "+plus+", "\ufffd"]


@pytest.mark.parametrize("path", _NAMES)
def test_a_room_is_the_file_of_its_name(edit: Edit, shared_project: httpx.Client, path: str) -> None:
    edit(path).synced().type("typed")
    until_text(shared_project, "typed", path)
    assert [file["path"] for file in shared_project.get("/files").json()["files"]] == [path]


@pytest.mark.parametrize(
    "path", ["", "/", "a//b", "../a", "a/%2E%2E/b", ".", "a%00b", "%ff", "a%0Ab", "e%CC%81", "x" * 1025]
)
def test_a_room_is_refused_for_what_is_no_file_path(shared_gateway: GatewayProcess, path: str) -> None:
    with raw_client(shared_gateway, "refused", path, quoted=True) as client:
        client.send(sync_update(Typewriter().type("x")))
        assert client.close_code() == 4400
    assert httpx.get(shared_gateway.project("refused") + "/files").status_code == 404


def test_a_room_is_refused_for_what_is_no_project(shared_gateway: GatewayProcess) -> None:
    with raw_client(shared_gateway, "no project!", "a.md") as client:
        assert client.close_code() == 4400


@pytest.mark.parametrize("path", ["u\u0308.txt", "a/", "a//b"])
def test_a_stock_provider_does_not_come_back_to_what_is_no_file_path(edit: Edit, path: str) -> None:
    editor = edit(path)
    assert editor.until_ended() == 4400
    assert not editor.comes_back


# Gaps


def test_a_gap_is_answered_with_what_is_missing_and_heals(
    shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    writer = Typewriter()
    lost, sent = writer.type("lost "), writer.type("sent")
    with raw_client(shared_gateway, name_of(shared_project), "a.md") as client:
        client.join(pycrdt.Doc())
        for _ in range(2):  # a second gap a moment later is asked for as well
            client.send_update(sent)
            state = client.receive_sync("step_1")
            assert version_of(shared_project) == int(lost == b"")
            client.send(sync_step_2(writer.document.get_update(state)))
            until_text(shared_project, str(writer.text))
            lost, sent = b"", [writer.type(" lost"), writer.type(" sent")][1]
            if version_of(shared_project) == 2:
                break


def test_what_a_client_types_is_stored_while_something_that_it_was_sent_lacks_its_beginning(
    shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    third = Typewriter()
    lost, late = third.type("lost "), third.type("late")
    writer: pycrdt.Doc[Any] = pycrdt.Doc()
    typed: pycrdt.Text = writer.get("mine", type=pycrdt.Text)
    with raw_client(shared_gateway, name_of(shared_project), "a.md") as client:
        client.join(pycrdt.Doc())
        for number in range(3):  # it is asked for the rest, and goes on to answer with what it has
            before = writer.get_state()
            typed.insert(len(typed), f"{number} ")
            client.send(sync_step_2(pycrdt.merge_updates(late, writer.get_update(before))))
            client.receive_sync("step_1")
            assert shared_project.get("/files/a.md?format=text&root=mine").text == str(typed)
        client.send_update(lost)
        client.send(sync_step_2(late))
        until_text(shared_project, "lost late")


def test_a_stock_provider_heals_what_was_lost_on_the_way(edit: Edit, shared_project: httpx.Client) -> None:
    writer, reader = edit().synced(), edit().synced()
    writer.type("begin ")
    reader.until_text("begin ")
    typed = "begin "
    for number in range(5):
        writer.lose(2)
        writer.type("ab")
        writer.type(f"{number} ")
        typed += f"ab{number} "
        reader.until_text(typed)
    assert text_of(shared_project) == typed


def test_a_lost_deletion_is_a_gap_too(edit: Edit, shared_project: httpx.Client) -> None:
    writer, reader = edit().synced(), edit().synced()
    writer.lose(1)
    writer.type("x")
    writer.delete(0, 1)  # of what the gateway has never seen
    writer.type("seen")
    reader.until_text("seen")
    assert text_of(shared_project) == "seen"


def test_a_flood_of_gaps_is_answered_once(shared_gateway: GatewayProcess, shared_project: httpx.Client) -> None:
    writer = Typewriter()
    writer.type("lost")
    updates, started = writer.updates("." * 3000), time.monotonic()
    with raw_client(shared_gateway, name_of(shared_project), "a.md") as client:
        client.receive_sync("step_1")
        client.socket.socket.sendall(b"".join(client_frame(sync_update(update)) for update in updates))
        state = client.receive_sync("step_1")
        client.send(sync_step_2(writer.document.get_update(state)))
        until_text(shared_project, "lost" + "." * 3000)
        took = time.monotonic() - started
        client.send(sync_step_1(writer.document.get_state()))
        asked = 0
        while not isinstance(message := client.receive(), type(None)):
            if message.step == "step_2":
                break
            asked += message.step == "step_1"
    assert asked <= took / _ASK_AGAIN_S  # once a second while nobody answers


def test_a_gap_of_one_holds_nobody_up(shared_gateway: GatewayProcess, shared_project: httpx.Client, edit: Edit) -> None:
    others = [edit().synced() for _ in range(2)]
    writer = Typewriter()
    writer.type("lost")
    updates = writer.updates("." * 200)
    with raw_client(shared_gateway, name_of(shared_project), "a.md") as client:
        for number, update in enumerate(updates):
            client.send_update(update)
            if number % 50 == 0:
                others[0].type(f"<{number}>")
        others[1].until_text("<0><50><100><150>")
    assert text_of(shared_project) == "<0><50><100><150>"


def test_connecting_again_with_nothing_new_makes_no_version(edit: Edit, shared_project: httpx.Client) -> None:
    editor = edit().synced()
    editor.type("something")
    version = until_text(shared_project, "something")
    for _ in range(5):
        editor.disconnect()
        editor.unsynced()
        editor.connect()
        editor.synced()
    edit().synced()
    assert version_of(shared_project) == version


def test_opening_a_file_that_is_not_there_creates_nothing(edit: Edit, shared_project: httpx.Client) -> None:
    put(shared_project, "other.md", "x")
    editor = edit().synced()
    editor.leave()
    assert shared_project.get("/files/a.md").status_code == 404


def test_messages_of_every_length_arrive_whole(tmp_path: Path) -> None:
    lengths = [1, *range(60, 130), *range(65_480, 65_545), 200_000]  # past those at which the head of a frame grows
    writer, reader = Typewriter(), Typewriter()
    with (
        GatewayProcess(tmp_path / "gateway.db", GATEWAY_ROOM_WINDOW_MS=0) as gateway,
        raw_client(gateway, "demo", "a.md") as writing,
        raw_client(gateway, "demo", "a.md") as reading,
    ):
        writing.join(writer.document)
        reading.join(reader.document)
        for length in lengths:
            writing.send_update(writer.type("x" * length))
            reader.document.apply_update(reading.receive_sync("update"))
            assert str(reader.text) == str(writer.text)
            writing.send_update(writer.erase())
            reader.document.apply_update(reading.receive_sync("update"))


# The other doors


def test_what_comes_over_http_appears_in_open_rooms(edit: Edit, shared_project: httpx.Client) -> None:
    put(shared_project, "a.md", "one\n")
    first, second = edit().synced(), edit().synced()
    put(shared_project, "a.md", "one\ntwo\n")
    for editor in (first, second):
        editor.until_text("one\ntwo\n")
    writer = Typewriter(shared_project.get("/files/a.md").content)
    shared_project.patch("/files/a.md", content=writer.type("three\n"), headers=OCTETS).raise_for_status()
    first.until_text("one\ntwo\nthree\n")
    shared_project.post("/history/a.md/restore", json={"version": 1}).raise_for_status()
    for editor in (first, second):
        editor.until_text("one\n")


def test_a_file_that_comes_into_being_appears_in_a_room_that_waited_for_it(
    edit: Edit, shared_project: httpx.Client
) -> None:
    by_put, by_move = edit("put.md").synced(), edit("moved.md").synced()
    put(shared_project, "put.md", "put")
    by_put.until_text("put")
    put(shared_project, "source.md", "moved")
    shared_project.post("/files/move", json={"from": "source.md", "to": "moved.md"}).raise_for_status()
    by_move.until_text("moved")
    by_move.type(" and typed")
    until_text(shared_project, "moved and typed", "moved.md")


def test_edits_in_rooms_appear_in_status_feed_and_increments_and_wake_who_waits(
    edit: Edit, shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    cursor = put(shared_project, "a.md", "one")["cursor"]
    replica = Typewriter(shared_project.get("/files/a.md").content)
    editor = edit().synced()
    with Waiting(shared_gateway, name_of(shared_project)) as waiting:
        wakes = Wakes(shared_gateway)
        asked = [
            waiting.start("GET", "/changes", params={"since": cursor, "wait": _PATIENCE}),
            waiting.start("POST", "/files/status", json={"versions": {"a.md": 1}, "wait": _PATIENCE}),
            waiting.start("GET", "/files/a.md", params={"from_version": 1, "wait": _PATIENCE}),
        ]
        editor.type("!")
        feed, status, increment = (each.result() for each in asked)
    assert wakes() == 3
    assert names(feed.json()) == names(status.json()) == [("a.md", 2, "modified")]
    assert (increment.headers["X-From-Version"], increment.headers["X-Version"]) == ("1", "2")
    replica.document.apply_update(increment.content)
    assert str(replica.text) == "one!"


# Deletion


def test_a_deletion_ends_the_room_for_good(edit: Edit, shared_project: httpx.Client) -> None:
    editors = [edit().synced() for _ in range(3)]
    editors[0].type("x")
    for editor in editors:
        editor.until_text("x")
    version = version_of(shared_project)
    shared_project.delete("/files/a.md").raise_for_status()
    for editor in editors:
        assert editor.until_ended() == 4404
        assert not editor.comes_back
        editor.type("late")
    late = edit().synced()
    assert late.text == ""
    late.leave()
    assert shared_project.get("/files/a.md").status_code == 410
    history = shared_project.get("/history/a.md").json()["versions"]
    assert history[0]["version"] == version + 1


def test_a_move_ends_the_room_of_the_old_name(edit: Edit, shared_project: httpx.Client) -> None:
    put(shared_project, "a.md", "x")
    editor = edit().synced()
    shared_project.post("/files/move", json={"from": "a.md", "to": "b.md"}).raise_for_status()
    assert editor.until_ended() == 4404
    assert text_of(shared_project, "b.md") == "x"


def test_a_file_that_is_created_again_has_a_room_again(edit: Edit, shared_project: httpx.Client) -> None:
    put(shared_project, "a.md", "old")
    old = edit().synced()
    shared_project.delete("/files/a.md")
    put(shared_project, "a.md", "new")
    assert old.until_ended() == 4404
    new = edit().synced()
    assert new.text == "new"
    new.type("!")
    until_text(shared_project, "new!")


def test_a_late_edit_does_not_bring_a_file_back(shared_gateway: GatewayProcess, shared_project: httpx.Client) -> None:
    put(shared_project, "a.md", "old")
    with raw_client(shared_gateway, name_of(shared_project), "a.md") as client:
        writer = Typewriter(shared_project.get("/files/a.md").content)
        client.join(writer.document)
        shared_project.delete("/files/a.md")
        for update in writer.updates("late edits"):
            client.send_update(update)
        assert client.close_code() == 4404
    assert shared_project.get("/files/a.md").status_code == 410


def test_an_edit_that_waits_when_its_file_is_deleted_is_not_written_into_the_next_one(tmp_path: Path) -> None:
    window = 300
    with (
        GatewayProcess(tmp_path / "gateway.db", GATEWAY_ROOM_WINDOW_MS=window) as gateway,
        gateway.client() as project,
    ):
        waited = False
        for path in map("{}.md".format, itertools.count()):  # until the window is still open when the file is deleted
            with raw_client(gateway, "demo", path) as client:
                client.join(pycrdt.Doc())
                client.send_update(Typewriter().type("stored at once "))
                client.receive_sync("update")
                # Builds on nothing: it would fit in any file.
                client.send_update(Typewriter().type("waits for the window "))
                client.send(awareness_message((AwarenessState(1, 1, "{}"),)))
                assert client.receive_awareness()  # comes back once all before it was received
                project.delete(f"/files/{path}").raise_for_status()
                version = put(project, path, "new")["version"]
                waited = version == 3
                nothing = project.get(f"/files/{path}", params={"from_version": version, "wait": 3 * window / 1000})
                assert nothing.status_code == 204
                assert text_of(project, path) == "new"
                assert client.close_code() == 4404
            if waited:
                break


# What harms nobody else


def _update_v2() -> bytes:
    """What Y.encodeStateAsUpdateV2 makes of "Hello" typed into `content` by client 1."""
    return bytes.fromhex("0000010001010001000104000c07636f6e74656e7448656c6c6f07050101000100000100".replace(" ", ""))


_PANIC = bytes.fromhex("010187ad4bddc78887ad84da010191420c000000")

_IGNORED: dict[str, bytes | str] = {
    "a text frame": "ping",
    "an empty text frame": "",
    "an empty message": b"",
    "an unknown type": b"\x07abc",
    "an unknown type of two bytes": b"\xc8\x01abc",
    "a type that the protocol may come to have": b"\x04",
    "an answer to a question of rights": b"\x02\x00\x02no",
    "an unknown sync type": b"\x00\x09\x00",
    "a sync message without a type": b"\x00",
    "an update that ends too early": b"\x00\x02\x7fabc",
    "a state vector that ends too early": b"\x00\x00\x7f\x00",
    "awareness that ends too early": b"\x01\x05\x02\x01\x01\x02{",
    "awareness that is no UTF-8": b"\x01\x05\x01\x01\x01\x01\xff",
    "awareness of nobody knows how many": b"\x01\x04\xff\xff\xff\x7f",
    "an endless number": b"\xff" * 30,
}
_OFFENCES: dict[str, tuple[bytes, int]] = {
    "a state vector that is none": (b"\x00\x00\x03\xff\xff\xff", 4422),
    "a state vector with something after it": (b"\x00\x00\x02\x00\x00", 4422),
    "a state vector that names more clients than it holds": (sync_step_1(b"\xff\xff\xff\x7f\x01\x01"), 4422),
    "a state vector of a number that is too large": (sync_step_1(b"\x01" + b"\xff" * 8 + b"\x7f\x01"), 4422),
    "a state vector of too many clients with long ids": (
        sync_step_1(b"\x84\x8e\x06" + (b"\x80" * 7 + b"\x01\x00") * 100_100),
        4422,
    ),
    "a state vector of too many clients": (sync_step_1(b"\x84\x8e\x06" + b"\x00\x00" * 100_100), 4422),
    "an update that is noise": (sync_update(b"\x01\x02\x03\x04\x05\x06\x07\x08"), 4422),
    "an update with something after it": (sync_update(Typewriter().type("x") + b"\0"), 4422),
    "an update of encoding v2": (sync_update(_update_v2()), 4422),
    "an update that makes yrs panic": (sync_update(_PANIC), 4422),
    "an answer that is noise": (sync_step_2(b"\xff\xff\xff"), 4422),
}


def test_what_is_not_of_the_protocol_is_ignored_and_counted(
    edit: Edit, shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    present = edit().synced()
    with raw_client(shared_gateway, name_of(shared_project), "a.md") as client:
        writer = Typewriter()
        client.join(writer.document)
        for name, message in _IGNORED.items():
            ignored = figure(shared_gateway, "gateway_room_messages_ignored_total")
            client.send(message)
            client.send_update(writer.type(f"<{name}>"))
            present.until_holds(f"<{name}>")
            assert figure(shared_gateway, "gateway_room_messages_ignored_total") == ignored + 1, name
    assert text_of(shared_project) == str(writer.text)


@pytest.mark.parametrize("offence", _OFFENCES)
def test_who_offends_is_closed_and_nobody_else_notices(
    edit: Edit, shared_gateway: GatewayProcess, shared_project: httpx.Client, offence: str
) -> None:
    message, code = _OFFENCES[offence]
    present = edit(client=1234567).synced()
    present.type("before ")
    until_text(shared_project, "before ")
    with raw_client(shared_gateway, name_of(shared_project), "a.md") as client:
        client.join(pycrdt.Doc())
        present.type("during ")
        until_text(shared_project, "before during ")
        client.send(message)
        assert client.close_code() == code
    present.type("after")
    until_text(shared_project, "before during after")
    assert present.text == "before during after"
    newcomer = edit().synced()
    assert newcomer.text == "before during after"


def test_a_message_over_the_limit_ends_its_connection(
    shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    with raw_client(shared_gateway, name_of(shared_project), "a.md") as client:
        client.join(pycrdt.Doc())
        # Its head alone, which tells how long it is: with the rest unread, TCP might drop what the gateway has to say.
        length = (17 * 2**20).to_bytes(8)
        client.socket.socket.sendall(b"\x82\xff" + length + b"mask")
        assert client.close_code() == 4413


def test_a_document_over_the_limit_is_sent_once(edit: Edit, shared_project: httpx.Client) -> None:
    editor = edit(text="x" * (17 * 2**20))
    assert editor.until_ended() == 4413
    assert not editor.comes_back
    other = edit().synced()
    other.type("others go on")
    until_text(shared_project, "others go on")


@pytest.mark.parametrize("offence", [name for name in _OFFENCES if "an update" in name])
def test_what_others_send_together_with_an_offence_is_stored(
    edit: Edit, shared_gateway: GatewayProcess, shared_project: httpx.Client, offence: str
) -> None:
    message, _ = _OFFENCES[offence]
    present = edit(client=1234567).synced()
    typed = "".join(f"<{number}>" for number in range(60))
    for number in range(60):
        present.type(f"<{number}>")
        if number % 5 == 0:
            with raw_client(shared_gateway, name_of(shared_project), "a.md") as client:
                client.send(message)
    until_text(shared_project, typed)
    newcomer = edit().synced()
    assert newcomer.text == present.text == typed


def test_what_was_sent_before_an_offence_is_stored(
    shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    with raw_client(shared_gateway, name_of(shared_project), "a.md") as client:
        client.join(pycrdt.Doc())
        for update in Typewriter().updates("still good"):
            client.send_update(update)
        client.send(_OFFENCES["an update that is noise"][0])
        assert client.close_code() == 4422
    until_text(shared_project, "still good")


def test_a_message_over_the_limit_is_refused_in_parts_as_well(
    shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    with raw_client(shared_gateway, name_of(shared_project), "a.md") as client:
        with contextlib.suppress(ConnectionClosed):
            client.socket.send(iter([b"\x00\x02", *[b"\0" * 2**20] * 17]))
        assert client.close_code() == 4413


def test_there_is_room_for_so_many(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_ROOM_CONNECTIONS=2) as gateway:
        with raw_client(gateway, "demo", "a.md") as first:
            first.join(pycrdt.Doc())
            with raw_client(gateway, "demo", "b.md") as second:
                second.join(pycrdt.Doc())
                with raw_client(gateway, "demo", "a.md") as third:
                    assert third.close_code() == 1013
            wait_for_figure(gateway, "gateway_room_connections", 1)
        with raw_client(gateway, "demo", "a.md") as fourth:
            fourth.join(pycrdt.Doc())


# The end of a gateway


def test_a_stopping_gateway_sends_everybody_to_come_again(open_editor: Edit, tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "gateway.db").start()
    editors = [open_editor(gateway, "demo", f"{number % 2}.md").synced() for number in range(6)]
    for number, editor in enumerate(editors):
        editor.insert(f"<{number}>")
    assert gateway.stop() == 0
    assert [editor.until_closed() for editor in editors] == [1012] * 6
    with gateway:
        for editor in editors:
            editor.synced()
        for parity in (0, 1):
            for editor in editors[parity::2]:
                for number in range(parity, 6, 2):
                    editor.until_holds(f"<{number}>")
        assert not any("Traceback" in line or "never retrieved" in line for line in gateway.log)


def test_kill_9_while_people_type_loses_nothing_that_anybody_else_has_seen(open_editor: Edit, tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "gateway.db").start()
    typists = [open_editor(gateway, "demo", "a.md").synced() for _ in range(2)]
    readers = [open_editor(gateway, "demo", "a.md").synced() for _ in range(2)]
    typed = 0
    for round_ in range(4):
        for number in range(30 + 10 * round_):  # the last of these are on their way when the gateway is killed
            typists[number % 2].insert(f"<{typed}>")
            typed += 1
        gateway.kill()
        for reader in readers:
            reader.disconnect()
        for typist in typists:
            typist.disconnect()
        seen = [reader.text for reader in readers]
        gateway.start()
        with gateway.client() as client:  # before anybody has come back who could bring it again
            answer = client.get("/files/a.md", params={"format": "text"})
            stored = answer.text if answer.status_code == 200 else ""
        for text in seen:
            lost = [number for number in range(typed) if f"<{number}>" in text and f"<{number}>" not in stored]
            assert lost == []
        for editor in (*typists, *readers):
            editor.connect()
        for editor in (*typists, *readers):
            editor.synced()
            for number in range(max(0, typed - 60), typed):
                editor.until_holds(f"<{number}>")
    texts = {editor.text for editor in (*typists, *readers)}
    with gateway.client() as client:
        assert texts == {text_of(client)}
    assert all(f"<{number}>" in texts.copy().pop() for number in range(typed))
    gateway.stop()


def test_the_handshake_of_nothing_is_refused(shared_gateway: GatewayProcess) -> None:
    url = shared_gateway.url.replace("http", "ws", 1) + "/nothing"
    wait_for_figure(shared_gateway, "gateway_room_connections", 0)  # those of other tests have left
    with pytest.raises(InvalidStatus, match="403"):
        connect(url, **WEBSOCKET)
    assert figure(shared_gateway, "gateway_room_connections") == 0


def test_a_client_that_asks_late_is_sent_all_of_it(
    shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    writer = Typewriter()
    name = name_of(shared_project)
    with raw_client(shared_gateway, name, "a.md") as silent, raw_client(shared_gateway, name, "a.md") as loud:
        loud.join(writer.document)
        for number in range(20):
            loud.send_update(writer.type(f"<{number}>"))
            loud.receive_sync("update")
        document: pycrdt.Doc[Any] = pycrdt.Doc()
        silent.join(document)
        assert str(document.get("content", type=pycrdt.Text)) == str(writer.text)
        loud.send_update(writer.type("and on"))
        document.apply_update(silent.receive_sync("update"))
        assert str(document.get("content", type=pycrdt.Text)) == str(writer.text)
