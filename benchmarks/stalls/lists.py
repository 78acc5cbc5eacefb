"""Lists of files and versions, and what agents say."""

import json
from collections.abc import Iterator
from typing import Any

from benchmarks.harness import Plan
from benchmarks.stalls.client import Case, Client, cases_of
from benchmarks.stalls.updates import insertions

CASES: dict[str, Case] = {}
case = cases_of(CASES)


@case
def status_of_10_000_paths(client: Client, plan: Plan) -> Iterator[Any]:
    versions = {f"no/{number}": 7 for number in range(plan.size(10_000, 100))}
    yield
    yield [client.http.post("/files/status", json={"versions": versions}).status_code for _ in range(3)]


@case
def listing_changes_and_sync_of_10_000_files(client: Client, plan: Plan) -> Iterator[Any]:
    for start in range(0, plan.size(10_000, 100), 2_000):
        updates = {f"many/{number}": "AAA=" for number in range(start, start + plan.size(2_000, 100))}
        client.http.post("/sync", json={"updates": updates}).raise_for_status()
    yield
    answers = [client.http.get(url, params={"limit": 10_000}) for url in ("/files", "/changes")]
    answers += [client.http.post("/sync", json={}), client.http.post("/files/status", json={"versions": {}})]
    yield [answer.status_code for answer in answers]


@case
def history_of_10_000_versions(client: Client, plan: Plan) -> Iterator[Any]:
    for update in insertions("x" * plan.size(10_000, 50)):
        client.patch("h", update)
    yield
    asked: list[dict[str, str | int]] = [{"limit": 1_000}, {"limit": 1_000, "group": 60}]
    answers = [client.http.get("/history/h", params=each) for each in asked]
    yield [answer.status_code for answer in [*answers, client.http.get("/files/h", params={"from_version": 1})]]


@case
def output_of_9_mb_in_one_line(client: Client, plan: Plan) -> Iterator[Any]:
    parts = [{"type": "text", "text": "x"}] * plan.size(300_000, 1_000)
    line = json.dumps({"type": "assistant", "message": {"content": parts}}).encode() + b"\n"
    output = f"{client.turn()}/output"
    yield
    headers = {"Content-Type": "application/x-ndjson"}
    yield client.http.post(output, content=line, headers=headers).status_code


@case
def output_of_15_mb_in_short_lines(client: Client, plan: Plan) -> Iterator[Any]:
    line = json.dumps({"type": "assistant", "message": {"content": [{"type": "text", "text": "x"}]}}).encode() + b"\n"
    output = f"{client.turn()}/output"
    yield
    headers = {"Content-Type": "application/x-ndjson"}
    yield client.http.post(output, content=line * plan.size(190_000, 100), headers=headers).status_code


@case
def block_of_5_million_empty_lists(client: Client, plan: Plan) -> Iterator[Any]:
    body = json.dumps({"blocks": [{"type": "text", "content": [[]] * plan.size(3_500_000, 1_000)}]}).encode()
    turn = client.turn()
    yield
    headers = {"Content-Type": "application/json"}
    status = client.http.post(f"{turn}/blocks", content=body, headers=headers).status_code
    yield status, client.http.get(turn).status_code


@case
def batch_of_100_000_blocks(client: Client, plan: Plan) -> Iterator[Any]:
    blocks = [{"type": "text", "content": "x"}] * plan.size(100_000, 100)
    turn = client.turn()
    yield
    status = client.http.post(f"{turn}/blocks", json={"blocks": blocks}).status_code
    yield status, client.http.get(turn).status_code


@case
def events_of_a_turn_of_20_000_blocks(client: Client, plan: Plan) -> Iterator[Any]:
    turn = client.turn()
    for _ in range(plan.size(20, 1)):
        blocks = [{"type": "text", "content": "word " * 20}] * plan.size(1_000, 100)
        client.http.post(f"{turn}/blocks", json={"blocks": blocks}).raise_for_status()
    client.http.patch(turn, json={"status": "completed"}).raise_for_status()
    yield
    yield _read_turn(client, turn)


@case
def events_of_a_turn_of_large_blocks(client: Client, plan: Plan) -> Iterator[Any]:
    turn = client.turn()
    for content in (
        "é" * plan.size(5_000_000, 100),
        [[]] * plan.size(50_000, 100),
        '\\\n"' * plan.size(3_000_000, 100),
    ):
        blocks = [{"type": "tool_result", "content": content}]
        client.http.post(f"{turn}/blocks", json={"blocks": blocks})
    client.http.patch(turn, json={"status": "completed"}).raise_for_status()
    yield
    yield _read_turn(client, turn)


@case
def listing_of_1_000_turns_with_large_prompts(client: Client, plan: Plan) -> Iterator[Any]:
    session = client.http.post("/sessions", json={}).json()["id"]
    for _ in range(plan.size(40, 2)):
        client.http.post(f"/sessions/{session}/turns", json={"prompt": "p" * plan.size(1_000_000, 100)})
    for _ in range(plan.size(1_000, 5)):
        client.http.post(f"/sessions/{session}/turns", json={"prompt": "p" * 1_000})
        client.http.post("/sessions", json={})
    yield
    urls = (f"/sessions/{session}/turns", "/sessions", "/changes")
    yield [client.http.get(url, params={"limit": 1_000}).status_code for url in urls]


@case
def feed_as_text_of_500_large_files(client: Client, plan: Plan) -> Iterator[Any]:
    since = None
    for number in range(plan.size(100, 3)):
        client.put(f"f{number}", "line\n" * plan.size(20_000, 10))
        since = since or client.http.get("/files", params={"limit": 1}).json()["cursor"]
        client.put(f"f{number}", "lime\nline\n" * plan.size(10_000, 5))
    yield
    found = []
    for asked in ({"diff": "text"}, {"include": "update"}, {"diff": "text", "limit": 100, "max_bytes": 10**6}):
        answer = client.http.get("/changes", params={"since": since, **asked})
        found.append((answer.status_code, len(answer.content)))
    answer = client.http.post("/sync", json={})
    yield [*found, (answer.status_code, len(answer.content))]


def _read_turn(client: Client, turn: str) -> list[tuple[int, int]]:
    """Return status and size of each form of a turn's events, and the status of the turn."""
    found = []
    for form in ("blocks", "ai-sdk", "ag-ui"):
        answer = client.http.get(f"{turn}/events", params={"format": form, "replay": "true"})
        found.append((answer.status_code, len(answer.content)))
    return [*found, (client.http.get(turn).status_code, 0)]
