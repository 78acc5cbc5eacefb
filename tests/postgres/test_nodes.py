"""Two gateways on one database behave as one: waits, streams, rooms, turns, and the end of a gateway."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pycrdt
import pytest

from gateway.rooms.close_codes import FILE_DELETED
from tests.gateway.test_transfer import run
from tests.live.clients import OCTETS, PLAIN, Waiting, event_stream, figure, put
from tests.live.editors import Typewriter
from tests.live.test_rooms import Edit, text_of, until_text
from tests.postgres.conftest import Nodes
from tests.support.server import PATIENCE_S, GatewayProcess
from tests.support.turn_events import BlocksView, events_in

_NDJSON = {"Content-Type": "application/x-ndjson"}


def _sequence(cursor: str) -> int:
    return int(cursor.split(".")[1])


def test_what_a_client_was_told_by_one_gateway_the_other_knows(nodes: Nodes) -> None:
    with nodes[0].client() as a, nodes[1].client() as b:
        for number in range(30):
            writer, reader = (a, b) if number % 2 else (b, a)
            receipt = put(writer, "a.md", f"text {number}")
            tag = writer.get("/files/a.md").headers["ETag"]
            since = {"from_version": receipt["version"]}
            assert reader.get("/files/a.md", params=since).status_code == 204
            assert reader.get("/files/a.md", headers={"If-None-Match": tag}).status_code == 304
            status = {"since": receipt["cursor"], "versions": {"a.md": receipt["version"]}}
            answer = reader.post("/files/status", json=status).raise_for_status().json()
            assert answer["changes"] == []
            assert _sequence(answer["cursor"]) >= _sequence(receipt["cursor"])
            changes = reader.get("/changes", params={"since": receipt["cursor"]}).raise_for_status().json()
            assert (changes["changes"], changes.get("reset")) == ([], None)
            unchanged = {"Content-Type": "text/plain", "If-Match": tag}
            assert reader.put("/files/a.md", content=f"more {number}", headers=unchanged).status_code == 200


def test_an_update_that_builds_on_what_the_other_gateway_stored_is_taken(nodes: Nodes) -> None:
    with nodes[0].client() as a, nodes[1].client() as b:
        typewriter = Typewriter()
        text = "".join(chr(97 + number % 26) for number in range(40))
        for number, letter in enumerate(text):
            writer = (a, b)[number % 2]
            answer = writer.patch("/files/a.md", content=typewriter.type(letter), headers=OCTETS)
            assert answer.status_code in (200, 201), answer.text
            assert (answer.json()["version"], answer.json().get("incomplete")) == (number + 1, None)
        for project in (a, b):
            assert text_of(project) == text
    # Each took over what the other one had stored, instead of reading the document again.
    assert figure(nodes[0], "gateway_hot_documents") == figure(nodes[1], "gateway_hot_documents") == 1


def test_who_waits_at_one_gateway_is_woken_by_a_write_at_the_other(nodes: Nodes) -> None:
    with nodes[0].client() as a, nodes[1].client() as b:
        first = put(a, "a.md", "one")
        tag = b.get("/files/a.md").headers["ETag"]
        wait = {"wait": 60}
        with Waiting(nodes[1]) as waiting:
            asked = [
                waiting.start("GET", "/files/a.md", params=wait, headers={"If-None-Match": tag}),
                waiting.start("GET", "/files/a.md", params={**wait, "from_version": first["version"]}),
                waiting.start("GET", "/changes", params={**wait, "since": first["cursor"]}),
                waiting.start("POST", "/files/status", json={"since": first["cursor"], "wait": 60}),
            ]
            second = put(a, "a.md", "two")
            answers = [each.result(timeout=PATIENCE_S) for each in asked]
            assert [answer.status_code for answer in answers] == [200] * 4
            assert [answer.headers["X-Version"] for answer in answers[:2]] == [str(second["version"])] * 2
            assert [answer.json()["changes"][0]["version"] for answer in answers[2:]] == [second["version"]] * 2
        with event_stream(b) as stream:
            stream.until_ready()
            for number in range(5):
                put((a, b)[number % 2], f"{number}.md", "x")
            assert [stream.next("change").json["path"] for _ in range(5)] == [f"{number}.md" for number in range(5)]


def test_an_unchanged_poll_reads_nothing_from_the_database(nodes: Nodes, database: str) -> None:
    with nodes[0].client() as a, nodes[1].client() as b:
        receipt = put(a, "a.md", "one")
        tag = b.get("/files/a.md").headers["ETag"]
        question = {"since": receipt["cursor"], "versions": {"a.md": 1}}
        deadline, read = time.monotonic() + PATIENCE_S, 1.0
        while read:  # where the gateway or its database stood still for a second, it has to look
            assert time.monotonic() < deadline, f"{read} reads for 100 polls"
            before = figure(nodes[1], "gateway_catch_ups_total")
            for _ in range(50):
                assert b.get("/files/a.md", headers={"If-None-Match": tag}).status_code == 304
                assert b.post("/files/status", json=question).json()["changes"] == []
            read = figure(nodes[1], "gateway_catch_ups_total") - before
        while figure(nodes[1], "gateway_storage_lag_seconds") >= 1:
            assert time.monotonic() < deadline


def test_rooms_of_two_gateways_are_one_room(nodes: Nodes, open_editor: Edit) -> None:
    here, there = open_editor(nodes[0], "demo", "a.md"), open_editor(nodes[1], "demo", "a.md")
    here.synced()
    there.synced()
    here.say({"name": "ann"})
    there.say({"name": "bob"})
    here.until_others("bob")
    there.until_others("ann")
    here.insert("hello ")
    there.until_text("hello ")
    there.insert("world", at=6)
    here.until_text("hello world")
    late = open_editor(nodes[1], "demo", "a.md")
    late.synced()
    late.until_text("hello world")
    late.until_others("ann", "bob")
    with nodes[0].client() as a:
        put(a, "a.md", "by HTTP")
        for editor in (here, there, late):
            editor.until_text("by HTTP")
        a.delete("/files/a.md").raise_for_status()
        for editor in (here, there, late):
            assert editor.until_ended() == FILE_DELETED


def test_a_gateway_that_is_killed_takes_its_clients_out_of_the_rooms(nodes: Nodes, open_editor: Edit) -> None:
    here, there = open_editor(nodes[0], "demo", "a.md"), open_editor(nodes[1], "demo", "a.md")
    here.synced()
    there.synced()
    here.say({"name": "ann"})
    there.until_others("ann")
    nodes[0].kill()
    there.until_others()


def test_writers_at_both_gateways_lose_nothing(nodes: Nodes, database: str) -> None:
    texts = [[f"{writer}:{number};" for number in range(15)] for writer in range(6)]

    def write(writer: int) -> list[dict[str, Any]]:
        document: pycrdt.Doc[Any] = pycrdt.Doc()
        content = document.get("content", type=pycrdt.Text)
        receipts = []
        with nodes[writer % 2].client() as client:
            for text in texts[writer]:
                before = document.get_state()
                content.insert(len(str(content)), text)
                answer = client.patch("/files/a.md", content=document.get_update(before), headers=OCTETS)
                receipts.append(answer.raise_for_status().json())
                put(client, f"own/{writer}.md", text)
        return receipts

    with ThreadPoolExecutor(6) as pool:
        receipts = [receipt for each in pool.map(write, range(6)) for receipt in each]
    assert sorted(receipt["version"] for receipt in receipts) == list(range(1, 91))
    with nodes[0].client() as a, nodes[1].client() as b:
        assert text_of(a) == text_of(b)
        for each in texts:
            assert all(text in text_of(a) for text in each)
        sequences = [_sequence(receipt["cursor"]) for receipt in receipts]
        assert len(set(sequences)) == len(sequences)
    assert " 0 faults" in run(database, "verify")


def test_a_feed_that_changes_gateways_sees_every_change_once(nodes: Nodes) -> None:
    with nodes[0].client() as a, nodes[1].client() as b, ThreadPoolExecutor(2) as pool:

        def write(client: httpx.Client, name: str) -> None:
            for number in range(25):
                put(client, f"{name}/{number}.md", "x")

        put(a, "first.md", "x")
        writing = [pool.submit(write, a, "a"), pool.submit(write, b, "b")]
        cursor, seen, turn = None, list[str](), 0
        while len(seen) < 51:
            turn += 1
            parameters = {"wait": 60, "limit": 7, **({} if cursor is None else {"since": cursor})}
            answer = (a, b)[turn % 2].get("/changes", params=parameters).raise_for_status().json()
            assert "reset" not in answer
            seen += [change["path"] for change in answer["changes"]]
            cursor = answer["cursor"]
        for each in writing:
            each.result()
        assert len(seen) == len(set(seen)) == 51


def test_a_turn_goes_on_at_the_other_gateway_when_one_is_killed(database: str) -> None:
    with (
        GatewayProcess(database) as first,
        GatewayProcess(database) as second,
        first.client() as a,
        second.client() as b,
    ):
        session = a.post("/sessions", json={}).raise_for_status().json()["id"]
        key = {"Idempotency-Key": "once"}
        body = {"prompt": "do"}
        made = a.post(f"/sessions/{session}/turns", json=body, headers=key).raise_for_status().json()
        again = b.post(f"/sessions/{session}/turns", json=body, headers=key).raise_for_status().json()
        assert again["id"] == made["id"]
        url = f"/sessions/{session}/turns/{made['id']}"
        line = json.dumps({"type": "assistant", "message": {"content": [{"type": "text", "text": "one"}]}})
        said = a.post(f"{url}/output", content=line + "\n", headers=_NDJSON).raise_for_status().json()
        answer = b.get(url)
        while answer.status_code == 304 or answer.json()["block_count"] == 0:  # what the other one stored comes soon
            tag = answer.headers["ETag"]
            answer = b.get(url, params={"wait": 60}, headers={"If-None-Match": tag})
        tag = answer.headers["ETag"]
        with Waiting(second) as waiting:
            asked = waiting.start("GET", url, params={"wait": 60}, headers={"If-None-Match": tag})
            first.kill()
            more = {"offset": said["offset"], "final": "true"}
            other = json.dumps({"type": "result", "subtype": "success", "is_error": False, "result": "ok"})
            b.post(f"{url}/output", content=other + "\n", headers=_NDJSON, params=more).raise_for_status()
            answer = asked.result(timeout=PATIENCE_S)
            while answer.status_code == 304 or answer.json()["status"] == "running":  # it ends in several steps
                answer = b.get(url, params={"wait": 60}, headers={"If-None-Match": answer.headers["ETag"]})
            assert answer.json()["status"] == "completed"
    assert " 0 faults" in run(database, "verify")


def test_a_silent_turn_of_a_killed_gateway_is_ended_by_the_other(database: str) -> None:
    lease = {"GATEWAY_TURN_LEASE": 1}
    with (
        GatewayProcess(database, **lease) as first,
        GatewayProcess(database, **lease) as second,
        first.client() as a,
        second.client() as b,
    ):
        session = a.post("/sessions", json={}).raise_for_status().json()["id"]
        turns = []
        for _ in range(3):
            turn = a.post(f"/sessions/{session}/turns", json={"prompt": "x"}).raise_for_status().json()["id"]
            turns.append(f"/sessions/{session}/turns/{turn}")
            a.patch(turns[-1], json={"status": "running"}).raise_for_status()
        first.kill()
        for url in turns:
            answer = b.get(url)
            while answer.status_code == 304 or answer.json()["status"] == "running":
                tag = answer.headers["ETag"]
                answer = b.get(url, params={"wait": 60}, headers={"If-None-Match": tag})
            assert (answer.json()["status"], answer.json()["error"]) == ("failed", "lease expired")


@pytest.mark.parametrize("round", range(2))
def test_a_killed_gateway_loses_nothing_that_it_acknowledged(database: str, round: int) -> None:
    with GatewayProcess(database) as first, GatewayProcess(database) as second:
        acknowledged: list[str] = []

        def write(writer: int) -> None:
            typed = 0
            with first.client() as a:
                try:
                    while True:
                        path = f"{writer}/{typed}.md"
                        receipt = a.put(f"/files/{path}", content=path, headers=PLAIN)
                        if receipt.status_code == 503:  # repeat it
                            continue
                        assert receipt.status_code in (200, 201), receipt.text
                        acknowledged.append(path)
                        typed += 1
                except httpx.TransportError:
                    return

        with ThreadPoolExecutor(4) as pool:
            writing = [pool.submit(write, writer) for writer in range(4)]
            with second.client() as b:
                heard = 0
                cursor = None
                while heard < 20:
                    for each in writing:
                        assert not each.done(), each.result()
                    parameters = {"wait": 60} if cursor is None else {"wait": 60, "since": cursor}
                    answer = b.get("/changes", params=parameters)
                    if answer.status_code == 200:
                        heard += len(answer.json()["changes"])
                        cursor = answer.json()["cursor"]
                first.kill()
                for each in writing:
                    each.result()
                files = {entry["path"] for entry in b.get("/files", params={"limit": 10000}).json()["files"]}
                assert set(acknowledged) <= files
                assert len(files - set(acknowledged)) <= 4  # stored, and the answer was lost
                put(b, "after.md", "x")
    assert " 0 faults" in run(database, "verify")


def test_text_typed_in_a_room_is_in_the_feed_of_the_other_gateway(nodes: Nodes, open_editor: Edit) -> None:
    editor = open_editor(nodes[0], "demo", "a.md")
    editor.synced()
    editor.type("typed in a room")
    with nodes[1].client() as b:
        until_text(b, "typed in a room")


def test_the_events_of_a_turn_come_from_any_gateway(nodes: Nodes) -> None:
    """What one gateway stores is sent by the other; the first one is killed, and a follower of it goes on there."""
    with nodes[0].client() as a, nodes[1].client() as b:
        session = a.post("/sessions", json={}).json()["id"]
        turn = a.post(f"/sessions/{session}/turns", json={"prompt": "p"}).json()["id"]
        path = f"/sessions/{session}/turns/{turn}"
        view, cut = BlocksView(), BlocksView()

        def add(writer: httpx.Client, number: int) -> None:
            blocks = {"blocks": [{"type": "text", "content": f"{number}"}], "first_index": number}
            writer.post(f"{path}/blocks", json=blocks).raise_for_status()

        with b.stream("GET", f"{path}/events") as there, a.stream("GET", f"{path}/events") as here:
            there_events, here_events = events_in(there.iter_lines()), events_in(here.iter_lines())
            for number in range(4):
                add((a, b)[number % 2], number)
                while len(view.blocks) <= number:
                    view.take(next(there_events))
                while len(cut.blocks) <= number:
                    cut.take(next(here_events))
            nodes[0].kill()
            add(b, 4)
            b.patch(path, json={"status": "completed"}).raise_for_status()
            for event in there_events:
                view.take(event)
        answer = b.get(f"{path}/events", headers={"Last-Event-ID": cut.last_id or "0"})
        resumed = list(events_in(answer.text.split("\n")))
        assert [event.data["index"] for event in resumed if event.kind == "block"] == [4]
        for event in resumed:
            cut.take(event)
        stored = b.get(path).json()["blocks"]
        assert list(view.blocks.values()) == list(cut.blocks.values()) == stored
        assert view.status == cut.status == "completed"
