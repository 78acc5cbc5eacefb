"""Webhooks and push subscriptions: many of them, with large filters, and many changes for them."""

from collections.abc import Iterator
from typing import Any

from benchmarks.harness import Plan
from benchmarks.stalls.client import Case, Client, cases_of
from benchmarks.stalls.updates import many_structs

CASES: dict[str, Case] = {}
case = cases_of(CASES)

_NOWHERE = "http://127.0.0.1:9/"


@case
def hooks_with_1_000_long_paths(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("a", "x")
    paths = [f"{number:04}/" + "a/b" * 330 for number in range(plan.size(1_000, 10))]
    body = {"url": _NOWHERE, "filter": {"paths": paths}}
    statuses = {client.http.put(f"/hooks/h{number}", json=body).status_code for number in range(plan.size(100, 2))}
    yield
    statuses |= {client.put("a", f"y{number}") for number in range(3)}
    statuses |= {client.http.get("/hooks", params={"limit": 1000}).status_code}
    yield list(statuses)


@case
def hooks_with_a_long_prefix(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("a", "x")
    body = {"url": _NOWHERE, "filter": {"prefix": "a" * plan.size(10_000_000, 1_000)}}
    statuses = {client.http.put(f"/hooks/h{number}", json=body).status_code for number in range(plan.size(20, 2))}
    yield
    statuses |= {client.put("a", f"y{number}") for number in range(3)}
    statuses |= {client.http.get("/hooks", params={"limit": 1000}).status_code}
    yield list(statuses)


@case
def hooks_2_000_and_1_000_changes(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("a", "x")
    for number in range(plan.size(2_000, 5)):
        body = {"url": f"http://127.0.0.1:{1 + number % 200}/", "filter": {"prefix": f"no/{number}"}}
        client.http.put(f"/hooks/h{number}", json=body)
    yield
    for start in range(plan.size(5, 1)):
        updates = {f"many/{start}/{number}": "AAA=" for number in range(plan.size(500, 5))}
        client.http.post("/sync", json={"updates": updates})
    yield client.http.get("/hooks", params={"limit": 1000}).status_code


@case
def hooks_that_include_large_texts(client: Client, plan: Plan) -> Iterator[Any]:
    for include in ("text", "update"):
        for number in range(plan.size(5, 1)):
            body = {"url": _NOWHERE, "include": include}
            client.http.put(f"/hooks/{include}{number}", json=body)
    client.patch("m", many_structs(plan.size(200_000, 2_000)))
    yield
    for number in range(plan.size(20, 2)):
        client.http.put(f"/files/f{number}", content=b"line\n" * 100_000, headers={"Content-Type": "text/plain"})
        client.http.put(f"/files/f{number}", content=b"lime\n" * 100_000, headers={"Content-Type": "text/plain"})
    client.put("m", "x")
    yield
