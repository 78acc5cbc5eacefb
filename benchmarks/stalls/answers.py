"""Large answers: texts with many escapes, very many blocks, and the same thing asked for many times in one request."""

import json
from collections.abc import Iterator
from typing import Any

import httpx

from benchmarks.harness import Plan
from benchmarks.stalls.client import Case, Client, cases_of

CASES: dict[str, Case] = {}
case = cases_of(CASES)

_EVENTS = {"Accept": "text/event-stream"}


def _graphql(client: Client, query: str, **variables: object) -> httpx.Response:
    url = client.http.base_url.copy_with(path="/api/graphql")
    return client.http.post(url, json={"query": query, "variables": variables})


def _mcp(client: Client, method: str, **params: object) -> httpx.Response:
    url = client.http.base_url.copy_with(path="/mcp", query=b"project=demo")
    headers = {"Accept": "application/json, text/event-stream"}
    return client.http.post(url, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, headers=headers)


@case
def graphql_of_a_text_of_15_mb_of_escapes(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("t", '\n"' * plan.size(7_500_000, 1_000))
    _graphql(client, '{ project(id: "demo") { cursor } }')
    yield
    found = []
    for fields in ("text", "update", "version history { versions { version } }"):
        answer = _graphql(client, f'{{ project(id: "demo") {{ file(path: "t") {{ {fields} }} }} }}')
        found.append((answer.status_code, len(answer.content)))
    yield found


@case
def graphql_of_a_text_of_15_mb_asked_for_40_times(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("t", "text\n" * plan.size(3_000_000, 1_000))
    _graphql(client, '{ project(id: "demo") { cursor } }')
    fields = " ".join(f"t{number}: text" for number in range(40))
    yield
    answer = _graphql(client, f'{{ project(id: "demo") {{ file(path: "t") {{ {fields} }} }} }}')
    yield answer.status_code, len(answer.content)


@case
def graphql_of_a_turn_of_50_000_blocks(client: Client, plan: Plan) -> Iterator[Any]:
    turn = client.turn()
    for _ in range(plan.size(50, 1)):
        blocks = [{"type": "text", "content": "word"}] * plan.size(1_000, 50)
        client.http.post(f"{turn}/blocks", json={"blocks": blocks}).raise_for_status()
    _, _, session, _, name = turn.split("/")
    _graphql(client, '{ project(id: "demo") { cursor } }')
    fields = "turn(session: $s, id: $t) { blocks { type content } }"
    query = f'query ($s: String!, $t: String!) {{ project(id: "demo") {{ {fields} }} }}'
    yield
    answer = _graphql(client, query, s=session, t=name)
    yield answer.status_code, len(answer.content), client.http.get(turn).status_code


@case
def mcp_resource_of_15_mb_of_escapes(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("t", '\n"' * plan.size(7_500_000, 1_000))
    client.put("small", "x")
    _mcp(client, "resources/read", uri="yjs://demo/small")
    yield
    answer = _mcp(client, "resources/read", uri="yjs://demo/t")
    yield answer.status_code, len(answer.content)


@case
def mcp_write_of_8_mb_of_line_breaks(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("small", "x")
    _mcp(client, "resources/read", uri="yjs://demo/small")
    yield
    arguments = {"path": "t", "text": "\n" * plan.size(8_000_000, 1_000)}
    yield _mcp(client, "tools/call", name="write_file", arguments=arguments).text[:200]


@case
def texts_of_15_mb_of_escapes_in_streams_and_polls(client: Client, plan: Plan) -> Iterator[Any]:
    since = client.put("s", "x") and client.http.get("/files").json()["cursor"]
    client.put("t", '\n"' * plan.size(7_500_000, 1_000))
    yield
    found = []
    for asked in ({"include": "text"}, {"include": "update"}, {"diff": "text"}):
        answer = client.http.get("/changes", params={"since": since, **asked})
        found.append((answer.status_code, len(answer.content)))
    with client.http.stream("GET", "/changes", params={"since": since, "include": "update"}, headers=_EVENTS) as stream:
        found.append((stream.status_code, len(next(stream.iter_raw()))))
    answer = client.http.get("/files/t", params={"format": "text"})
    answers = [answer, client.http.get("/history/t", params={"diff": "1..1"}), client.http.post("/sync", json={})]
    yield found + [(each.status_code, len(each.content)) for each in answers]


@case
def sync_of_an_update_of_11_mb_and_msgpack(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("t", '\n"' * plan.size(7_500_000, 1_000))
    headers = {"Accept": "application/msgpack"}
    yield
    answers = [
        client.http.post("/sync", json={}, headers=headers),
        client.http.post("/sync", json={"max_bytes": 10**8}),
    ]
    yield [(each.status_code, len(each.content)) for each in answers]


@case
def old_versions_of_a_file_of_3_000_versions(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("t", "x\n" * plan.size(1_000_000, 100))
    for number in range(plan.size(3_000, 20)):
        edits = [{"start": number, "end": number, "text": "y"}]
        client.http.post("/edits/t", json={"edits": edits}).raise_for_status()
    yield
    asked: list[dict[str, str | int]] = [
        {"at_version": plan.size(1_500, 10), "format": each} for each in ("text", "json")
    ]
    asked += [{"from_version": 2}, {"from_version": plan.size(2_000, 10)}, {"at_version": plan.size(2_500, 12)}]
    found = [client.http.get("/files/t", params=each).status_code for each in asked]
    found += [client.http.get("/history/t", params={"diff": f"2..{plan.size(2_900, 18)}"}).status_code]
    yield [*found, client.http.get("/history/t", params={"limit": 1000, "group": 60}).status_code]


@case
def turns_of_large_lines_and_states(client: Client, plan: Plan) -> Iterator[Any]:
    turn = client.turn()
    text = "\\n" * plan.size(7_000_000, 1_000)
    line = b'{"type":"assistant","message":{"content":[{"type":"text","text":"' + text.encode() + b'"}]}}\n'
    headers = {"Content-Type": "application/x-ndjson"}
    yield
    found = [client.http.post(f"{turn}/output", content=line, headers=headers).status_code]
    found.append(
        client.http.post(f"{turn}/output", content=b"x" * plan.size(15_000_000, 1_000), headers=headers).status_code
    )
    found.append(
        client.http.post(
            f"{turn}/output", content=b"{" * plan.size(15_000_000, 1_000) + b"\n", headers=headers
        ).status_code
    )
    body = json.dumps({"prompt": "\n" * plan.size(500_000, 100)}).encode()
    session = turn.rpartition("/")[0]
    found.append(client.http.post(session, content=body, headers={"Content-Type": "application/json"}).status_code)
    yield [*found, client.http.get(turn).status_code]
