"""What a client sends into a room."""

from collections.abc import Iterator
from typing import Any

from benchmarks.harness import Plan
from benchmarks.stalls.client import Case, Client, cases_of
from benchmarks.stalls.updates import insertions, many_structs, noise, sync, var_uint

CASES: dict[str, Case] = {}
case = cases_of(CASES)


@case
def room_of_200_000_structs_joined_50_times(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", many_structs(plan.size(200_000, 2_000)))
    yield
    rooms = [client.room("m") for _ in range(plan.size(50, 3))]
    for room in rooms:
        room.send(sync(0, b"\0"))
    for room in rooms:
        room.drain()
        room.close()
    yield len(rooms)


@case
def room_of_15_000_sync_steps_in_one_write(client: Client, plan: Plan) -> Iterator[Any]:
    structs = plan.size(150_000, 2_000)
    client.patch("m", many_structs(structs))
    yield
    room = client.room("m")
    room.send(sync(0, b"\1\5" + var_uint(structs)), plan.size(15_000, 50))
    room.drain()
    room.close()
    yield


@case
def room_of_a_state_vector_of_7_million_entries(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("small", "x")
    entries = plan.size(7_500_000, 10_000)
    message = sync(0, var_uint(entries) + b"\0\0" * entries)
    yield
    room = client.room("small")
    room.send(message)
    room.drain()
    room.close()
    yield


@case
def room_of_200_000_structs_in_one_update(client: Client, plan: Plan) -> Iterator[Any]:
    message = sync(2, many_structs(plan.size(200_000, 2_000)))
    yield
    room = client.room("m")
    room.send(message)
    room.drain()
    yield client.stored("m")
    room.close()


@case
def room_of_1_000_updates_of_16_kb(client: Client, plan: Plan) -> Iterator[Any]:
    updates = insertions(noise(15_000) for _ in range(plan.size(1_000, 10)))
    yield
    room = client.room("burst")
    for update in updates:
        room.send(sync(2, update))
    room.drain()
    yield client.stored("burst")
    room.close()


@case
def room_of_30_000_updates_of_a_keystroke_in_one_write(client: Client, plan: Plan) -> Iterator[Any]:
    updates = insertions("x" * plan.size(30_000, 100))
    yield
    room = client.room("burst")
    room.send_all([sync(2, update) for update in updates])
    room.drain()
    yield client.stored("burst")
    room.close()


@case
def room_of_30_000_questions_for_awareness(client: Client, plan: Plan) -> Iterator[Any]:
    yield
    room = client.room("small")
    for number in range(1, 91):
        states = b"\1" + var_uint(number) + b"\1" + var_uint(2_400) + b'"' + b"a" * 2_398 + b'"'
        room.send(b"\1" + var_uint(len(states)) + states)
    room.send(b"\3", plan.size(30_000, 100))
    room.drain()
    room.close()
    yield
