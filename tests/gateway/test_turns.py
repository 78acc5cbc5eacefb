"""Sessions, turns and blocks over HTTP: every request of the table, every step of a turn's life."""

import asyncio
import json
import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.live.clients import wait_for_figure
from tests.support.agent_stream import BLOCKS, FAILURE, STREAM, SUCCESS, assistant, large_stream, line, text
from tests.support.server import GatewayProcess

NDJSON = {"Content-Type": "application/x-ndjson"}
FINISHED = ["completed", "failed", "cancelled"]
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def api(shared_project: httpx.Client) -> httpx.Client:
    """A client for a project of the test's own."""
    return shared_project


@pytest.fixture
def session(api: httpx.Client) -> str:
    return f"/sessions/{api.post('/sessions', json={}).json()['id']}"


@pytest.fixture
def turn(api: httpx.Client, session: str) -> str:
    return new_turn(api, session)


def new_turn(api: httpx.Client, session: str) -> str:
    answer = api.post(f"{session}/turns", json={"prompt": "Fix it"})
    assert answer.status_code == 201
    return f"{session}/turns/{answer.json()['id']}"


def put_into(api: httpx.Client, turn: str, status: str) -> None:
    """Walk a turn to a status."""
    if status in ("running", "completed"):
        assert api.patch(turn, json={"status": "running"}).status_code == 200
    if status in FINISHED:
        assert api.patch(turn, json={"status": status}).status_code == 200
    assert api.get(f"{turn}/status").json()["status"] == status


def blocks_of(api: httpx.Client, turn: str, **query: Any) -> list[tuple[str, Any]]:
    return [(block["type"], block["content"]) for block in api.get(turn, params=query).json()["blocks"]]


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


class TestSessions:
    def test_a_session_is_created_listed_and_read(self, api: httpx.Client) -> None:
        created = api.post("/sessions", json={"title": "Größe"})
        assert created.status_code == 201
        session = created.json()
        assert session.keys() == {"id", "title", "created_at"}
        assert session["title"] == "Größe"
        assert re.fullmatch(TIME, session["created_at"])
        assert re.fullmatch("[0-9a-z]{26}", session["id"])
        assert api.get(f"/sessions/{session['id']}").json() == session
        assert api.get("/sessions").json() == {"sessions": [session], "next": None}

    def test_a_session_needs_no_body_and_no_title(self, api: httpx.Client) -> None:
        assert api.post("/sessions").json()["title"] is None
        assert api.post("/sessions", json={"title": None}).json()["title"] is None

    def test_pages_of_sessions_are_newest_first_and_complete(self, api: httpx.Client) -> None:
        created = [api.post("/sessions", json={"title": str(number)}).json()["id"] for number in range(7)]
        seen, after = [], {}
        while True:
            page = api.get("/sessions", params={"limit": 3, **after}).json()
            seen += [session["id"] for session in page["sessions"]]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
        assert seen == created[::-1]
        assert api.get("/sessions", params={"after": "unknown"}).json()["sessions"] == []

    def test_a_project_begins_with_a_session(self, api: httpx.Client) -> None:
        assert code(api.get("/sessions")) == (404, "project_not_found")
        api.post("/sessions", json={})
        assert api.get("/changes").json()["changes"] == []
        assert api.get("/files").json()["files"] == []

    @pytest.mark.parametrize("body", [b"[]", b'{"title": 3}', b'{"name": "x"}', b"{", b'{"title":"\\ud800"}'])
    def test_a_body_of_another_shape_is_refused(self, api: httpx.Client, body: bytes) -> None:
        answer = api.post("/sessions", content=body, headers={"Content-Type": "application/json"})
        assert code(answer) == (400, "invalid_body")

    def test_sorted_by_id_sessions_are_sorted_by_time(self, api: httpx.Client) -> None:
        first = api.post("/sessions", json={}).json()
        while (second := api.post("/sessions", json={}).json())["created_at"] == first["created_at"]:
            pass
        assert first["id"] < second["id"]


class TestAbsence:
    def test_what_is_not_there_is_named(self, api: httpx.Client, session: str, turn: str) -> None:
        other = "/sessions/01zzzzzzzzzzzzzzzzzzzzzzzz"
        requests = [
            ("GET", "", None), ("GET", "/status", None), ("PATCH", "", {"status": "running"}),
            ("POST", "/blocks", {"blocks": [{"type": "text", "content": ""}]}),
        ]  # fmt: skip
        for method, path, body in requests:
            assert code(api.request(method, f"{session}/turns/x{path}", json=body)) == (404, "turn_not_found")
            assert code(api.request(method, f"{other}/turns/x{path}", json=body)) == (404, "session_not_found")
            moved = turn.replace(session, other)
            assert code(api.request(method, f"{moved}{path}", json=body)) == (404, "session_not_found")
        assert code(api.post(f"{session}/turns/x/output", headers=NDJSON)) == (404, "turn_not_found")
        assert code(api.get(f"{other}/turns")) == (404, "session_not_found")
        assert code(api.post(f"{other}/turns", json={"prompt": ""})) == (404, "session_not_found")
        assert code(api.get(other)) == (404, "session_not_found")

    def test_one_project_never_sees_the_turns_of_another(
        self, api: httpx.Client, turn: str, shared_gateway: GatewayProcess
    ) -> None:
        with shared_gateway.client(f"p-{uuid.uuid4().hex}") as stranger:
            assert code(stranger.get(turn)) == (404, "project_not_found")
            stranger.post("/sessions", json={})
            assert code(stranger.get(turn)) == (404, "session_not_found")
            assert code(stranger.get(f"{turn}/status")) == (404, "session_not_found")
            assert code(stranger.patch(turn, json={"status": "cancelled"})) == (404, "session_not_found")
            assert len(stranger.get("/sessions").json()["sessions"]) == 1
            tag = api.get(turn).headers["ETag"]
            assert stranger.get(turn, headers={"If-None-Match": tag}).status_code == 404


class TestLife:
    def test_a_turn_begins_pending(self, api: httpx.Client, session: str) -> None:
        turn = api.post(f"{session}/turns", json={"prompt": "Prüfe 日本 🎈"}).json()
        assert turn == {
            "id": turn["id"], "session_id": session.removeprefix("/sessions/"), "prompt": "Prüfe 日本 🎈",
            "status": "pending", "blocks": [], "block_count": 0, "error": None, "created_at": turn["created_at"],
            "started_at": None, "completed_at": None, "last_updated": turn["created_at"],
        }  # fmt: skip
        assert api.get(f"{session}/turns/{turn['id']}").json() == turn
        listed = api.get(f"{session}/turns").json()
        assert listed == {"turns": [{name: turn[name] for name in turn if name != "blocks"}], "next": None}

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("pending", "running"), ("pending", "failed"), ("pending", "cancelled"),
            ("running", "completed"), ("running", "failed"), ("running", "cancelled"),
        ],
    )  # fmt: skip
    def test_every_legal_step_is_taken(self, api: httpx.Client, turn: str, before: str, after: str) -> None:
        put_into(api, turn, before)
        tag = api.get(turn).headers["ETag"]
        answer = api.patch(turn, json={"status": after})
        assert (answer.status_code, answer.json()["status"]) == (200, after)
        now = api.get(turn)
        assert now.headers["ETag"] != tag
        body = now.json()
        assert answer.json() == {name: body[name] for name in body if name != "blocks"}
        assert (body["completed_at"] == body["last_updated"]) is (after in FINISHED)
        assert (body["started_at"] is not None) is (before == "running" or after == "running")

    @pytest.mark.parametrize("after", ["pending", "running", *FINISHED])
    @pytest.mark.parametrize("before", ["pending", "running", *FINISHED])
    def test_every_illegal_step_is_refused_and_changes_nothing(
        self, api: httpx.Client, turn: str, before: str, after: str
    ) -> None:
        put_into(api, turn, before)
        if (before, after) in {("pending", "running"), ("pending", "failed"), ("pending", "cancelled")} or (
            before == "running" and after in FINISHED
        ):
            return
        state = api.get(turn)
        answer = api.patch(turn, json={"status": after})
        assert code(answer) == (409, "turn_finished" if before in FINISHED else "illegal_transition")
        assert answer.json()["turn_status"] == before
        now = api.get(turn)
        assert (now.json(), now.headers["ETag"]) == (state.json(), state.headers["ETag"])

    @pytest.mark.parametrize("status", FINISHED)
    def test_a_finished_turn_takes_nothing_more(self, api: httpx.Client, turn: str, status: str) -> None:
        put_into(api, turn, status)
        for answer in (
            api.post(f"{turn}/blocks", json={"blocks": [{"type": "text", "content": "late"}]}),
            api.post(f"{turn}/output", content=line(assistant(text("late"))), headers=NDJSON),
            api.post(f"{turn}/output", content=b"", headers=NDJSON),
            api.post(f"{turn}/output", params={"offset": 0}, content=STREAM, headers=NDJSON),
        ):
            assert code(answer) == (409, "turn_finished")
            assert answer.json()["turn_status"] == status
        assert blocks_of(api, turn) == []

    def test_an_error_goes_with_a_failure(self, api: httpx.Client, turn: str) -> None:
        assert code(api.patch(turn, json={"status": "running", "error": "x"})) == (400, "invalid_parameter")
        assert (
            api.patch(turn, json={"status": "failed", "error": "out of memory ☠"}).json()["error"] == "out of memory ☠"
        )
        assert api.get(turn).json()["error"] == "out of memory ☠"

    def test_an_unknown_status_is_refused(self, api: httpx.Client, turn: str) -> None:
        assert code(api.patch(turn, json={"status": "paused"})) == (400, "invalid_body")
        assert code(api.patch(turn, json={})) == (400, "invalid_body")

    def test_the_first_block_starts_a_turn(self, api: httpx.Client, turn: str) -> None:
        api.post(f"{turn}/blocks", json={"blocks": [{"type": "text", "content": "x"}]})
        body = api.get(turn).json()
        assert (body["status"], body["started_at"]) == ("running", body["last_updated"])

    def test_empty_output_starts_a_turn(self, api: httpx.Client, turn: str) -> None:
        assert api.post(f"{turn}/output", content=b"", headers=NDJSON).json()["status"] == "running"

    def test_turns_are_listed_newest_first(self, api: httpx.Client, session: str) -> None:
        created = [new_turn(api, session).rpartition("/")[2] for _ in range(5)]
        put_into(api, f"{session}/turns/{created[0]}", "failed")
        first = api.get(f"{session}/turns", params={"limit": 2}).json()
        assert [turn["id"] for turn in first["turns"]] == created[:2:-1]
        rest = api.get(f"{session}/turns", params={"after": first["next"]}).json()
        assert [turn["id"] for turn in rest["turns"]] == created[2::-1]
        assert rest["next"] is None


class TestStatus:
    def test_status_is_exactly_three_members(self, api: httpx.Client, turn: str) -> None:
        api.post(f"{turn}/blocks", json={"blocks": [{"type": "text", "content": "x"}]})
        status = api.get(f"{turn}/status").json()
        assert status == {
            "status": "running", "block_count": 1, "last_updated": api.get(turn).json()["last_updated"],
        }  # fmt: skip
        assert re.fullmatch(TIME, status["last_updated"])

    @pytest.mark.parametrize("path", ["", "/status"])
    def test_an_unchanged_turn_answers_304(self, api: httpx.Client, turn: str, path: str) -> None:
        tag = api.get(turn + path).headers["ETag"]
        assert re.fullmatch('"[^"]+"', tag)
        for form in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            for _ in range(2):
                answer = api.get(turn + path, headers={"If-None-Match": form})
                assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", tag)
        assert api.get(turn + path, headers={"If-None-Match": '"other"'}).status_code == 200
        assert code(api.get(turn + path, headers={"If-None-Match": '"nonsense'})) == (400, "invalid_parameter")

    @pytest.mark.parametrize("path", ["", "/status"])
    def test_every_change_of_a_turn_has_a_tag_of_its_own(self, api: httpx.Client, turn: str, path: str) -> None:
        block = {"blocks": [{"type": "text", "content": "same"}]}
        seen = [api.get(turn + path).headers["ETag"]]
        for change in (
            lambda: api.patch(turn, json={"status": "running"}),
            lambda: api.post(f"{turn}/blocks", json=block),
            lambda: api.post(f"{turn}/blocks", json=block),
            lambda: api.post(f"{turn}/output", content=line(assistant(text("x"))), headers=NDJSON),
            lambda: api.patch(turn, json={"status": "completed"}),
        ):
            assert change().status_code == 200
            answer = api.get(turn + path, headers={"If-None-Match": seen[-1]})
            assert answer.status_code == 200
            seen.append(answer.headers["ETag"])
        assert len(set(seen)) == 6

    def test_another_turn_does_not_change_the_tag(self, api: httpx.Client, session: str, turn: str) -> None:
        tag = api.get(turn).headers["ETag"]
        put_into(api, new_turn(api, session), "running")
        assert api.get(turn, headers={"If-None-Match": tag}).status_code == 304

    @pytest.mark.parametrize("wait", ["-1", "61", "x", "nan", "1e1", ""])
    def test_a_wait_that_cannot_be_is_refused(self, api: httpx.Client, turn: str, wait: str) -> None:
        for path in ("", "/status"):
            assert code(api.get(turn + path, params={"wait": wait})) == (400, "invalid_parameter")


class TestBlocks:
    @pytest.mark.parametrize("content", ["", "text", None, 0, 1.5, True, [], {}, {"a": [{"b": "ü🎈\x00"}]}, 10**30])
    @pytest.mark.parametrize("kind", ["text", "thinking", "tool_use", "tool_result", "error"])
    def test_a_block_comes_back_as_it_was(self, api: httpx.Client, turn: str, kind: str, content: Any) -> None:
        assert api.post(f"{turn}/blocks", json={"blocks": [{"type": kind, "content": content}]}).status_code == 200
        (block,) = api.get(turn).json()["blocks"]
        assert block.keys() == {"id", "index", "type", "content", "created_at"}
        assert (block["index"], block["type"], block["content"]) == (0, kind, content)

    def test_after_block_leaves_out_what_the_client_has(self, api: httpx.Client, turn: str) -> None:
        sent = [{"type": "text", "content": number} for number in range(10)]
        api.post(f"{turn}/blocks", json={"blocks": sent})
        for after in (0, 3, 9, 10, 11, 10**30):
            answer = api.get(turn, params={"after_block": after}).json()
            assert [block["index"] for block in answer["blocks"]] == list(range(min(after, 10), 10))
            assert answer["block_count"] == 10
        for wrong in ("-1", "x", "1.5"):
            assert code(api.get(turn, params={"after_block": wrong})) == (400, "invalid_parameter")

    def test_a_repeated_batch_answers_as_the_first_time(self, api: httpx.Client, turn: str) -> None:
        first = {"blocks": [{"type": "text", "content": {"n": n}} for n in range(3)], "first_index": 0}
        second = {"blocks": [{"type": "error", "content": "x"}], "first_index": 3}
        answers = [api.post(f"{turn}/blocks", json=batch) for batch in (first, second)]
        assert [answer.status_code for answer in answers] == [200, 200]
        state = api.get(turn)
        for _ in range(2):
            for batch, answer in zip((first, second), answers, strict=True):
                again = api.post(f"{turn}/blocks", json=batch)
                assert (again.status_code, again.json()) == (200, answer.json())
        now = api.get(turn)
        assert (now.json(), now.headers["ETag"]) == (state.json(), state.headers["ETag"])
        put_into_end = api.patch(turn, json={"status": "completed"})
        assert put_into_end.status_code == 200
        assert api.post(f"{turn}/blocks", json=first).json() == answers[0].json()

    @pytest.mark.parametrize(
        "batch",
        [
            {"blocks": [{"type": "text", "content": "other"}], "first_index": 0},
            {"blocks": [{"type": "error", "content": 0}], "first_index": 0},
            {"blocks": [{"type": "text", "content": 0}], "first_index": 1},
            {"blocks": [{"type": "text", "content": 1}, {"type": "text", "content": 2}], "first_index": 1},
            {"blocks": [{"type": "text", "content": 0}], "first_index": 3},
            {"blocks": [{"type": "text", "content": 0}], "first_index": 10**15},
        ],
    )
    def test_another_batch_at_an_index_is_refused(self, api: httpx.Client, turn: str, batch: dict[str, Any]) -> None:
        api.post(f"{turn}/blocks", json={"blocks": [{"type": "text", "content": n} for n in range(2)]})
        answer = api.post(f"{turn}/blocks", json=batch)
        assert code(answer) == (409, "block_conflict")
        assert answer.json()["block_count"] == 2
        assert blocks_of(api, turn) == [("text", 0), ("text", 1)]

    @pytest.mark.parametrize(
        "body",
        [
            {}, {"blocks": []}, {"blocks": [{"type": "image", "content": 0}]}, {"blocks": [{"type": "text"}]},
            {"blocks": [{"type": "text", "content": 0, "id": "x"}]},
            {"blocks": [{"type": "text", "content": 0}], "first_index": -1}, {"blocks": {}},
        ],
    )  # fmt: skip
    def test_a_batch_of_another_shape_is_refused(self, api: httpx.Client, turn: str, body: Any) -> None:
        assert code(api.post(f"{turn}/blocks", json=body)) == (400, "invalid_body")

    def test_a_block_may_be_as_large_as_a_body(self, api: httpx.Client, turn: str) -> None:
        content = "é" * (8 * 2**20 - 100)
        body = json.dumps({"blocks": [{"type": "tool_result", "content": content}]}, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json"}
        assert api.post(f"{turn}/blocks", content=body, headers=headers).status_code == 200
        assert blocks_of(api, turn) == [("tool_result", content)]
        assert code(api.post(f"{turn}/blocks", content=body + b" " * 200, headers=headers)) == (413, "body_too_large")

    def test_blocks_of_many_writers_are_all_there_once(self, api: httpx.Client, turn: str) -> None:
        async def write() -> None:
            async with httpx.AsyncClient(base_url=str(api.base_url), timeout=120) as client:

                async def append(number: int) -> None:
                    body = {"blocks": [{"type": "text", "content": [number, part]} for part in range(3)]}
                    assert (await client.post(f"{turn}/blocks", json=body)).status_code in (200, 409)

                await asyncio.gather(*(append(number) for number in range(20)))

        asyncio.run(write())
        blocks = [content for _, content in blocks_of(api, turn)]
        starts = [blocks[place][0] for place in range(0, len(blocks), 3)]
        assert sorted(starts) == list(range(20))
        assert blocks == [[number, part] for number in starts for part in range(3)]


FINAL = {"final": "true"}


class TestOutput:
    def test_a_whole_stream_becomes_blocks_and_the_end(self, api: httpx.Client, turn: str) -> None:
        stream, blocks = large_stream()
        answer = api.post(f"{turn}/output", params=FINAL, content=stream, headers=NDJSON)
        assert answer.status_code == 200
        receipt = answer.json()
        assert receipt == {
            "status": "completed", "block_count": len(blocks), "last_updated": receipt["last_updated"],
            "offset": len(stream), "lease": 120.0, "result": "completed",
        }  # fmt: skip
        found = blocks_of(api, turn)
        assert [kind for kind, _ in found] == [kind for kind, _ in blocks]
        assert [block for block in found if block[0] != "error"] == [block for block in blocks if block[0] != "error"]
        state = api.get(turn).json()
        assert (state["status"], state["error"]) == ("completed", None)
        assert state["completed_at"] == state["last_updated"] == receipt["last_updated"]

    def test_a_failed_result_fails_the_turn(self, api: httpx.Client, turn: str) -> None:
        api.post(f"{turn}/output", params=FINAL, content=line(FAILURE), headers=NDJSON)
        state = api.get(turn).json()
        assert (state["status"], state["error"]) == ("failed", "error_max_turns")
        assert state["started_at"] is not None
        assert state["blocks"][-1]["content"] == FAILURE

    def test_blocks_appear_while_the_request_is_still_open(self, api: httpx.Client, turn: str) -> None:
        seen = []

        def pieces() -> Iterator[bytes]:
            with httpx.Client(base_url=api.base_url, timeout=120) as poller:
                tag = poller.get(f"{turn}/status").headers["ETag"]
                for part in (line(assistant(text("one"))), b'{"type":"assistant","message":', b'{"content":"two"}}\n'):
                    yield part
                    if part.endswith(b"\n"):
                        answer = poller.get(f"{turn}/status?wait=50", headers={"If-None-Match": tag})
                        tag = answer.headers["ETag"]
                        seen.append(answer.json()["block_count"])
                yield line(SUCCESS)

        answer = api.post(f"{turn}/output", params=FINAL, content=pieces(), headers=NDJSON)
        assert answer.json()["status"] == "completed"
        assert seen == [1, 2]

    @pytest.mark.parametrize("size", [1, 7, 64, 1000])
    def test_a_stream_in_many_requests_cut_anywhere_makes_the_same_blocks(
        self, api: httpx.Client, turn: str, size: int
    ) -> None:
        stream = STREAM if size > 1 else b"".join([line(assistant(text("é🎈"))), b"\r\n", line(SUCCESS)])
        for start in range(0, len(stream), size):
            answer = api.post(f"{turn}/output", content=stream[start : start + size], headers=NDJSON)
            assert answer.json()["status"] == "running"
        expected = BLOCKS if size > 1 else [("text", "é🎈"), ("result", SUCCESS)]
        assert blocks_of(api, turn) == expected
        while api.get(turn).json()["status"] == "running":  # a read is held for the grace
            pass
        assert api.get(turn).json()["status"] == "completed"

    def test_a_retry_with_its_offset_repeats_nothing(self, api: httpx.Client, turn: str) -> None:
        size = 500
        for start in range(0, len(STREAM), size):
            for back in (0, 0, 137, start):
                begin = max(start - back, 0)
                answer = api.post(
                    f"{turn}/output", params={"offset": begin}, content=STREAM[begin : start + size], headers=NDJSON
                )
                assert answer.status_code == 200, answer.text
                assert answer.json()["offset"] == min(start + size, len(STREAM))
        assert blocks_of(api, turn) == BLOCKS

    def test_an_offset_beyond_what_is_stored_is_refused_by_where_to_go_on(self, api: httpx.Client, turn: str) -> None:
        api.post(f"{turn}/output", content=STREAM[:100], headers=NDJSON)
        answer = api.post(f"{turn}/output", params={"offset": 101}, content=STREAM[101:], headers=NDJSON)
        assert code(answer) == (409, "output_conflict")
        assert answer.json()["offset"] == 100
        answer = api.post(f"{turn}/output", params={"offset": 100, **FINAL}, content=STREAM[100:], headers=NDJSON)
        assert answer.json()["status"] == "completed"
        assert blocks_of(api, turn) == BLOCKS

    def test_a_retry_of_what_ended_the_turn_answers_its_end(self, api: httpx.Client, turn: str) -> None:
        for _ in range(3):
            answer = api.post(f"{turn}/output", params={"offset": 0, **FINAL}, content=STREAM + b"\n\n", headers=NDJSON)
            assert (answer.status_code, answer.json()["status"]) == (200, "completed")
        assert blocks_of(api, turn) == BLOCKS

    def test_more_after_the_end_of_the_output_is_refused(self, api: httpx.Client, turn: str) -> None:
        late = line(assistant(text("late")))
        api.post(f"{turn}/output", params=FINAL, content=line(SUCCESS), headers=NDJSON)
        assert code(api.post(f"{turn}/output", content=late, headers=NDJSON)) == (409, "turn_finished")
        answer = api.post(f"{turn}/output", params={"offset": 0}, content=line(SUCCESS) + late, headers=NDJSON)
        assert code(answer) == (409, "turn_finished")
        assert blocks_of(api, turn) == [("result", SUCCESS)]

    def test_what_comes_after_a_result_is_kept_while_the_output_goes_on(self, api: httpx.Client, turn: str) -> None:
        lines = [assistant(text("one")), SUCCESS, assistant(text("two")), FAILURE]
        for number, each in enumerate(lines):
            answer = api.post(f"{turn}/output", params={"final": "false"}, content=line(each), headers=NDJSON).json()
            assert answer["status"] == "running"
            assert answer.get("result") == [None, "completed", "completed", "failed"][number]
        answer = api.post(f"{turn}/output", params=FINAL, headers=NDJSON).json()
        assert (answer["status"], api.get(turn).json()["error"]) == ("failed", "error_max_turns")
        assert [kind for kind, _ in blocks_of(api, turn)] == ["text", "result", "text", "result"]

    def test_a_sender_that_does_not_say_has_a_grace_and_a_reader_is_told_the_end(self, tmp_path: Path) -> None:
        """The grace lasts here until the sender says at last that this was all."""
        with (
            GatewayProcess(tmp_path / "gateway.db", GATEWAY_TURN_GRACE=3600) as gateway,
            gateway.client() as api,
            ThreadPoolExecutor() as readers,
        ):
            turn = new_turn(api, f"/sessions/{api.post('/sessions', json={}).json()['id']}")
            for each in (assistant(text("one")), SUCCESS, assistant(text("two")), SUCCESS):
                assert api.post(f"{turn}/output", content=line(each), headers=NDJSON).json()["status"] == "running"
            reading = readers.submit(api.get, turn)
            wait_for_figure(gateway, "gateway_waiters", 1)
            assert not reading.done()
            api.post(f"{turn}/output", params=FINAL, headers=NDJSON).raise_for_status()
            state = reading.result().json()
        assert (state["status"], state["block_count"]) == ("completed", 4)

    def test_output_that_ends_without_a_result_has_failed(self, api: httpx.Client, turn: str) -> None:
        answer = api.post(f"{turn}/output", params=FINAL, content=line(assistant(text("x"))), headers=NDJSON)
        assert answer.json()["status"] == "failed"
        assert api.get(turn).json()["error"] == "the agent's output ended without a result"

    def test_a_plain_text_grows_one_block_and_its_end_completes_the_turn(self, api: httpx.Client, turn: str) -> None:
        stream = "Grüße 🎈\n{not json}\n".encode()
        for start in range(0, len(stream), 3):
            piece = stream[start : start + 3]
            api.post(f"{turn}/output", params={"dialect": "text"}, content=piece, headers=NDJSON)
        answer = api.post(f"{turn}/output", params=FINAL, content=b"end \xf0", headers=NDJSON)
        assert answer.json()["status"] == "completed"
        assert blocks_of(api, turn) == [("text", "Grüße 🎈\n{not json}\nend \ufffd")]

    @pytest.mark.parametrize("params", [{"dialect": "latin"}, {"final": "1"}, {"final": ""}])
    def test_a_parameter_that_is_not_known_is_refused(
        self, api: httpx.Client, turn: str, params: dict[str, str]
    ) -> None:
        answer = api.post(f"{turn}/output", params=params, content=STREAM, headers=NDJSON)
        assert code(answer) == (400, "invalid_parameter")

    def test_a_cancelled_turn_tells_its_writer(self, api: httpx.Client, turn: str) -> None:
        def pieces() -> Iterator[bytes]:
            yield line(assistant(text("one")))
            with httpx.Client(base_url=api.base_url, timeout=120) as other:
                tag = '""'
                while (state := other.get(f"{turn}/status?wait=50", headers={"If-None-Match": tag})).json()[
                    "block_count"
                ] == 0:
                    tag = state.headers["ETag"]
                assert other.patch(turn, json={"status": "cancelled"}).status_code == 200
            yield line(assistant(text("two")))

        answer = api.post(f"{turn}/output", content=pieces(), headers=NDJSON)
        assert code(answer) == (409, "turn_finished")
        assert answer.json()["turn_status"] == "cancelled"
        assert blocks_of(api, turn) == [("text", "one")]

    def test_a_lost_connection_and_a_retry_do_not_duplicate_blocks(self, api: httpx.Client, turn: str) -> None:
        class Lost(Exception):
            pass

        def broken(upto: int) -> Iterator[bytes]:
            yield STREAM[:upto]
            with httpx.Client(base_url=api.base_url, timeout=120) as other:
                while other.get(f"{turn}/status").json()["block_count"] == 0:
                    pass
            raise Lost

        with pytest.raises(Lost):
            api.post(f"{turn}/output", params={"offset": 0}, content=broken(1200), headers=NDJSON)
        answer = api.post(f"{turn}/output", params={"offset": 0, **FINAL}, content=STREAM, headers=NDJSON)
        assert answer.json()["status"] == "completed"
        assert blocks_of(api, turn) == BLOCKS

    def test_output_of_another_type_is_refused(self, api: httpx.Client, turn: str) -> None:
        answer = api.post(f"{turn}/output", content=STREAM, headers={"Content-Type": "application/json"})
        assert code(answer) == (415, "unsupported_media_type")
        assert code(api.post(f"{turn}/output", params={"offset": "-1"}, headers=NDJSON)) == (400, "invalid_parameter")


class TestFollowing:
    def test_turns_and_files_move_in_one_feed_in_the_order_in_which_they_happened(
        self, api: httpx.Client, session: str
    ) -> None:
        turn = new_turn(api, session)
        cursor = api.get("/changes").json()["cursor"]
        happened = []

        def moved(kind: str) -> None:
            nonlocal cursor
            answer = api.get("/changes", params={"since": cursor}).json()
            assert [change["kind"] for change in answer["changes"]] == [kind]
            happened.append(answer["changes"][0])
            cursor = answer["cursor"]

        api.post(f"{turn}/output", content=line(assistant(text("I write"))), headers=NDJSON)
        moved("turn")
        api.put("/files/a.md", content="x", headers={"Content-Type": "text/plain"})
        moved("file")
        api.post(f"{turn}/output", params=FINAL, content=line(SUCCESS), headers=NDJSON)
        moved("turn")
        assert [entry.get("status") for entry in happened] == ["running", None, "completed"]
        status = api.get(f"{turn}/status").json()
        ids = dict(zip(("session_id", "turn_id"), turn.split("/")[2::2], strict=True))
        assert happened[-1] == {"kind": "turn", **ids, **status}
        whole = api.get("/changes").json()["changes"]
        assert [change["kind"] for change in whole] == ["file", "turn"]
        assert [c["kind"] for c in api.get("/changes", params={"kinds": "turn"}).json()["changes"]] == ["turn"]
        assert [c["kind"] for c in api.get("/changes", params={"kinds": "file"}).json()["changes"]] == ["file"]

    def test_a_wait_for_blocks_ends_with_the_next_block(self, api: httpx.Client, turn: str) -> None:
        async def follow() -> list[tuple[str, Any]]:
            async with httpx.AsyncClient(base_url=str(api.base_url), timeout=70) as client:
                seen: list[tuple[str, Any]] = []
                state = {"status": "pending"}
                while state["status"] not in FINISHED:
                    answer = await client.get(turn, params={"after_block": len(seen), "wait": 50})
                    state = answer.json()
                    for block in state["blocks"]:
                        assert block["index"] == len(seen)
                        seen.append((block["type"], block["content"]))
                return seen

        async def write() -> None:
            async with httpx.AsyncClient(base_url=str(api.base_url), timeout=70) as client:
                for start in range(0, len(STREAM), 333):
                    piece = STREAM[start : start + 333]
                    await client.post(f"{turn}/output", params={"offset": start}, content=piece, headers=NDJSON)

        async def both() -> list[tuple[str, Any]]:
            following = asyncio.create_task(follow())
            await write()
            return await following

        assert asyncio.run(both()) == BLOCKS

    def test_a_wait_without_news_ends_unchanged(self, api: httpx.Client, turn: str) -> None:
        tag = api.get(turn).headers["ETag"]
        answer = api.get(f"{turn}/status", params={"wait": "0.2"}, headers={"If-None-Match": tag})
        assert answer.status_code == 304
        assert answer.headers["cache-control"] == "no-store"
        assert api.get(turn, params={"after_block": 0, "wait": "0.2"}).json()["blocks"] == []

    def test_a_wait_for_a_turn_is_not_woken_by_another(self, api: httpx.Client, session: str, turn: str) -> None:
        async def wait_and_disturb() -> httpx.Response:
            async with httpx.AsyncClient(base_url=str(api.base_url), timeout=70) as client:
                tag = (await client.get(turn)).headers["ETag"]
                query = {"params": {"wait": 50}, "headers": {"If-None-Match": tag}}
                waiting = asyncio.create_task(client.get(f"{turn}/status", **query))  # type: ignore[arg-type]
                other = f"{session}/turns/{(await client.post(f'{session}/turns', json={'prompt': ''})).json()['id']}"
                await client.patch(other, json={"status": "cancelled"})
                assert not waiting.done()
                await client.patch(turn, json={"status": "cancelled"})
                return await waiting

        answer = asyncio.run(wait_and_disturb())
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")


def test_the_prompt_of_a_turn_is_bounded_like_a_body(api: httpx.Client, session: str) -> None:
    prompt = "p" * (16 * 2**20)
    assert code(api.post(f"{session}/turns", json={"prompt": prompt})) == (413, "body_too_large")
