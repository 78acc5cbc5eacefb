"""Documents of many structs, as they are written."""

import base64
import json
from collections.abc import Iterator
from typing import Any

from benchmarks.harness import Plan
from benchmarks.stalls.client import Case, Client, cases_of
from benchmarks.stalls.updates import code, many_structs, map_of, one_struct, sync, var_uint

CASES: dict[str, Case] = {}
case = cases_of(CASES)


@case
def patch_of_200_000_structs(client: Client, plan: Plan) -> Iterator[Any]:
    update = many_structs(plan.size(200_000, 2_000))
    yield
    yield client.patch("m", update)


@case
def patch_of_200_000_structs_and_a_byte(client: Client, plan: Plan) -> Iterator[Any]:
    update = many_structs(plan.size(200_000, 2_000)) + b"\0"
    yield
    yield client.patch("m", update)


@case
def patch_of_the_same_200_000_structs_again(client: Client, plan: Plan) -> Iterator[Any]:
    update = many_structs(plan.size(200_000, 2_000))
    client.patch("m", update)
    yield
    yield client.patch("m", update)


@case
def patch_just_under_1_mb_of_structs(client: Client, plan: Plan) -> Iterator[Any]:
    update = many_structs(plan.size(100_000, 2_000))
    assert len(update) < 2**20
    yield
    yield client.patch("m", update)


@case
def patch_of_a_map_of_200_000_entries(client: Client, plan: Plan) -> Iterator[Any]:
    update = map_of(plan.size(200_000, 1_000))
    yield
    yield client.patch("m", update)


@case
def patch_of_5_million_empty_sections(client: Client, plan: Plan) -> Iterator[Any]:
    sections = plan.size(5_000_000, 10_000)
    update = var_uint(sections) + b"\0\1\0" * sections + b"\0\0"
    yield
    yield client.patch("m", update)


@case
def patch_of_5_million_deleted_ranges(client: Client, plan: Plan) -> Iterator[Any]:
    ranges = plan.size(5_000_000, 10_000)
    client.put("m", "text")
    update = b"\0\1\5" + var_uint(ranges) + b"\0\1" * ranges
    yield
    yield client.patch("m", update)


@case
def patch_of_an_array_of_5_million_values(client: Client, plan: Plan) -> Iterator[Any]:
    values = plan.size(5_000_000, 10_000)
    update = b"\1\1\5\0\x08\1\5array" + var_uint(values) + b"\x7e" * values + b"\0"
    yield
    yield client.patch("m", update)


@case
def patch_of_one_value_of_5_million_values(client: Client, plan: Plan) -> Iterator[Any]:
    values = plan.size(5_000_000, 10_000)
    update = one_struct(8, b"\1\x75" + var_uint(values) + b"\x7e" * values)
    yield
    yield client.patch("m", update)


@case
def patch_of_3_million_texts_in_an_array(client: Client, plan: Plan) -> Iterator[Any]:
    values = plan.size(3_000_000, 10_000)
    update = one_struct(8, var_uint(values) + b"\x77\1a" * values)
    yield
    yield client.patch("m", update)


@case
def patch_of_a_million_json_values(client: Client, plan: Plan) -> Iterator[Any]:
    values = plan.size(1_000_000, 10_000)
    update = one_struct(2, var_uint(values) + b"\1\x31" * values)
    yield
    yield client.patch("m", update)


@case
def patch_of_15_mb_in_one_text_and_reads(client: Client, plan: Plan) -> Iterator[Any]:
    size = plan.size(15_000_000, 10_000)
    update = one_struct(4, var_uint(size) + b"a" * size)
    yield
    status = client.patch("m", update)
    asked: list[dict[str, str | int]] = [{}, {"state_vector": "AA"}, {"format": "text", "root": "root"}]
    yield status, [client.http.get("/files/m", params=each).status_code for each in asked]


@case
def patch_of_an_embed_of_10_mb(client: Client, plan: Plan) -> Iterator[Any]:
    value = b'{"a":"' + b'\\"' * plan.size(5_000_000, 5_000) + b'"}'
    update = one_struct(5, var_uint(len(value)) + value)
    yield
    yield client.patch("m", update)


@case
def patch_of_15_mb_of_binary(client: Client, plan: Plan) -> Iterator[Any]:
    size = plan.size(15_000_000, 10_000)
    update = one_struct(3, var_uint(size) + b"a" * size)
    yield
    yield client.patch("m", update)


@case
def patch_of_a_million_roots(client: Client, plan: Plan) -> Iterator[Any]:
    def named(first: int, count: int) -> bytes:
        roots = b"".join(b"\x08\1\7%07d\1\x7e" % number for number in range(first, first + count))
        return b"\1" + var_uint(count) + var_uint(first + 1) + b"\0" + roots + b"\0"

    many, most = plan.size(1_000_000, 20_000), 10_000
    updates = [named(0, many), named(0, most), named(most, 1)]
    yield
    yield [client.patch("m", update) for update in updates]


@case
def patches_of_100_000_clients(client: Client, plan: Plan) -> Iterator[Any]:
    def written(first: int, count: int) -> bytes:
        clients = range(first + count, first, -1)
        return var_uint(count) + b"".join(b"\1" + var_uint(each) + b"\0\x08\1\1a\1\x7e" for each in clients) + b"\0"

    many = plan.size(99_000, 2_000)
    updates = [written(0, many), written(many, 10), written(many + 10, 1_000)]
    yield
    statuses = [client.patch("m", update) for update in updates]
    asked: list[dict[str, str]] = [{}, {"state_vector": "AA"}, {"format": "json"}]
    yield statuses, [client.http.get("/files/m", params=each).status_code for each in asked]


@case
def edits_of_1_000_places(client: Client, plan: Plan) -> Iterator[Any]:
    lines = plan.size(50_000, 500)
    client.put("p", code(lines))
    places = range(0, lines, plan.size(50, 5))  # 1,000 are the most
    edits = [{"old": f"= oldName({number});", "new": f"= newName({number});"} for number in places]
    yield
    yield client.http.post("/edits/p", json={"edits": edits}).status_code


@case
def patches_that_compete_with_200_000_structs(client: Client, plan: Plan) -> Iterator[Any]:
    """Clients who did not see the text insert at its beginning: yrs walks over the whole text for each."""

    def letters(first: int, count: int) -> bytes:
        clients = range(first + count, first, -1)
        return var_uint(count) + b"".join(b"\1" + var_uint(each) + b"\0\4\1\7content\1z" for each in clients) + b"\0"

    client.patch("m", many_structs(plan.size(200_000, 2_000)))
    yield
    yield [client.patch("m", letters(10 * count, count)) for count in (1, 10, plan.size(4_000, 20))]


@case
def reads_of_a_small_document_whose_structs_compete(client: Client, plan: Plan) -> Iterator[Any]:
    count = plan.size(10_000, 200)
    clients = range(10, count + 10)
    letters = [b"\1\1" + var_uint(each) + b"\0\4\1\7content\1z\0" for each in clients]
    for start in range(0, count, 500):
        room = client.room("m")
        room.send_all([sync(2, letter) for letter in letters[start : start + 500]])
        room.drain()
        room.close()
    client.stored("m")
    client.again()
    yield
    asked: list[dict[str, str | int]] = [{}, {"format": "text"}, {"format": "json"}, {"from_version": 1}]
    asked += [{"at_version": 2, "format": "text"}]
    statuses = [client.http.get("/files/m", params=each).status_code for each in asked]
    yield statuses, client.put("m", "x"), client.patch("m", many_structs(10))


@case
def deletion_of_a_million_structs(client: Client, plan: Plan) -> Iterator[Any]:
    count = plan.size(1_000_000, 2_000)
    for start in range(0, count, 200_000):
        many = min(count, 200_000)
        parts = b"".join(b"\x04\1\7content\1x" if number % 2 else b"\x08\1\1a\1\x7e" for number in range(many))
        client.patch("m", b"\1" + var_uint(many) + b"\5" + var_uint(start) + parts + b"\0")
    yield
    yield client.patch("m", b"\0\1\5\1\0" + var_uint(count))


@case
def presence_of_a_large_state(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("small", "x")
    bodies = [{"state": {"name": "n", "list": [[]] * plan.size(3_000_000, 1_000)}}, {"state": "a" * 10_000_000}]
    texts = [json.dumps(body).encode() for body in bodies]
    headers = {"Content-Type": "application/json"}
    yield
    yield [client.http.put("/presence/small/7", content=text, headers=headers).status_code for text in texts]


@case
def sync_of_200_000_structs(client: Client, plan: Plan) -> Iterator[Any]:
    update = base64.b64encode(many_structs(plan.size(200_000, 2_000))).decode()
    yield
    yield client.http.post("/sync", json={"updates": {"m": update}}).status_code


@case
def sync_of_2_000_new_files(client: Client, plan: Plan) -> Iterator[Any]:
    updates = {f"many/{number}": "AAA=" for number in range(plan.size(2_000, 20))}
    yield
    yield client.http.post("/sync", json={"updates": updates}).status_code


@case
def announced_lengths_beyond_the_bytes(client: Client, plan: Plan) -> Iterator[Any]:
    """A few bytes that say that a great many things follow, at each place where a number of things stands."""
    many = var_uint(2**28 - 1)
    updates = {
        "clients": many + b"\1\7\0",
        "structs": b"\1" + many + b"\7\0",
        "deleting clients": b"\0" + many + b"\1\1\0\1",
        "deleted ranges": b"\0\1\5" + many + b"\0\1",
        "values": b"\1\1\5\0\x08\1\1a" + many + b"\x7e\0",
        "JSON values": b"\1\1\5\0\x02\1\1a" + many + b"\x04null\0",
        "characters": b"\1\1\5\0\x04\1\1a" + many + b"x\0",
        "bytes": b"\1\1\5\0\x03\1\1a" + many + b"x\0",
        "members": b"\1\1\5\0\x08\1\1a\1\x76" + many + b"\0",
        "elements": b"\1\1\5\0\x08\1\1a\1\x75" + many + b"\0",
        "a gap": b"\1\1\5\0\x0a" + many + b"\0",
        "collected": b"\1\1\5\0\0" + many + b"\0",
    }
    yield
    found: dict[str, object] = {name: client.patch("small", update) for name, update in updates.items()}
    for vector in (many + b"\5\1", var_uint(2**20) + b"\5\1"):
        given = base64.urlsafe_b64encode(vector).decode().rstrip("=")
        client.http.get("/files/small", params={"state_vector": given})
        room = client.room("small")
        room.send(sync(0, vector))
        room.drain()
        room.close()
    for update in updates.values():
        room = client.room("small")
        room.send(sync(2, update))
        room.drain()
        room.close()
    yield found
