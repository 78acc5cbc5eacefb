"""A file that is deleted, and what comes after it: who means the incarnation that is over is told, and who does not may
begin the next one, in every transport."""

import base64
from collections.abc import Callable

import httpx
import pycrdt
import pytest

from gateway.yjs.messages import sync_step_1, sync_step_2, sync_update
from tests.live.clients import OCTETS, name_of, put
from tests.live.editors import Editor, Typewriter, raw_client
from tests.live.test_rooms import text_of, until_text
from tests.support.server import GatewayProcess

Edit = Callable[..., Editor]


def delete(project: httpx.Client, path: str = "a.md") -> None:
    project.delete(f"/files/{path}").raise_for_status()


def create_again(project: httpx.Client, text: str, path: str = "a.md") -> None:
    delete(project, path)
    put(project, path, text)


@pytest.mark.parametrize("lives", [1, 3])
@pytest.mark.parametrize("writes", [False, True])
def test_who_slept_through_a_new_life_is_sent_away_and_nothing_is_doubled(
    edit: Edit, shared_project: httpx.Client, writes: bool, lives: int
) -> None:
    put(shared_project, "a.md", "hello\n")
    sleeper = edit().synced()
    typed = "and typed" if writes else ""
    if writes:
        sleeper.type(typed)
        until_text(shared_project, f"hello\n{typed}")
    sleeper.disconnect()
    sleeper.unsynced()
    for _ in range(lives):
        create_again(shared_project, "hello\n")
    if writes:
        sleeper.type(" offline")
    sleeper.connect()
    assert sleeper.until_ended() == 4404
    assert not sleeper.comes_back
    assert text_of(shared_project) == "hello\n"
    assert "hello\nhello" not in sleeper.text
    newcomer = edit().synced()
    newcomer.type("a new document is welcome")
    until_text(shared_project, "hello\na new document is welcome")


def test_a_room_on_a_deleted_path_begins_a_new_life(edit: Edit, shared_project: httpx.Client) -> None:
    put(shared_project, "a.md", "old")
    former = shared_project.get("/files/a.md").headers["X-Incarnation"]
    sleeper = edit().synced()
    sleeper.disconnect()
    sleeper.unsynced()
    delete(shared_project)
    readers = [edit().synced() for _ in range(2)]
    assert shared_project.get("/files/a.md").status_code == 410
    sleeper.connect()
    assert sleeper.until_ended() == 4404
    assert shared_project.get("/files/a.md").status_code == 410
    readers[0].insert("new")
    for reader in readers:
        reader.until_text("new")
    assert until_text(shared_project, "new") == 3
    assert shared_project.get("/files/a.md").headers["X-Incarnation"] != former
    delete(shared_project)
    assert [reader.until_ended() for reader in readers] == [4404, 4404]


def test_who_typed_before_connecting_brings_nothing_of_the_past(edit: Edit, shared_project: httpx.Client) -> None:
    put(shared_project, "a.md", "old")
    delete(shared_project)
    edit(text="typed offline").synced()
    until_text(shared_project, "typed offline")


def test_what_came_back_with_a_move_is_of_the_present(edit: Edit, shared_project: httpx.Client) -> None:
    put(shared_project, "a.md", "moved ")
    sleeper = edit().synced()
    sleeper.type("there ")
    until_text(shared_project, "moved there ")
    sleeper.disconnect()
    sleeper.unsynced()
    for source, target in (("a.md", "b.md"), ("b.md", "a.md")):
        shared_project.post("/files/move", json={"from": source, "to": target}).raise_for_status()
    sleeper.type("and back")
    sleeper.connect()
    until_text(shared_project, "moved there and back")


@pytest.mark.parametrize("deleted", [True, False])
def test_what_means_a_past_life_is_refused(
    shared_gateway: GatewayProcess, shared_project: httpx.Client, deleted: bool
) -> None:
    put(shared_project, "a.md", "old")
    old = shared_project.get("/files/a.md")
    life, writer = old.headers["X-Incarnation"], Typewriter(old.content)
    writer.type(" later")
    whole = writer.document.get_update()
    state = writer.document.get_state()
    text = writer.document.get("content", type=pycrdt.Text)
    before = writer.document.get_state()
    del text[0:2]
    deletion = writer.document.get_update(before)
    delete(shared_project)
    if not deleted:
        put(shared_project, "a.md", "new")
    found = shared_project.get("/files/a.md")
    for update in (whole, deletion):
        refused = shared_project.patch("/files/a.md", content=update, headers={**OCTETS, "X-Incarnation": life})
        assert (refused.status_code, refused.json()["code"]) == (410, "file_deleted")
    for message in (sync_update(whole), sync_step_2(whole), sync_update(deletion), sync_step_1(state)):
        with raw_client(shared_gateway, name_of(shared_project), "a.md") as client:
            client.send(message)
            assert client.close_code() == 4404
    again = shared_project.get("/files/a.md")
    assert (again.status_code, again.headers["ETag"]) == (found.status_code, found.headers["ETag"])


@pytest.mark.parametrize("transport", ["patch", "put", "sync", "room"])
def test_every_transport_creates_a_deleted_file_again(
    shared_gateway: GatewayProcess, shared_project: httpx.Client, transport: str
) -> None:
    put(shared_project, "a.md", "old")
    delete(shared_project)
    update = Typewriter().type("new")
    if transport == "patch":
        assert shared_project.patch("/files/a.md", content=update, headers=OCTETS).status_code == 201
    elif transport == "put":
        put(shared_project, "a.md", "new")
    elif transport == "sync":
        body = {"updates": {"a.md": base64.b64encode(update).decode()}}
        assert shared_project.post("/sync", json=body).json()["results"]["a.md"]["version"] == 3
    else:
        with raw_client(shared_gateway, name_of(shared_project), "a.md") as client:
            client.join(pycrdt.Doc())
            client.send_update(update)
            client.receive_sync("update")
    assert text_of(shared_project) == "new"
