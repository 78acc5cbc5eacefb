"""Whole projects: many of them, what is deleted or freed, what is told about them."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx
import pycrdt

from benchmarks.harness import Plan
from benchmarks.stalls.client import Case, Client, cases_of
from benchmarks.stalls.updates import many_structs, map_of, var_uint, xml_of

CASES: dict[str, Case] = {}
case = cases_of(CASES)


def _root(client: Client, path: str) -> httpx.URL:
    return client.http.base_url.copy_with(path=path)


def _fill(client: Client, files: int) -> None:
    for start in range(0, files, 2_000):
        updates = {f"many/{number}": "AAA=" for number in range(start, min(start + 2_000, files))}
        client.http.post("/sync", json={"updates": updates}).raise_for_status()


@case
def projects_3_000_of_them(client: Client, plan: Plan) -> Iterator[Any]:
    for number in range(plan.size(3_000, 20)):
        url = _root(client, f"/api/projects/p{number}/files/a")
        client.http.put(url, content=b"x", headers={"Content-Type": "text/plain"})
    yield
    paths = [
        "/metrics",
        "/readyz",
        "/healthz",
        "/api/projects",
        "/api/projects?limit=1000",
        "/api/audit",
        "/openapi.json",
    ]
    yield [client.http.get(str(_root(client, "/")).rstrip("/") + path).status_code for path in paths]


@case
def project_of_20_000_files_deleted(client: Client, plan: Plan) -> Iterator[Any]:
    _fill(client, plan.size(20_000, 100))
    for number in range(3):
        client.patch(f"m{number}", many_structs(plan.size(100_000, 2_000)))
    yield
    yield client.http.delete(str(client.http.base_url).rstrip("/")).status_code


@case
def tokens_2_000_of_them(client: Client, plan: Plan) -> Iterator[Any]:
    grants = {"projects": {f"p{number}": {"scope": "read"} for number in range(100)}}
    created = [
        client.http.post(_root(client, "/api/tokens"), json={"name": f"s{number}", **grants})
        for number in range(plan.size(2_000, 5))
    ]
    for answer in created:
        answer.raise_for_status()
    yield
    url = _root(client, "/api/tokens")
    pages = [client.http.get(url, params={"limit": 1000})]
    while (after := pages[-1].json()["next"]) is not None:
        pages.append(client.http.get(url, params={"limit": 1000, "after": after}))
    yield sum(len(page.json()["tokens"]) for page in pages), [(page.status_code, len(page.content)) for page in pages]


@cache
def _nested_array(children: int) -> bytes:
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
    document["root"] = root = pycrdt.Array()
    with document.transaction():
        root.append(pycrdt.Array())
        inner = root[0]
        for number in range(children):
            inner.insert(0, str(number % 10))
    return document.get_update()


@case
def deletion_of_one_type_of_400_000_children(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", _nested_array(plan.size(400_000, 2_000)))
    yield
    yield client.patch("m", b"\0\1\5\1\0\1")


@case
def deletion_of_one_map_of_300_000_keys(client: Client, plan: Plan) -> Iterator[Any]:
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
    document["root"] = root = pycrdt.Map()
    with document.transaction():
        root["inner"] = pycrdt.Map()
        inner = root["inner"]
        for number in range(plan.size(300_000, 2_000)):
            inner[f"k{number}"] = 1
    client.patch("m", document.get_update())
    yield
    yield client.patch("m", b"\0\1\5\1\0\1"), client.http.get("/files/m", params={"format": "json"}).status_code


@case
def text_of_one_type_of_400_000_children_deleted_in_a_room(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", _nested_array(plan.size(400_000, 2_000)))
    yield
    room = client.room("m")
    body = b"\0\1\5\1\0\1"
    room.send(bytes([0, 2]) + var_uint(len(body)) + body)
    room.drain()
    room.close()
    yield


@case
def freeing_of_documents_of_500_000_structs(client: Client, plan: Plan) -> Iterator[Any]:
    large = many_structs(plan.size(500_000, 2_000))
    client.patch("m0", large)
    client.patch("m1", large)
    client.patch("small", b"\0\0")
    yield
    statuses = [client.patch(f"m{number}", large) for number in (2, 3)]
    statuses += [client.http.delete(f"/files/m{number}").status_code for number in range(4)]
    yield statuses


@case
def freeing_of_a_map_and_xml(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", map_of(plan.size(300_000, 1_000)))
    client.patch("x", xml_of(plan.size(100_000, 500)))
    yield
    yield [client.http.delete(f"/files/{path}").status_code for path in ("m", "x")]


@case
def freeing_of_many_small_documents(client: Client, plan: Plan) -> Iterator[Any]:
    for number in range(plan.size(2_000, 10)):
        client.put(f"d{number}", "x" * 1_000)
    yield
    client.patch("m", many_structs(plan.size(500_000, 2_000)))
    yield client.http.delete(str(client.http.base_url).rstrip("/")).status_code


@case
def listings_with_long_names(client: Client, plan: Plan) -> Iterator[Any]:
    count = plan.size(10_000, 100)
    for start in range(0, count, 2_000):
        updates = {f"{number:06}/" + "\u00e9" * 500: "AAA=" for number in range(start, min(start + 2_000, count))}
        client.http.post("/sync", json={"updates": updates}).raise_for_status()
    yield
    answers = [client.http.get(url, params={"limit": 10_000}) for url in ("/files", "/changes")]
    answers += [client.http.post("/sync", json={}), client.http.post("/files/status", json={"versions": {}})]
    names = {f"{number:06}/" + "\u00e9" * 500: 1 for number in range(count)}
    answers += [client.http.post("/files/status", json={"versions": names})]
    query = '{ project(id: "demo") { files(limit: 1000) { files { path version } } } }'
    answers += [client.http.post(_root(client, "/api/graphql"), json={"query": query})]
    answers += [client.http.get("/files", params={"prefix": "a" * 60_000}), client.http.get("/files")]
    yield [(answer.status_code, len(answer.content)) for answer in answers], answers[5].text[:200]


@case
def mcp_with_large_arguments(client: Client, plan: Plan) -> Iterator[Any]:
    url = _root(client, "/mcp").copy_with(query=b"project=demo")
    client.put("t", "line of text\n" * plan.size(1_000_000, 1_000))
    headers = {"Accept": "application/json, text/event-stream"}

    def call(tool: str, arguments: object) -> httpx.Response:
        params = {"name": tool, "arguments": arguments}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        return client.http.post(url, json=body, headers=headers)

    call("list_files", {})
    yield
    answers = [call("read_file", {"path": "t"}), call("read_file", {"path": "t", "offset": plan.size(900_000, 900)})]
    answers += [call("edit_file", {"path": "t", "old_string": "line of text\n" * 3, "new_string": "x"})]
    answers += [call("edit_file", {"path": "t", "old_string": "x" * 10_000_000, "new_string": "x"})]
    answers += [call("write_file", {"path": "u", "text": "y\n" * plan.size(5_000_000, 100)})]
    answers += [call("write_file", {"path": "u", "text": [[]] * plan.size(90_000, 100)})]
    answers += [call("write_file", {"path": "u", "text": {str(n): n for n in range(plan.size(90_000, 100))}})]
    answers += [call("what_changed", {}), call("history", {"path": "t", "limit": 1000})]
    yield [(answer.status_code, answer.text[:90]) for answer in answers]


@case
def mcp_of_a_file_of_a_million_structs(client: Client, plan: Plan) -> Iterator[Any]:
    url = _root(client, "/mcp").copy_with(query=b"project=demo")
    client.patch("m", many_structs(plan.size(400_000, 2_000)))
    headers = {"Accept": "application/json, text/event-stream"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "yjs://demo/m"}}
    client.put("small", "x")
    client.http.post(url, json={**body, "params": {"uri": "yjs://demo/small"}}, headers=headers)
    yield
    yield client.http.post(url, json=body, headers=headers).status_code


@case
def json_bodies_of_strange_shapes(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("t", "x")
    escapes = plan.size(2_500_000, 1_000)
    bodies = {
        "/edits/t": b'{"edits":[{"old":"x","new":"' + b"\\u0061" * escapes + b'"}]}',
        "/sync": b'{"updates":{"a":"' + b"\\u0041" * escapes + b'"}}',
        "/files/status": b'{"since":"' + b"\\u0041" * escapes + b'"}',
        "/sessions": b'{"x":' + b"1" * plan.size(10_000_000, 1_000) + b"}",
        "/files/move": b'{"from":"' + b"\\u0061" * escapes + b'","to":"b"}',
    }
    yield
    found: dict[str, Any] = {}
    for url, body in bodies.items():
        found[url] = client.http.post(url, content=body, headers={"Content-Type": "application/json"}).status_code
    for url in ("/files/status", "/sync"):
        body = json.dumps(
            {"versions": {("\u00e9" * 500) + str(n): 10**15 for n in range(plan.size(9_999, 10))}}
        ).encode()
        found[url] = client.http.post(url, content=body, headers={"Content-Type": "application/json"}).status_code
    yield found


@case
def headers_and_queries_of_60_kb(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("t", "x")
    many = plan.size(3_000, 100)
    tries: list[tuple[str, dict[str, str], dict[str, str]]] = [
        ("/files/t", {"X-Forwarded-For": "1.2.3.4," * (many // 2)}, {}),
        ("/files/t", {"Accept": "a/b;q=0.1," * (many // 3)}, {}),
        ("/files/t", {"Accept-Encoding": "gzip;q=0.1," * (many // 3)}, {}),
        ("/files/t", {"Cookie": "a=b;" * many}, {}),
        ("/files/t", {"Authorization": "Bearer " + "a." * (many * 2)}, {}),
        ("/files/t", {"Prefer": "a=b," * many}, {}),
        ("/files/t", {"traceparent": "0" * 60_000}, {}),
        ("/files/t", {"Range": "bytes=" + "0-1," * many}, {}),
    ]
    yield
    found: list[object] = [
        client.http.get(url, headers=h, params=q).status_code for url, h, q in tries for _ in range(5)
    ]
    queries = ("a=b&" * many, "paths=" + "a," * many, "paths=a&" * (many // 2), "prefix=" + "%41" * many)
    urls = ("/files", "/changes", "/files/t", "/history/t")
    found += [client.http.get(f"{url}?{query[:60_000]}").status_code for query in queries for url in urls]
    yield found
