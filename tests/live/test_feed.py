"""The change feed: polls, long polls and server-sent events are one resource, without gaps and without wasted wakes."""

import base64
import contextlib
import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.live.clients import (
    EVENTS,
    Waiting,
    Wakes,
    event_stream,
    figure,
    held_request,
    name_of,
    names,
    put,
    wait_for_figure,
)
from tests.support.server import PATIENCE_S, GatewayProcess

WAIT = 60
"""Seconds: longer than any test takes, so that an answer is never that of a wait that was over."""


# A poll


def test_a_poll_shows_each_thing_once_with_its_newest_state_in_the_order_of_the_last_change(
    shared_project: httpx.Client,
) -> None:
    for path, text in [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1"), ("b", "2")]:
        put(shared_project, path, text)
    shared_project.delete("/files/c")
    put(shared_project, "d", "1")
    answer = shared_project.get("/changes").json()
    assert names(answer) == [("a", 2, "created"), ("b", 2, "created"), ("d", 1, "created")]
    assert all(change["kind"] == "file" for change in answer["changes"])
    assert answer["more"] is False
    assert "reset" not in answer


def test_what_happened_is_told_as_seen_from_the_cursor(shared_project: httpx.Client) -> None:
    cursors = [put(shared_project, "a", "1")["cursor"], put(shared_project, "a", "2")["cursor"]]
    shared_project.delete("/files/a")
    cursors.append(shared_project.get("/changes").json()["cursor"])
    put(shared_project, "a", "3")
    told = [names(shared_project.get("/changes", params={"since": cursor}).json()) for cursor in cursors]
    assert told == [[("a", 4, "modified")], [("a", 4, "modified")], [("a", 4, "created")]]


def test_pages_of_any_size_miss_nothing_while_others_write(shared_project: httpx.Client) -> None:
    for number in range(20):
        put(shared_project, f"{number}", "1")
    for limit in (1, 3, 7, 1000):
        seen: dict[str, int] = {}
        cursor, more = None, True
        while more:
            parameters = {"limit": limit} if cursor is None else {"limit": limit, "since": cursor}
            answer = shared_project.get("/changes", params=parameters).json()
            assert len(answer["changes"]) <= limit
            for path, version, _ in names(answer):
                assert version > seen.get(path, 0)
                seen[path] = version
            cursor, more = answer["cursor"], answer["more"]
            if len(seen) % 5 == 0 and more:  # a file that was shown, and one that is still to come
                put(shared_project, "3", f"{limit} {len(seen)}")
                put(shared_project, "19", f"{limit} {len(seen)}")
        files = shared_project.get("/files").json()["files"]
        assert seen == {file["path"]: file["version"] for file in files}


def test_a_filter_narrows_what_is_shown_and_not_how_far_was_looked(shared_project: httpx.Client) -> None:
    for path in ("docs/a", "docs/b", "src/a", "src/b"):
        put(shared_project, path, "1")
    session = shared_project.post("/sessions", json={}).json()["id"]
    turn = shared_project.post(f"/sessions/{session}/turns", json={"prompt": "go"}).json()["id"]
    head = shared_project.get("/changes").json()["cursor"]

    def ask(**parameters: Any) -> list[str]:
        answer = shared_project.get("/changes", params=parameters).raise_for_status().json()
        assert answer["cursor"] == head
        return [change.get("path", change.get("turn_id")) for change in answer["changes"]]

    assert ask() == ["docs/a", "docs/b", "src/a", "src/b", turn]
    assert ask(kinds="file") == ask(kinds="file", prefix="") == ["docs/a", "docs/b", "src/a", "src/b"]
    assert ask(kinds="turn") == [turn]
    assert ask(kinds="file", prefix="docs/") == ["docs/a", "docs/b"]
    assert ask(kinds="file", path="src/a") == ["src/a"]
    assert ask(kinds="file", path=["src/b", "docs/a", "never"]) == ["docs/a", "src/b"]
    assert ask(kinds="file", prefix="docs/", path=["docs/a", "src/a"]) == ["docs/a"]
    assert ask(kinds="file", prefix="none/") == []


def test_a_filter_that_passes_little_looks_through_everything_page_by_page(shared_project: httpx.Client) -> None:
    updates = {f"{number:03}": "AAA=" for number in range(200)}
    shared_project.post("/sync", json={"updates": updates}).raise_for_status()
    put(shared_project, "last", "1")
    shown, cursor, more, answers = [], None, True, 0
    while more:
        parameters = {"prefix": "last", "limit": 2} | ({} if cursor is None else {"since": cursor})
        answer = shared_project.get("/changes", params=parameters).json()
        shown += [path for path, _, _ in names(answer)]
        assert answer["cursor"] != cursor
        cursor, more, answers = answer["cursor"], answer["more"], answers + 1
    assert shown == ["last"]
    assert answers > 1


@pytest.mark.parametrize("wait", [0, WAIT])
def test_a_cursor_that_is_not_of_this_life_of_the_project_starts_over(
    shared_project: httpx.Client, wait: float
) -> None:
    cursor = put(shared_project, "a", "1")["cursor"]
    put(shared_project, "b", "1")
    shared_project.delete("/files/b")
    epoch, _, sequence = cursor.partition(".")
    for foreign in (f"0123456789.{sequence}", f"{epoch}.{int(sequence) + 1000}"):
        answer = shared_project.get("/changes", params={"since": foreign, "wait": wait}).json()
        assert answer["reset"] is True
        assert names(answer) == [("a", 1, "created")]
        with event_stream(shared_project, since=foreign) as stream:
            events = stream.until_ready()
        assert [event.name for event in events] == ["reset", "change"]
        assert events[1].json["path"] == "a"


def test_an_unchanged_feed_is_a_304_by_its_cursor(shared_project: httpx.Client) -> None:
    put(shared_project, "a", "1")
    answer = shared_project.get("/changes")
    tag = answer.headers["ETag"]
    assert tag == f'"{answer.json()["cursor"]}"'
    for form in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        assert shared_project.get("/changes", headers={"If-None-Match": form}).status_code == 304
    put(shared_project, "a", "2")
    assert shared_project.get("/changes", headers={"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize(
    "cursor", ["x", "1", "0123456789", ".1", "0123456789.-1", "0123456789.1.1.1", "0123456789.1.x", ""]
)
def test_what_is_no_cursor_is_refused(shared_project: httpx.Client, cursor: str) -> None:
    put(shared_project, "a", "1")
    answer = shared_project.get("/changes", params={"since": cursor})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")
    with event_stream(shared_project, since=cursor) as stream:  # an `EventSource` gives up for good on a 400
        assert [event.name for event in stream.until_ready()] == ["reset", "change"]


# A wait


def _ask_feed(client: httpx.Client) -> dict[str, Any]:
    return {"method": "GET", "path": "/changes", "params": {"since": _cursor(client), "wait": WAIT}}


def _ask_feed_of_one(client: httpx.Client) -> dict[str, Any]:
    parameters = {"since": _cursor(client), "kinds": "file", "path": "a", "wait": WAIT}
    return {"method": "GET", "path": "/changes", "params": parameters}


def _ask_feed_by_tag(client: httpx.Client) -> dict[str, Any]:
    headers = {"If-None-Match": client.get("/changes").headers["ETag"]}
    return {"method": "GET", "path": "/changes", "params": {"prefix": "a", "wait": WAIT}, "headers": headers}


def _ask_increment(client: httpx.Client) -> dict[str, Any]:
    return {"method": "GET", "path": "/files/a", "params": {"from_version": 1, "wait": WAIT}}


def _ask_tag(client: httpx.Client) -> dict[str, Any]:
    headers = {"If-None-Match": client.get("/files/a").headers["ETag"]}
    return {"method": "GET", "path": "/files/a", "params": {"wait": WAIT}, "headers": headers}


def _ask_head(client: httpx.Client) -> dict[str, Any]:
    return {**_ask_tag(client), "method": "HEAD"}


def _ask_status_since(client: httpx.Client) -> dict[str, Any]:
    return {"method": "POST", "path": "/files/status", "json": {"since": _cursor(client), "wait": WAIT}}


def _ask_status_versions(client: httpx.Client) -> dict[str, Any]:
    return {"method": "POST", "path": "/files/status", "json": {"versions": {"a": 1, "b": 1}, "wait": WAIT}}


def _ask_status_paths(client: httpx.Client) -> dict[str, Any]:
    question = {"paths": ["a"], "since": _cursor(client), "wait": WAIT}
    return {"method": "POST", "path": "/files/status", "json": question}


def _cursor(client: httpx.Client) -> str:
    return str(client.get("/changes").json()["cursor"])


Ask = Callable[[httpx.Client], dict[str, Any]]
_ABOUT_ALL = [_ask_feed, _ask_status_since, _ask_status_versions]
_ABOUT_ONE = [_ask_feed_of_one, _ask_feed_by_tag, _ask_increment, _ask_tag, _ask_head, _ask_status_paths]


@pytest.mark.parametrize("ask", [*_ABOUT_ALL, *_ABOUT_ONE])
def test_who_waits_is_woken_by_the_right_change_and_sleeps_through_all_others(
    shared_gateway: GatewayProcess, shared_project: httpx.Client, ask: Ask
) -> None:
    project = shared_project
    put(project, "a", "1")
    put(project, "b", "1")
    with Waiting(shared_gateway, name_of(project)) as waiting, shared_gateway.client("another") as another:
        wakes = Wakes(shared_gateway)
        asked = waiting.start(**ask(project))
        for number in range(20):
            put(another, "a", f"{number}")
            if ask in _ABOUT_ONE:
                put(project, "other", f"{number}")
        project.put("/files/a", content=b"1", headers={"Content-Type": "text/plain"})  # changes nothing
        assert (wakes(), asked.done()) == (0, False)
        put(project, "a", "2")
        answer = asked.result()
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert wakes() == 1
    if answer.headers["Content-Type"] == "application/json":
        assert ("a", 2) in [(path, version) for path, version, _ in names(answer.json())]
    else:
        assert answer.headers["X-Version"] == "2"


def test_a_waiter_on_many_files_sleeps_until_one_of_them_changes(
    shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    project = shared_project
    versions = {f"{number}": 1 for number in range(10)}
    for path in versions:
        put(project, path, "1")
    with Waiting(shared_gateway, name_of(project)) as waiting:
        wakes = Wakes(shared_gateway)
        question = {"paths": list(versions), "versions": versions, "wait": WAIT}
        asked = waiting.start("POST", "/files/status", json=question)
        for number in range(50):
            put(project, "other", f"{number}")
        assert wakes() == 0
        put(project, "7", "2")
        assert names(asked.result().json()) == [("7", 2, "modified")]
    assert wakes() == 1


def test_a_deletion_wakes_those_who_wait_for_the_file(
    shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    project = shared_project
    put(project, "a", "1")
    with Waiting(shared_gateway, name_of(project)) as waiting:
        asked = [waiting.start(**ask(project)) for ask in (_ask_increment, _ask_tag, _ask_status_paths, _ask_feed)]
        project.delete("/files/a")
        answers = [each.result() for each in asked]
    assert [answer.status_code for answer in answers] == [410, 410, 200, 200]
    assert names(answers[2].json()) == names(answers[3].json()) == [("a", 2, "deleted")]


def test_a_turn_wakes_those_who_wait_for_turns(shared_gateway: GatewayProcess, shared_project: httpx.Client) -> None:
    project = shared_project
    put(project, "a", "1")
    session = project.post("/sessions", json={}).json()["id"]
    with Waiting(shared_gateway, name_of(project)) as waiting:
        parameters = {"since": _cursor(project), "wait": WAIT}
        of_turns = waiting.start("GET", "/changes", params={**parameters, "kinds": "turn"})
        of_files = waiting.start("GET", "/changes", params={**parameters, "kinds": "file"})
        put(project, "a", "2")
        assert names(of_files.result().json()) == [("a", 2, "modified")]
        assert not of_turns.done()
        turn = project.post(f"/sessions/{session}/turns", json={"prompt": "go"}).json()
        (entry,) = of_turns.result().json()["changes"]
    assert (entry["kind"], entry["turn_id"], entry["status"]) == ("turn", turn["id"], "pending")


@pytest.mark.parametrize(
    ("ask", "status"),
    [(_ask_feed, 200), (_ask_feed_by_tag, 304), (_ask_increment, 204), (_ask_tag, 304), (_ask_head, 304),
     (_ask_status_since, 200)],
)  # fmt: skip
def test_an_empty_answer_after_a_wait_is_for_no_cache(shared_project: httpx.Client, ask: Ask, status: int) -> None:
    put(shared_project, "a", "1")
    put(shared_project, "b", "1")
    request = ask(shared_project)
    for part in ("params", "json"):
        if "wait" in request.get(part, {}):
            request[part]["wait"] = 0.05
    answer = shared_project.request(request.pop("method"), request.pop("path"), **request)
    assert answer.status_code == status
    assert answer.headers["Cache-Control"] == "no-store"
    if answer.content:
        assert answer.json()["changes"] == []


def test_a_tag_counts_at_the_end_of_a_wait_whatever_others_were_answered(
    shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    project = shared_project
    since = put(project, "a", "1")["cursor"]
    tag = f'"{put(project, "a", "2")["cursor"]}"'
    question, wait, others_first = f"/changes?since={since}", 0.25, False
    while not others_first:  # the others were answered while the request with the tag waited
        wait *= 2
        with ThreadPoolExecutor() as threads, shared_gateway.client(name_of(project)) as waiting:
            asked = threads.submit(waiting.get, f"{question}&wait={wait}", headers={"If-None-Match": tag})
            while not (others_first := figure(shared_gateway, "gateway_waiters") == 1) and not asked.done():
                pass
            assert len(project.get(f"{question}&wait={wait}").json()["changes"]) == 1
            others_first &= not asked.done()
            assert asked.result().status_code == 304


@pytest.mark.parametrize("wait", ["60.1", "61", "-1", "nan", "inf", "1e1", "x", "", "0x1", "1.", "9" * 30])
def test_a_wait_is_from_0_to_60_seconds(shared_project: httpx.Client, wait: str) -> None:
    put(shared_project, "a", "1")
    for path in ("/changes", "/files/a"):
        answer = shared_project.get(path, params={"wait": wait, "from_version": 0})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


@pytest.mark.parametrize("wait", [60.1, -0.1, 1e300])
def test_a_wait_in_a_body_is_from_0_to_60_seconds(shared_project: httpx.Client, wait: float) -> None:
    put(shared_project, "a", "1")
    answer = shared_project.post("/files/status", json={"wait": wait})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


def test_the_longest_wait_may_be_asked_for_where_there_is_news(shared_project: httpx.Client) -> None:
    put(shared_project, "a", "1")
    for wait in ("60", "60.0", "0", "0.5"):
        assert len(shared_project.get("/changes", params={"wait": wait}).json()["changes"]) == 1


def test_who_leaves_is_forgotten_at_once(shared_gateway: GatewayProcess, shared_project: httpx.Client) -> None:
    gateway, project = shared_gateway, shared_project
    wait_for_figure(gateway, "gateway_waiters", 0)
    wakes = Wakes(gateway)
    put(project, "a", "1")
    since = _cursor(project)
    clients = [gateway.client(name_of(project)) for _ in range(6)]
    with contextlib.ExitStack() as streams:
        opened = [streams.enter_context(event_stream(client, since=since)) for client in clients]
        for stream in opened:
            assert stream.until_ready() == []
        assert figure(gateway, "gateway_waiters") == 6
        with contextlib.ExitStack() as polls:
            for _ in range(6):
                target = f"{project.base_url.path}changes?since={since}&wait={WAIT}"
                polls.enter_context(held_request(gateway, target))
        wait_for_figure(gateway, "gateway_waiters", 6)
    wait_for_figure(gateway, "gateway_waiters", 0)
    for client in clients:
        client.close()
    put(project, "a", "2")
    assert wakes() == 0


# A stream


def test_a_stream_begins_with_all_that_there_is_and_goes_on_live(shared_project: httpx.Client) -> None:
    put(shared_project, "a", "1")
    put(shared_project, "b", "1")
    with event_stream(shared_project) as stream:
        headers = stream.response.headers
        assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert (headers["X-Accel-Buffering"], headers["Cache-Control"]) == ("no", "no-store")
        first = next(stream)
        assert 1000 <= (first.retry or 0) <= 4000
        assert [event.json["path"] for event in stream.until_ready()] == ["a", "b"]
        with httpx.Client(base_url=shared_project.base_url, timeout=PATIENCE_S, verify=False) as writer:
            receipt = put(writer, "a", "2")
        event = stream.next("change")
    assert event.id == receipt["cursor"]
    assert event.json == {
        "kind": "file",
        "path": "a",
        "version": 2,
        "last_modified": receipt["last_modified"],
        "change_type": "modified",
    }


def test_ready_says_how_far_the_stream_has_caught_up(shared_project: httpx.Client) -> None:
    put(shared_project, "a", "1")
    cursor = put(shared_project, "b", "1")["cursor"]
    with event_stream(shared_project, path="a", kinds="file") as stream:
        ready = stream.next("ready")
    assert ready.id == ready.json["cursor"] == cursor


def test_a_stream_goes_on_after_the_last_event_that_was_seen(shared_project: httpx.Client) -> None:
    for number in range(5):
        put(shared_project, f"{number}", "1")
    with event_stream(shared_project) as stream:
        events = stream.until_ready()
    for index, event in enumerate(events):
        with event_stream(shared_project, last_event_id=event.id) as stream:
            assert stream.until_ready() == events[index + 1 :]
        with event_stream(shared_project, since=event.id) as stream:
            assert stream.until_ready() == events[index + 1 :]


def test_the_last_event_beats_since(shared_project: httpx.Client) -> None:
    first = put(shared_project, "a", "1")["cursor"]
    second = put(shared_project, "b", "1")["cursor"]
    put(shared_project, "c", "1")
    with event_stream(shared_project, last_event_id=second, since=first) as stream:
        assert [event.json["path"] for event in stream.until_ready()] == ["c"]


def test_streams_follow_what_they_asked_for(shared_gateway: GatewayProcess, shared_project: httpx.Client) -> None:
    project = shared_project
    put(project, "docs/a", "1")
    filters: list[dict[str, Any]] = [{}, {"prefix": "docs/"}, {"path": "src/a"}, {"kinds": "turn"}]
    with contextlib.ExitStack() as open_streams:
        streams = []
        for narrowed in filters:
            client = open_streams.enter_context(shared_gateway.client(name_of(project)))
            streams.append(open_streams.enter_context(event_stream(client, since=_cursor(project), **narrowed)))
            assert streams[-1].until_ready() == []
        put(project, "docs/a", "2")
        put(project, "src/a", "1")
        session = project.post("/sessions", json={}).json()["id"]
        turn = project.post(f"/sessions/{session}/turns", json={"prompt": "go"}).json()["id"]
        shown = [["docs/a", "src/a", turn], ["docs/a", turn], ["src/a", turn], [turn]]
        for stream, things in zip(streams, shown, strict=True):
            told = [stream.next("change").json for _ in things]
            assert [entry.get("path", entry.get("turn_id")) for entry in told] == things


def test_a_silent_stream_shows_now_and_then_how_far_it_has_looked(tmp_path: Path) -> None:
    with (
        GatewayProcess(tmp_path / "gateway.db", GATEWAY_STREAM_HEARTBEAT=0.2) as gateway,
        gateway.client() as project,
        gateway.client() as writer,
    ):
        put(writer, "a", "1")
        with event_stream(project, kinds="turn") as stream:
            cursor = stream.next("ready").id
            for _ in range(3):
                beat = next(stream)
                assert (beat.name, beat.id, beat.data) == ("message", cursor, "")
            elsewhere = put(writer, "a", "2")["cursor"]
            beat = next(beat for beat in stream if beat.id != cursor)
            assert (beat.name, beat.id, beat.data) == ("message", elsewhere, "")


def test_streams_that_come_and_go_while_others_write_miss_nothing_and_hear_nothing_twice(tmp_path: Path) -> None:
    writes = 150
    with (
        GatewayProcess(tmp_path / "gateway.db", GATEWAY_STREAM_HEARTBEAT=0.05) as gateway,
        gateway.client() as writer,
        ThreadPoolExecutor() as threads,
    ):
        start = put(writer, "docs/a", "begin")["cursor"]

        def follow(number: int) -> None:
            time.sleep(number % 10 * 0.03)
            narrowed: dict[str, Any] = [{}, {"prefix": "docs/"}, {"prefix": "src/"}][number % 3]
            cursor, told, last = start, list[tuple[str, int]](), ("src/a" if number % 3 == 2 else "docs/a", writes + 1)
            while last not in told:  # each time on a stream that it leaves after some events
                with gateway.client() as client, event_stream(client, since=cursor, **narrowed) as stream:
                    for event, _ in zip(stream, range(number + 3), strict=False):
                        cursor = event.id or cursor
                        if event.name == "change":
                            told.append((event.json["path"], event.json["version"]))
                        if last in told:
                            break
            for path in ("docs/a", "src/a"):
                versions = [version for told_path, version in told if told_path == path]
                assert versions == sorted(set(versions))
            assert {path for path, _ in told} <= ({"docs/a", "src/a"} if number % 3 == 0 else {last[0]})

        following = [threads.submit(follow, number) for number in range(24)]
        put(writer, "src/a", "begin")
        for number in range(writes):
            put(writer, "src/a", f"{number}")
            put(writer, "docs/a", f"{number}")
            time.sleep(0.002)
        for follower in following:
            follower.result(timeout=PATIENCE_S)


def test_head_tells_how_a_stream_would_begin(shared_project: httpx.Client) -> None:
    put(shared_project, "a", "1")
    answer = shared_project.head("/changes", headers=EVENTS)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"


def test_a_stream_of_a_project_that_is_not_there_is_a_404(shared_gateway: GatewayProcess) -> None:
    with shared_gateway.client("never") as client:
        answer = client.get("/changes", headers=EVENTS)
    assert (answer.status_code, answer.json()["code"]) == (404, "project_not_found")


def test_curl_resumes_after_kill_9_and_has_missed_nothing(tmp_path: Path) -> None:
    def curl(gateway: GatewayProcess, *options: str) -> "subprocess.Popen[str]":
        command = ["curl", "--silent", "--no-buffer", "-H", "Accept: text/event-stream", *options]
        return subprocess.Popen([*command, gateway.project() + "/changes"], stdout=subprocess.PIPE, text=True)

    def events(process: "subprocess.Popen[str]", count: int) -> list[tuple[str, str]]:
        """The ids of the next changes, and their paths."""
        assert process.stdout is not None
        found: list[tuple[str, str]] = []
        cursor = ""
        while len(found) < count:
            field, _, value = process.stdout.readline().strip().partition(": ")
            if field == "id":
                cursor = value
            elif field == "data" and "path" in json.loads(value):
                found.append((cursor, json.loads(value)["path"]))
        return found

    gateway = GatewayProcess(tmp_path / "gateway.db").start()
    with gateway.client() as client:
        put(client, "before", "1")
        with curl(gateway) as first:
            assert [path for _, path in events(first, 1)] == ["before"]
            put(client, "live", "1")
            ((last, path),) = events(first, 1)
            assert path == "live"
            put(client, "between", "1")
            gateway.kill()
    with gateway, gateway.client() as client, curl(gateway, "-H", f"Last-Event-ID: {last}") as second:
        assert [path for _, path in events(second, 1)] == ["between"]
        put(client, "after", "1")
        assert [path for _, path in events(second, 1)] == ["after"]
        second.terminate()


# Bounds, and the end


def test_past_the_bound_a_poll_is_told_when_to_come_again_and_a_stream_ends_with_that(tmp_path: Path) -> None:
    limits = {"GATEWAY_PROJECT_WAITERS": 2, "GATEWAY_WAITERS": 3}
    with (
        GatewayProcess(tmp_path / "gateway.db", **limits) as gateway,
        gateway.client("one") as one,
        gateway.client("two") as two,
        Waiting(gateway, "one") as waiting,
    ):
        put(one, "a", "1")
        put(two, "a", "1")
        question, of_two = ({"since": _cursor(client), "wait": WAIT} for client in (one, two))
        first = waiting.start("GET", "/changes", params=question)
        waiting.start("POST", "/files/status", json=question)
        refused = [
            one.get("/changes", params=question),
            one.post("/files/status", json=question),
            one.get("/files/a", params={"from_version": 1, "wait": WAIT}),
        ]
        with event_stream(two) as stream:
            stream.until_ready()
            refused.append(two.get("/changes", params=of_two))  # there is room on this project, and none in all
        for answer in refused:
            assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.headers["Cache-Control"] == "private, no-cache"
        with event_stream(one) as stream:
            assert int(stream.response.headers["Retry-After"]) >= 1
            (event,) = stream
            assert (event.name, event.id, event.data) == ("message", None, "")
            assert (event.retry or 0) >= 1000
        for wait in (0, WAIT):  # who does not have to wait is answered
            assert one.get("/changes", params={"wait": wait}).status_code == 200
        put(one, "a", "2")
        assert names(first.result().json()) == [("a", 2, "modified")]
        wait_for_figure(gateway, "gateway_waiters", 0)
        with event_stream(one) as stream:
            assert len(stream.until_ready()) == 1
        with urllib.request.urlopen(f"{gateway.url}/metrics") as answer:
            counted = answer.read().decode()
        assert re.search(r'requests_total{method="GET",route="[^"]+/changes",status="503"} 2', counted)


def test_a_stopping_gateway_answers_everybody_who_waits(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "gateway.db").start()
    with gateway.client() as project:
        put(project, "a", "1")
        put(project, "b", "1")
        asks = [ask(project) for ask in (*_ABOUT_ALL, *_ABOUT_ONE)] * 3
    with Waiting(gateway) as waiting:
        asked = waiting.start_all(asks)
        assert gateway.stop() == 0
        for each in asked:
            answer = each.result()
            assert answer.status_code in (200, 204, 304)
            assert answer.headers["Cache-Control"] == "no-store"
    assert not any("Traceback" in line for line in gateway.log)


def test_a_stopping_gateway_ends_streams_with_when_to_come_again(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "gateway.db").start()
    with gateway.client() as writer:
        put(writer, "a", "1")
        with contextlib.ExitStack() as open_streams:
            streams = [
                open_streams.enter_context(event_stream(open_streams.enter_context(gateway.client())))
                for _ in range(20)
            ]
            for stream in streams:
                stream.until_ready()
            assert gateway.stop() == 0
            retries = [event.retry for stream in streams for event in stream if event.id is None]  # no heartbeats
    assert len(retries) == 20
    assert all(1000 <= (retry or 0) <= 4000 for retry in retries)
    assert len(set(retries)) > 10, "they must not all come back at the same moment"


# Updates within the events


def _stored(project: httpx.Client, path: str, since: int) -> bytes:
    return project.get(f"/files/{path}", params={"from_version": since}).content


def test_an_event_carries_a_small_update_for_a_client_that_asks_for_it(shared_project: httpx.Client) -> None:
    cursor = put(shared_project, "a.md", "one")["cursor"]
    with (
        event_stream(shared_project, since=cursor, include="update") as told,
        event_stream(shared_project, since=cursor) as plain,
    ):
        assert told.until_ready() == plain.until_ready() == []
        put(shared_project, "a.md", "one two")
        entry, bare = (json.loads(stream.next("change").data) for stream in (told, plain))
    incarnation = shared_project.get("/files/a.md").headers["X-Incarnation"]
    assert {name: entry.pop(name) for name in ("from_version", "incarnation")} == {
        "from_version": 1,
        "incarnation": incarnation,
    }
    assert base64.b64decode(entry.pop("update")) == _stored(shared_project, "a.md", 1)
    assert entry == bare


def test_a_poll_carries_small_updates_too_all_that_came_since_its_cursor(shared_project: httpx.Client) -> None:
    cursor = put(shared_project, "a.md", "one")["cursor"]
    put(shared_project, "a.md", "one two")
    put(shared_project, "a.md", "one two three")
    answer = shared_project.get("/changes", params={"since": cursor, "include": "update"}).json()
    (entry,) = answer["changes"]
    assert (entry["from_version"], entry["version"]) == (1, 3)
    assert base64.b64decode(entry["update"]) == _stored(shared_project, "a.md", 1)


def test_what_is_large_new_deleted_or_of_another_life_comes_without_an_update(shared_project: httpx.Client) -> None:
    for path in ("large", "deleted", "again"):
        put(shared_project, path, "one")
    cursor = shared_project.get("/changes").json()["cursor"]
    put(shared_project, "large", "x" * 10_000)
    put(shared_project, "new", "one")
    for path in ("deleted", "again"):
        shared_project.delete(f"/files/{path}")
    put(shared_project, "again", "two")
    answer = shared_project.get("/changes", params={"since": cursor, "include": "update"}).json()
    assert {entry["path"] for entry in answer["changes"]} == {"large", "new", "deleted", "again"}
    assert not any("update" in entry or "from_version" in entry for entry in answer["changes"])


def test_the_updates_of_an_answer_have_a_bound(shared_project: httpx.Client) -> None:
    for number in range(60):
        put(shared_project, f"{number}", "one")
    cursor = shared_project.get("/changes").json()["cursor"]
    for number in range(60):
        put(shared_project, f"{number}", "one" + "x" * 2000)
    answer = shared_project.get("/changes", params={"since": cursor, "include": "update"}).json()
    updates = [base64.b64decode(entry["update"]) for entry in answer["changes"] if "update" in entry]
    assert len(answer["changes"]) == 60
    assert 10 < len(updates) < 60
    assert sum(map(len, updates)) <= 64 * 1024


@pytest.mark.parametrize("question", [{"include": "text"}, {"include": "update", "diff": "text"}])
def test_nothing_else_can_be_included(shared_project: httpx.Client, question: dict[str, str]) -> None:
    put(shared_project, "a.md", "one")
    answer = shared_project.get("/changes", params=question)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
