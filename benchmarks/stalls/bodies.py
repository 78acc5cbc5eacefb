"""Bodies and headers: JSON, queries, codings, tags."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.harness import Plan
from benchmarks.stalls.client import Case, Client, at_once, cases_of
from benchmarks.stalls.updates import noise, var_uint

CASES: dict[str, Case] = {}
case = cases_of(CASES)


@case
def answers_of_15_mb_compressed_for_5_clients(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("b", noise(plan.size(15_000_000, 100_000)))
    yield
    for coding in ("gzip", "br", "zstd"):
        headers = {"Accept-Encoding": coding}
        asked = [partial(client.other().get, "/files/b", params={"format": "text"}, headers=headers) for _ in range(5)]
        with at_once(asked):
            pass
    yield


@case
def json_of_very_many_values(client: Client, plan: Plan) -> Iterator[Any]:
    paths = json.dumps({"versions": {f"f{number}": 1 for number in range(plan.size(900_000, 1_000))}}).encode()
    lists = b'{"query":"{__typename}","variables":{"a":[' + b"[]," * plan.size(3_000_000, 1_000) + b"[]]}}"
    deep = plan.size(5_000_000, 100)
    nested = b'{"query":"{__typename}","variables":{"a":' + b"[" * deep + b"]" * deep + b"}}"
    graphql = client.http.base_url.copy_with(path="/api/graphql")
    headers = {"Content-Type": "application/json"}
    client.http.post(graphql, json={"query": "{__typename}"})
    yield
    asked = [("/files/status", paths), ("/sync", paths), (graphql, lists), (graphql, nested)]
    yield [client.http.post(url, content=body, headers=headers).status_code for url, body in asked]


@case
def graphql_of_as_many_tokens_as_may_be(client: Client, plan: Plan) -> Iterator[Any]:
    graphql = client.http.base_url.copy_with(path="/api/graphql")
    queries = ["__typename " * 990, 'project(id: "a") { id } ' * 98, 'project(name: "p") { idd } ' * 98]
    client.http.post(graphql, json={"query": "{__typename}"})
    yield
    yield [client.http.post(graphql, json={"query": f"{{{query}}}"}).status_code for query in queries]


@case
def room_of_a_million_awareness_states(client: Client, plan: Plan) -> Iterator[Any]:
    count = plan.size(1_000_000, 1_000)
    states = var_uint(count) + b"".join(var_uint(number) + b"\1\4null" for number in range(count))
    yield
    room = client.room("small")
    room.send(b"\1" + var_uint(len(states)) + states)
    room.drain()
    room.close()
    yield


@case
def tags_of_60_kb_in_a_header(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("small", "x")
    tags = ", ".join(f'"x{number}"' for number in range(7_000))[:60_000]
    yield
    yield [client.http.get("/files/small", headers={"If-None-Match": tags}).status_code for _ in range(20)]
