"""A turn as server-sent events: what comes while it runs, again after a break, and in the formats of the chat kits."""

import json
import re
import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.turns.events import AgUiEvents, AiSdkEvents, BlockEvents, TurnEvents
from storage import StoredBlock, TurnHead
from tests.gateway.test_growing_blocks import NDJSON, event, new_turn
from tests.support.agent_stream import FAILURE, SUCCESS, assistant, line, text, user
from tests.support.server import GatewayProcess
from tests.support.turn_events import BlocksView, Event, events_in

START = event("message_start", message={"id": "m1"})
USE = line(assistant({"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}))
RESULT = line(user({"type": "tool_result", "tool_use_id": "t1", "content": [text("a.md"), text("b.md")]}))


def thought(value: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": value})


def said(value: str) -> bytes:
    return event("content_block_delta", index=1, delta={"type": "text_delta", "text": value})


PIECES = [
    START + thought("Two "),
    thought("files."),
    line(assistant({"type": "thinking", "thinking": "Two files."})) + said("I’ll "),
    said("list "),
    said("them 👩‍👩‍👧."),
    line(assistant(text("I’ll list them 👩‍👩‍👧."))),
    USE,
    RESULT,
    line(assistant(text("Done."))),
    line(SUCCESS),
]


class Followed:
    """A turn of the shared gateway, whose output is sent piece by piece."""

    def __init__(self, api: httpx.Client) -> None:
        self.api = api
        self.session, self.turn = new_turn(api)
        self.path = f"/sessions/{self.session}/turns/{self.turn}"
        self.events = f"{self.path}/events"

    def output(self, piece: bytes, *, final: bool = False) -> None:
        params = {"final": str(final).lower()}
        self.api.post(f"{self.path}/output", content=piece, headers=NDJSON, params=params).raise_for_status()

    def all_output(self) -> None:
        self.output(b"".join(PIECES), final=True)

    def stored(self) -> list[Any]:
        blocks: list[Any] = self.api.get(self.path).json()["blocks"]
        return blocks

    def read(self, **params: str) -> list[Event]:
        answer = self.api.get(self.events, params=params)
        assert answer.status_code == 200, answer.text
        return list(events_in(answer.text.split("\n")))


@pytest.fixture
def followed(shared_project: httpx.Client) -> Followed:
    return Followed(shared_project)


def test_blocks_come_as_they_grow_and_the_stream_ends_with_the_turn(followed: Followed) -> None:
    view = BlocksView()
    writer = threading.Thread(target=lambda: [followed.output(p, final=p is PIECES[-1]) for p in PIECES])
    writer.start()
    with followed.api.stream("GET", followed.events) as response:
        for each in events_in(response.iter_lines()):
            view.take(each)
    writer.join(120)
    assert list(view.blocks.values()) == followed.stored()
    assert view.status == "completed"
    assert view.last_id == f"{len(view.blocks)}.end"
    again = followed.api.get(followed.events, headers={"Last-Event-ID": view.last_id})
    assert again.status_code == 204  # an EventSource is told that there is no more


def test_a_growing_text_is_sent_by_what_is_added(followed: Followed) -> None:
    seen = []
    pieces = iter([said("Hello "), said("you"), line(assistant(text("Hello you."))), line(SUCCESS)])
    with followed.api.stream("GET", followed.events) as response:
        for each in events_in(response.iter_lines()):
            seen.append((each.kind, each.data.get("delta") or each.data.get("content")))
            if (piece := next(pieces, None)) is not None:
                followed.output(piece, final=b'"result"' in piece)
                if len(seen) == 1:  # pending; the next event says running, and the block follows at once
                    pieces = iter([b"", *pieces])
    texts = [(kind, value) for kind, value in seen if kind in ("block", "delta") and isinstance(value, str)]
    assert texts == [("block", "Hello "), ("delta", "you"), ("delta", ".")]


def test_a_follower_that_resumes_anywhere_has_the_blocks(followed: Followed) -> None:
    """The connection breaks after each event in turn, and the client comes back with the id that it saw last."""
    view, pieces = BlocksView(), iter(PIECES)
    while view.status not in ("completed", "failed"):
        headers = {} if view.last_id is None else {"Last-Event-ID": view.last_id}
        piece = next(pieces, None)
        if piece is not None:
            followed.output(piece, final=piece is PIECES[-1])
        wanted = {block["index"]: block for block in followed.stored()}
        with followed.api.stream("GET", followed.events, headers=headers) as response:
            for each in events_in(response.iter_lines()):
                view.take(each)
                if view.blocks == wanted and view.status != "completed" and piece is not PIECES[-1]:
                    break
    assert list(view.blocks.values()) == followed.stored()


@pytest.mark.parametrize("cursor", ["99", "99.end", "nonsense", "-1", "1e9", "٣", "9" * 400])
def test_a_strange_cursor_means_the_start(followed: Followed, cursor: str) -> None:
    followed.all_output()
    view = BlocksView()
    view.blocks = {index: {"of": "another life"} for index in range(99)}
    answer = followed.api.get(followed.events, headers={"Last-Event-ID": cursor.encode()})
    for each in events_in(answer.text.split("\n")):
        view.take(each)
    assert "event: reset" in answer.text
    assert list(view.blocks.values()) == followed.stored()


def test_after_block_leaves_out_what_the_client_has(followed: Followed) -> None:
    followed.all_output()
    assert [each.data["index"] for each in followed.read(after_block="3") if each.kind == "block"] == [3, 4, 5]
    assert followed.api.get(followed.events, params={"after_block": "x"}).status_code == 400


AI_SDK = [
    {"type": "start", "messageId": "T"},
    {"type": "start-step"},
    {"type": "reasoning-start", "id": "T.0"},
    {"type": "reasoning-delta", "id": "T.0", "delta": "Two files."},
    {"type": "reasoning-end", "id": "T.0"},
    {"type": "text-start", "id": "T.1"},
    {"type": "text-delta", "id": "T.1", "delta": "I’ll list them 👩‍👩‍👧."},
    {"type": "text-end", "id": "T.1"},
    {
        "type": "tool-input-available",
        "toolCallId": "t1",
        "toolName": "Bash",
        "input": {"command": "ls"},
        "providerExecuted": True,
        "dynamic": True,
    },
    {
        "type": "tool-output-available",
        "toolCallId": "t1",
        "output": [text("a.md"), text("b.md")],
        "providerExecuted": True,
        "dynamic": True,
    },
    {"type": "text-start", "id": "T.4"},
    {"type": "text-delta", "id": "T.4", "delta": "Done."},
    {"type": "text-end", "id": "T.4"},
    {"type": "data-result", "id": "T.5", "data": SUCCESS},
    {"type": "finish-step"},
    {"type": "finish", "finishReason": "stop"},
    "[DONE]",
]
RUN = {"threadId": "S", "runId": "T"}
AG_UI = [
    {"type": "RUN_STARTED", **RUN},
    {"type": "REASONING_START", "messageId": "T.0"},
    {"type": "REASONING_MESSAGE_START", "messageId": "T.0", "role": "reasoning"},
    {"type": "REASONING_MESSAGE_CONTENT", "messageId": "T.0", "delta": "Two files."},
    {"type": "REASONING_MESSAGE_END", "messageId": "T.0"},
    {"type": "REASONING_END", "messageId": "T.0"},
    {"type": "TEXT_MESSAGE_START", "messageId": "T.1", "role": "assistant"},
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "T.1", "delta": "I’ll list them 👩‍👩‍👧."},
    {"type": "TEXT_MESSAGE_END", "messageId": "T.1"},
    {"type": "TOOL_CALL_START", "toolCallId": "t1", "toolCallName": "Bash"},
    {"type": "TOOL_CALL_ARGS", "toolCallId": "t1", "delta": '{"command":"ls"}'},
    {"type": "TOOL_CALL_END", "toolCallId": "t1"},
    {"type": "TOOL_CALL_RESULT", "messageId": "T.3", "toolCallId": "t1", "content": "a.md\nb.md", "role": "tool"},
    {"type": "TEXT_MESSAGE_START", "messageId": "T.4", "role": "assistant"},
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "T.4", "delta": "Done."},
    {"type": "TEXT_MESSAGE_END", "messageId": "T.4"},
    {"type": "CUSTOM", "name": "result", "value": SUCCESS},
    {"type": "RUN_FINISHED", **RUN},
]


def plain(followed: Followed, events: list[Event]) -> list[Any]:
    """The data of events, with short names for the session and the turn."""
    text = json.dumps([each.data for each in events]).replace(followed.turn, "T").replace(followed.session, "S")
    data: list[Any] = json.loads(text)
    return data


def test_the_formats_of_the_kits(followed: Followed) -> None:
    followed.all_output()
    assert plain(followed, followed.read(format="ai-sdk", replay="true")) == AI_SDK
    assert plain(followed, followed.read(format="ag-ui")) == AG_UI


def joined(data: list[Any]) -> list[Any]:
    """Events with the deltas of one part together, whatever came in between: how often a text grew is left open."""
    whole: list[Any] = []
    parts: dict[Any, Any] = {}
    for each in data:
        if isinstance(each, dict) and each["type"].lower().endswith(("delta", "message_content")):
            key = (each["type"], each.get("id") or each.get("messageId"))
            if key in parts:
                parts[key]["delta"] += each["delta"]
                continue
            parts[key] = each = dict(each)
        whole.append(each)
    return whole


def without_order(data: list[Any]) -> list[str]:
    """Ends may come later than where the whole turn is read at once."""
    return sorted(json.dumps(each, sort_keys=True) for each in data)


@pytest.mark.parametrize(("form", "whole"), [("ai-sdk", AI_SDK), ("ag-ui", AG_UI)])
def test_a_kit_that_follows_gets_the_same_parts_once(followed: Followed, form: str, whole: list[Any]) -> None:
    started = threading.Event()

    def write() -> None:
        started.wait(120)
        for piece in PIECES:
            followed.output(piece, final=piece is PIECES[-1])

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    with followed.api.stream("GET", followed.events, params={"format": form}) as response:
        for each in events_in(response.iter_lines()):
            started.set()
            seen.append(each)
    writer.join(120)
    assert without_order(joined(plain(followed, seen))) == without_order(whole)
    starts = [each for each in plain(followed, seen) if re.search("start|START|tool-|TOOL", str(each))]
    assert starts == [each for each in whole if re.search("start|START|tool-|TOOL", str(each))]


def test_how_a_turn_ends_in_each_format(shared_project: httpx.Client) -> None:
    failed, cancelled = Followed(shared_project), Followed(shared_project)
    failed.output(line(FAILURE), final=True)
    cancelled.api.patch(cancelled.path, json={"status": "cancelled", "error": "by Ada"}).raise_for_status()
    reason = failed.api.get(failed.path).json()["error"]
    assert plain(failed, failed.read())[-1]["error"] == reason
    assert plain(failed, failed.read(format="ai-sdk", replay="true"))[-2:] == [
        {"type": "error", "errorText": reason},
        "[DONE]",
    ]
    assert plain(failed, failed.read(format="ag-ui"))[-1] == {"type": "RUN_ERROR", "message": reason, "code": "failed"}
    assert plain(cancelled, cancelled.read())[-1]["status"] == "cancelled"
    assert plain(cancelled, cancelled.read(format="ai-sdk", replay="true"))[-2:] == [
        {"type": "abort", "reason": "by Ada"},
        "[DONE]",
    ]
    assert plain(cancelled, cancelled.read(format="ag-ui"))[-1] == {
        "type": "RUN_FINISHED",
        **RUN,
        "outcome": {"type": "cancelled"},
    }


def test_there_is_nothing_to_resume_of_a_turn_that_has_ended(followed: Followed) -> None:
    followed.all_output()
    answer = followed.api.get(followed.events, params={"format": "ai-sdk"})
    assert (answer.status_code, answer.content) == (204, b"")


def test_the_headers_of_the_ai_sdk(followed: Followed) -> None:
    with followed.api.stream("GET", followed.events, params={"format": "ai-sdk"}) as response:
        assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-accel-buffering"] == "no"
    head = followed.api.head(followed.events, params={"format": "ai-sdk"})
    assert (head.status_code, head.headers["x-vercel-ai-ui-message-stream"]) == (200, "v1")


def test_a_client_of_ag_ui_asks_by_post(followed: Followed) -> None:
    followed.all_output()
    asked = {"threadId": "thread", "runId": "run", "messages": [], "tools": [], "context": [], "state": {}}
    answer = followed.api.post(followed.events, params={"format": "ag-ui"}, json=asked)
    events = [each.data for each in events_in(answer.text.split("\n"))]
    assert events[0] == {"type": "RUN_STARTED", "threadId": "thread", "runId": "run"}
    assert events[-1] == {"type": "RUN_FINISHED", "threadId": "thread", "runId": "run"}
    assert followed.api.post(followed.events, params={"format": "ai-sdk"}, json=asked).status_code == 400
    assert followed.api.post(followed.events, params={"format": "ag-ui"}, content=b"[").status_code == 415
    bad = followed.api.post(followed.events, params={"format": "ag-ui"}, json={"threadId": 1})
    assert (bad.status_code, bad.json()["code"]) == (400, "invalid_body")


def test_what_is_no_turn_or_no_format(followed: Followed) -> None:
    api = followed.api
    assert api.get(f"/sessions/{followed.session}/turns/none/events").json()["code"] == "turn_not_found"
    assert api.get(f"/sessions/none/turns/{followed.turn}/events").json()["code"] == "session_not_found"
    assert api.get(followed.events, params={"format": "AI-SDK"}).json()["code"] == "invalid_parameter"
    assert api.get(followed.events, params={"format": "ai-sdk", "replay": "1"}).json()["code"] == "invalid_parameter"
    assert api.put(followed.events).status_code == 405


def test_contents_that_no_tool_has(followed: Followed) -> None:
    """Blocks that an application adds may hold any JSON; a kit is never sent the result of a call that it has not."""
    blocks = [
        {"type": "tool_result", "content": {"tool_use_id": "of nobody", "content": "x"}},
        {"type": "tool_use", "content": 7},
        {"type": "tool_use", "content": {"id": "a", "name": "b"}},
        {"type": "tool_result", "content": {"tool_use_id": "a", "content": {"deep": [1]}, "is_error": True}},
        {"type": "text", "content": {"line": 1}},
        {"type": "text", "content": ""},
        {"type": "thinking", "content": None},
        {"type": "error", "content": {"message": "m"}},
    ]
    followed.api.post(f"{followed.path}/blocks", json={"blocks": blocks}).raise_for_status()
    followed.api.patch(followed.path, json={"status": "completed"}).raise_for_status()
    sdk = plain(followed, followed.read(format="ai-sdk", replay="true"))
    assert [each["type"] for each in sdk[2:-3]] == [
        "data-tool_result",
        "data-tool_use",
        "tool-input-available",
        "tool-output-error",
        "data-text",
        "text-start",
        "text-end",
        "data-thinking",
        "data-error",
    ]
    assert sdk[5]["errorText"] == '{"deep":[1]}'
    ag_ui = plain(followed, followed.read(format="ag-ui"))
    assert [each["type"] for each in ag_ui[1:-1]] == [
        "CUSTOM",
        "CUSTOM",
        *("TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_RESULT"),
        "CUSTOM",
        *("TEXT_MESSAGE_START", "TEXT_MESSAGE_END"),
        "CUSTOM",
        "CUSTOM",
    ]


def test_a_slow_reader_gets_all_and_holds_up_nobody(followed: Followed) -> None:
    """The reader takes nothing until 30 MB are stored: far more than the gateway keeps for it."""
    host = followed.api.base_url
    with socket.create_connection((host.host, host.port or 80)) as connection:
        request = f"GET {host.path.rstrip('/')}{followed.events} HTTP/1.1\r\nHost: {host.host}\r\n\r\n"
        connection.sendall(request.encode())
        for number in range(30):
            blocks = [{"type": "text", "content": f"{number}" * 2**20}]
            followed.api.post(f"{followed.path}/blocks", json={"blocks": blocks}).raise_for_status()
        followed.api.patch(followed.path, json={"status": "completed"}).raise_for_status()
        connection.settimeout(120)
        received = bytearray()
        while not received.endswith(b"0\r\n\r\n"):
            part = connection.recv(2**20)
            assert part, f"the connection ended after {len(received)} bytes: {bytes(received[-300:])!r}"
            received += part
    assert [match[1] for match in re.finditer(rb'event: block\ndata: {"id":"[^"]+","index":(\d+)', received)] == [
        b"%d" % number for number in range(30)
    ]


def test_a_stream_goes_on_after_kill_9(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db") as gateway, gateway.client() as api:
        followed, view = Followed(api), BlocksView()
        half = len(PIECES) // 2
        for piece in PIECES[:half]:
            followed.output(piece)
        wanted = {block["index"]: block for block in followed.stored()}
        broken = False
        try:
            with api.stream("GET", followed.events) as response:
                for each in events_in(response.iter_lines()):
                    view.take(each)
                    if view.blocks == wanted:
                        gateway.kill()
        except httpx.TransportError:
            broken = True
        assert broken
        gateway.start()
        with gateway.client() as later:
            rest = Followed.__new__(Followed)
            rest.__dict__.update(followed.__dict__, api=later)
            for piece in PIECES[half:]:
                rest.output(piece, final=piece is PIECES[-1])
            answer = later.get(followed.events, headers={"Last-Event-ID": view.last_id or "0"})
            for each in events_in(answer.text.split("\n")):
                view.take(each)
            assert list(view.blocks.values()) == rest.stored()
            assert view.status == "completed"


def test_a_gateway_that_stops_ends_its_streams_so_that_clients_come_back(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db") as gateway, gateway.client() as api:
        followed = Followed(api)
        followed.output(PIECES[0])
        ends: dict[str, str] = {}
        begun = threading.Barrier(4)

        def follow(form: str) -> None:
            told = False
            try:
                with api.stream("GET", followed.events, params={"format": form}) as response:
                    for each in events_in(response.iter_lines()):
                        if not told and "Two " in str(each.data):
                            told = True
                            begun.wait(120)
                ends[form] = "complete"
            except httpx.RemoteProtocolError:
                ends[form] = "broken"

        threads = [threading.Thread(target=follow, args=(form,)) for form in ("blocks", "ai-sdk", "ag-ui")]
        for thread in threads:
            thread.start()
        begun.wait(120)
        assert gateway.stop() == 0
        for thread in threads:
            thread.join(120)
        # An EventSource comes back after any end; a kit takes an orderly end for the end of the answer.
        assert ends == {"blocks": "complete", "ai-sdk": "broken", "ag-ui": "broken"}
        assert not [entry for entry in gateway.log if "Traceback" in entry]


# Encoding alone


class Sender:
    """A turn whose blocks grow as they like, and a reader that is sent pages of it as storage makes them."""

    def __init__(self, events: TurnEvents) -> None:
        self.events = events
        self.contents: list[tuple[str, Any]] = []
        self.told_from: list[int | None] = []
        self.closed = 0
        """The blocks before it do not grow any more."""
        self.position = 0
        self.received = events.begin(self.head("running"))

    def head(self, status: Any) -> TurnHead:
        return TurnHead(
            session_id="S", turn_id="T", status=status, block_count=len(self.contents), sequence=1, last_updated=0,
            created_at=0, started_at=0, completed_at=None, error=None, size=0, output_offset=0,
            grown=bool(self.told_from) and self.told_from[-1] is not None,
        )  # fmt: skip

    def add(self, kind: str, content: Any, *, grows: bool = True) -> None:
        self.contents.append((kind, content))
        if not grows and self.closed == len(self.contents) - 1:
            self.closed += 1
        self.told_from.append(self.closed if self.closed < len(self.contents) else None)

    def read(self, status: str = "running") -> None:
        told_from = self.told_from[self.position - 1] if self.position else 0
        start = self.position if told_from is None else told_from
        blocks = [
            StoredBlock(index, kind, json.dumps(content, ensure_ascii=False).encode(), 0)  # type: ignore[arg-type]
            for index, (kind, content) in enumerate(self.contents)
        ][start:]
        self.position = len(self.contents)
        self.received += b"".join(self.events.blocks(self.head(status), blocks, self.position))

    def finish(self) -> list[Event]:
        self.read("completed")
        self.received += self.events.end(self.head("completed"))
        return list(events_in(self.received.decode().split("\n")))


_TEXTS = st.text("ab👩é", max_size=5)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["text", "thinking"]), st.booleans(), _TEXTS),
        st.tuples(st.just("grow"), st.integers(0, 3), _TEXTS),
        st.tuples(st.just("close"), st.integers(0, 3), st.just("")),
        st.tuples(st.just("read"), st.just(0), st.just("")),
    ),
    max_size=25,
)


def _play(sender: Sender, steps: list[tuple[str, Any, str]]) -> None:
    for step, which, value in steps:
        growing = len(sender.contents) - sender.closed
        if step in ("text", "thinking"):
            sender.add(step, value, grows=which)
        elif step == "grow" and growing:
            index = sender.closed + which % growing
            kind, content = sender.contents[index]
            sender.contents[index] = (kind, content + value)
        elif step == "close" and growing:
            sender.closed += 1 + which % growing
        elif step == "read":
            sender.read()


@settings(deadline=None, max_examples=60)
@given(_STEPS)
def test_whatever_grows_each_format_has_every_text_once(steps: list[tuple[str, Any, str]]) -> None:
    for events in (BlockEvents("S", "T"), AiSdkEvents("S", "T"), AgUiEvents("S", "T")):
        sender = Sender(events)
        _play(sender, steps)
        seen = sender.finish()
        texts: dict[str, str] = {}
        opened: list[str] = []
        for each in seen:
            data = each.data
            if each.kind == "block":
                texts[data["id"]] = data["content"]
            elif each.kind == "delta":
                texts[f"T.{data['index']}"] += data["delta"]
            elif isinstance(data, dict) and re.search("(text|reasoning)-start|_MESSAGE_START", data.get("type", "")):
                opened.append(data.get("id") or data["messageId"])
                texts[opened[-1]] = ""
            elif isinstance(data, dict) and "delta" in data:
                texts[data.get("id") or data["messageId"]] += data["delta"]
            elif isinstance(data, dict) and re.search("(text|reasoning)-end|_MESSAGE_END", data.get("type", "")):
                opened.remove(data.get("id") or data["messageId"])
        assert texts == {f"T.{index}": content for index, (_, content) in enumerate(sender.contents)}
        assert opened == []


def test_a_text_that_became_another_one_is_sent_anew() -> None:
    for events, ends in ((AiSdkEvents("S", "T"), "text-end"), (AgUiEvents("S", "T"), "TEXT_MESSAGE_END")):
        sender = Sender(events)
        sender.add("text", "Hallo")
        sender.read()
        sender.contents = [("text", "Hello")]
        seen = [each.data for each in sender.finish()]
        ids = [each.get("id") or each.get("messageId") for each in seen if isinstance(each, dict) and "delta" in each]
        assert ids == ["T.0", "T.0.1"]
        assert [each["type"] for each in seen if isinstance(each, dict)].count(ends) == 2
    sender = Sender(BlockEvents("S", "T"))
    sender.add("text", "Hallo")
    sender.read()
    sender.contents = [("text", "Hello")]
    assert [each.data["content"] for each in sender.finish() if each.kind == "block"] == ["Hallo", "Hello"]


def test_the_output_of_a_tool_that_grows() -> None:
    """In AG-UI a result is final, so it waits; the AI SDK's client replaces what it has."""
    use = ("tool_use", {"id": "t", "name": "sh", "input": {}})

    def seen(events: TurnEvents, kind: str) -> list[Any]:
        sender = Sender(events)
        sender.add(*use, grows=False)
        sender.add("tool_result", {"tool_use_id": "t", "content": "one"})
        sender.read()
        sender.read()
        sender.contents[1] = ("tool_result", {"tool_use_id": "t", "content": "one two"})
        sender.read()
        return [each.data for each in sender.finish() if kind in str(each.data)]

    assert [each["output"] for each in seen(AiSdkEvents("S", "T"), "tool-output")] == ["one", "one two"]
    assert [each["content"] for each in seen(AgUiEvents("S", "T"), "TOOL_CALL_RESULT")] == ["one two"]


def test_a_long_value_is_sent_in_parts() -> None:
    long = "é" * 100_000
    contents: list[tuple[str, Any]] = [
        ("tool_use", {"id": "t", "name": "sh", "input": {"command": long}}),
        ("tool_result", {"tool_use_id": "t", "content": [{"type": "image", "data": long}]}),
        ("tool_result", [long]),
    ]
    for events in (BlockEvents("S", "T"), AiSdkEvents("S", "T"), AgUiEvents("S", "T")):
        sender = Sender(events)
        for kind, content in contents:
            sender.add(kind, content, grows=False)
        blocks = [StoredBlock(n, k, json.dumps(c, ensure_ascii=False).encode(), 0) for n, (k, c) in enumerate(contents)]
        sent = list(events.blocks(sender.head("completed"), blocks, len(blocks)))
        longest = 64 * 1024 if not isinstance(events, AgUiEvents) else 4 * 64 * 1024  # it has texts in events of 64 KiB
        assert max(map(len, sent)) <= longest
        data = str([each.data for each in events_in(b"".join(sent).decode().split("\n"))])
        assert data.count(long[:60_000]) >= 3
