"""Many clients at once: what each of them asks for is little."""

import socket
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.harness import Plan
from benchmarks.stalls.client import OCTETS, PATIENCE_S, PROJECTS, Case, Client, Room, cases_of
from benchmarks.stalls.updates import insertions, noise, sync, var_uint

CASES: dict[str, Case] = {}
case = cases_of(CASES)


def _awareness(number: int, state: bytes) -> bytes:
    states = b"\1" + var_uint(number) + b"\1" + var_uint(len(state)) + state
    return b"\1" + var_uint(len(states)) + states


def _readers(client: Client, count: int, path: str = "p") -> list[Room]:
    """Clients that are in a room and are sent every version from now on."""
    rooms = [client.room(path) for _ in range(count)]
    for room in rooms:
        room.send(sync(0, b"\0"))
    rooms[-1].drain()
    time.sleep(1)  # the others were asked before, and are answered soon
    return rooms


def _requests(client: Client, requests: list[bytes]) -> Iterator[None]:
    """Open a connection for each request; then send all at once, and wait for the first bytes of the answers."""
    sockets = [socket.create_connection(("127.0.0.1", client.port), PATIENCE_S) for _ in requests]
    yield
    for each, request in zip(sockets, requests, strict=True):
        each.sendall(request)
    for each in sockets:
        each.recv(2**16)
        each.close()
    yield


def _request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {PROJECTS}/demo{path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _patch(path: str, update: bytes) -> bytes:
    return _request("PATCH", path, update, *(f"{name}: {value}" for name, value in OCTETS.items()))


@case
def crowd_of_500_rooms_that_speak_at_once(client: Client, plan: Plan) -> Iterator[Any]:
    rooms = [client.room(f"r{number}") for number in range(plan.size(500, 5))]
    for room in rooms:
        room.send(sync(0, b"\0"))
        room.drain()
    (update,) = insertions("x")
    yield
    for _ in range(3):
        for room in rooms:
            room.send(sync(2, update))
        for room in rooms:
            room.drain()
    for room in rooms:
        room.close()
    yield


@case
def crowd_of_1_000_people_who_leave_a_room_at_once(client: Client, plan: Plan) -> Iterator[Any]:
    rooms = [client.room("p") for _ in range(plan.size(1_000, 5))]
    for number, room in enumerate(rooms, 1):
        room.send(_awareness(number, b'{"name":"' + b"x" * 100 + b'"}'))
    rooms[0].drain()
    yield
    for room in rooms[1:]:
        room.close()
    rooms[0].drain()
    rooms[0].close()
    yield


@case
def crowd_of_64_writers_to_a_room_of_1_000(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("p", "x")
    rooms = _readers(client, plan.size(1_000, 5))
    updates = [update for _ in range(plan.size(64, 4)) for update in insertions("x")]
    steps = _requests(client, [_patch("/files/p", update) for update in updates])
    next(steps)
    yield
    next(steps)
    for room in rooms:
        room.close()
    yield


@case
def crowd_of_300_readers_of_updates_of_4_mb(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("p", "x")
    rooms = _readers(client, plan.size(300, 5))
    updates = insertions(noise(plan.size(4_000_000, 1_000)) for _ in range(2))
    yield
    for update in updates:
        client.patch("p", update)
    for room in rooms:
        room.close()
    yield


@case
def crowd_of_1_000_filters_and_1_000_changes(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("p", "x")
    sockets = []
    for number in range(plan.size(1_000, 5)):
        sockets.append(socket.create_connection(("127.0.0.1", client.port), PATIENCE_S))
        accept = "Accept: text/event-stream"
        sockets[-1].sendall(_request("GET", f"/changes?prefix=own/{number}/", b"", accept))
    for each in sockets:
        each.recv(2**16)
    updates = {f"many/{number}": "AAA=" for number in range(plan.size(1_000, 5))}
    yield
    yield client.http.post("/sync", json={"updates": updates}).status_code
    for each in sockets:
        each.close()


@case
def crowd_of_1_000_who_write_at_once(client: Client, plan: Plan) -> Iterator[Any]:
    count = plan.size(1_000, 5)
    for number in range(count):
        client.put(f"f{number}", "x")
    updates = [update for _ in range(count) for update in insertions("x")]
    steps = _requests(client, [_patch(f"/files/f{number}", update) for number, update in enumerate(updates)])
    next(steps)
    yield
    next(steps)
    yield


@case
def crowd_of_1_000_who_read_at_once(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("p", "x" * 100)
    steps = _requests(client, [_request("GET", f"/files/p?format=text&n={n}") for n in range(plan.size(1_000, 5))])
    next(steps)
    yield
    next(steps)
    yield


@case
def crowd_of_500_rooms_whose_project_is_deleted(client: Client, plan: Plan) -> Iterator[Any]:
    rooms = []
    for number in range(plan.size(500, 5)):
        client.put(f"r{number}", "x")
        for _ in range(4):
            rooms.append(client.room(f"r{number}"))
            rooms[-1].send(sync(0, b"\0"))
    time.sleep(1)
    yield
    status = client.http.delete(str(client.http.base_url).rstrip("/")).status_code
    time.sleep(2)
    for room in rooms:
        room.close()
    yield status


@case
def crowd_of_4_people_with_256_kb_read_over_http(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("p", "x")
    state = b'{"a":[' + b"[]," * plan.size(86_000, 10) + b"[]]}"
    rooms = [client.room("p") for _ in range(4)]
    for number, room in enumerate(rooms, 1):
        room.send(_awareness(number, state))
        room.drain()
    yield
    yield client.http.get("/presence/p").status_code
    for room in rooms:
        room.close()
