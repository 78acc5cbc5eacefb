"""Who is in which file: presence of many clients, and of large states."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.harness import Plan
from benchmarks.stalls.client import Case, Client, at_once, cases_of
from benchmarks.stalls.updates import sync, var_uint

CASES: dict[str, Case] = {}
case = cases_of(CASES)

_JSON = {"Content-Type": "application/json"}


def _states(clients: range, state: bytes) -> bytes:
    parts = b"".join(var_uint(each) + b"\1" + var_uint(len(state)) + state for each in clients)
    states = var_uint(len(clients)) + parts
    return b"\1" + var_uint(len(states)) + states


@case
def presence_of_all_clients_with_60_kb_that_a_file_takes(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("p", "x")
    body = json.dumps({"state": {"a": [[]] * plan.size(20_000, 100)}}).encode()
    for number in range(plan.size(900, 10)):
        if client.http.put(f"/presence/p/{number}", content=body, headers=_JSON).status_code == 503:
            break  # the states in one file have a bound in total
    yield
    statuses = [client.http.get("/presence/p").status_code for _ in range(2)]
    with client.http.stream("GET", "/changes", params={"kinds": "presence"}, headers={"Accept": "text/event-stream"}):
        pass
    room = client.room("p")
    room.send(b"\3")
    room.drain()
    room.close()
    yield statuses


@case
def presence_of_1_000_files_in_an_event_stream(client: Client, plan: Plan) -> Iterator[Any]:
    files = plan.size(1_000, 10)
    body = json.dumps({"state": {"a": [[]] * plan.size(10_000, 100)}}).encode()
    for number in range(files):
        client.http.put(f"/files/f{number}", content=b"x", headers={"Content-Type": "text/plain"})
        client.http.put(f"/presence/f{number}/7", content=body, headers=_JSON).raise_for_status()
    yield
    headers = {"Accept": "text/event-stream"}
    seen = 0
    with client.http.stream("GET", "/changes", params={"kinds": "presence"}, headers=headers) as stream:
        for chunk in stream.iter_raw():
            seen += len(chunk)
            if seen > plan.size(20_000_000, 2_000):
                break
    yield seen


@case
def presence_of_1_000_clients_of_a_room(client: Client, plan: Plan) -> Iterator[Any]:
    room = client.room("p")
    count = plan.size(1_000, 10)
    yield
    for size in (100, 4_000):
        state = json.dumps({"a": "x" * size}).encode()
        for start in range(1, count, 100):
            room.send(_states(range(start, min(start + 100, count)), state))
    room.drain()
    room.close()
    yield


@case
def presence_of_500_rooms_each_told(client: Client, plan: Plan) -> Iterator[Any]:
    rooms = [client.room("p") for _ in range(plan.size(500, 5))]
    for room in rooms:
        room.send(sync(0, b"\0"))
    state = b'{"a":"' + b"x" * 1_000 + b'"}'
    yield
    for number, room in enumerate(rooms, 1):
        room.send(_states(range(number, number + 1), state))
    for room in rooms:
        room.close()
    yield


@case
def presence_put_200_at_once(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("p", "x")
    body = json.dumps({"state": {"a": "x" * 60_000}}).encode()
    count = plan.size(200, 5)
    waits = [partial(client.other().get, "/presence/p", params={"wait": 5}) for _ in range(plan.size(20, 2))]
    yield
    with at_once(waits):
        for number in range(count):
            client.http.put(f"/presence/p/{number}", content=body, headers=_JSON)
    yield
