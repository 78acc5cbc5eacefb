"""Documents of many structs, as they are read."""

from collections.abc import Iterator
from typing import Any

from benchmarks.harness import Plan
from benchmarks.stalls.client import PLAIN, Case, Client, cases_of
from benchmarks.stalls.updates import many_structs, map_of, var_uint, xml_of

CASES: dict[str, Case] = {}
case = cases_of(CASES)


@case
def first_write_after_a_start(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", many_structs(plan.size(200_000, 2_000)))
    client.again()
    yield
    yield client.http.put("/files/m", params={"root": "x"}, content=b"y", headers=PLAIN).status_code


@case
def text_of_a_root_that_is_not_there(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", many_structs(plan.size(200_000, 2_000)))
    yield
    yield client.http.get("/files/m", params={"format": "text", "root": "none"}).status_code


@case
def text_of_200_000_structs_ten_times(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", many_structs(plan.size(200_000, 2_000)))
    yield
    yield [client.http.get("/files/m", params={"format": "text"}).status_code for _ in range(10)]


@case
def json_just_under_1_mb(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", many_structs(plan.size(100_000, 2_000)))
    yield
    yield client.http.get("/files/m", params={"format": "json"}).status_code


@case
def json_of_a_map_of_200_000_entries(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", map_of(plan.size(200_000, 1_000)))
    yield
    yield client.http.get("/files/m", params={"format": "json"}).status_code


@case
def json_of_20_000_xml_elements(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", xml_of(plan.size(20_000, 500)))
    yield
    yield client.http.get("/files/m", params={"format": "json"}).status_code


@case
def json_of_5_million_values(client: Client, plan: Plan) -> Iterator[Any]:
    values = plan.size(5_000_000, 10_000)
    client.patch("m", b"\1\1\5\0\x08\1\5array" + var_uint(values) + b"\x7e" * values + b"\0")
    yield
    yield client.http.get("/files/m", params={"format": "json"}).status_code


@case
def restore_of_a_map_of_50_000_entries(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", map_of(plan.size(50_000, 500)))
    client.http.delete("/files/m")
    yield
    yield client.http.post("/history/m/restore", json={"version": 1}).status_code


@case
def increments_and_old_versions_of_200_000_structs(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", many_structs(plan.size(200_000, 2_000)))
    client.http.put("/files/m", params={"root": "content"}, content=b"short", headers=PLAIN)
    yield
    asked: list[dict[str, str | int]] = [{"from_version": 1}, {"at_version": 1}, {"state_vector": "AA"}, {}]
    asked += [{"at_version": 1, "format": "text"}, {"at_version": 1, "format": "json"}]
    yield [client.http.get("/files/m", params=each).status_code for each in asked]


@case
def move_of_200_000_structs(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", many_structs(plan.size(200_000, 2_000)))
    yield
    yield client.http.post("/files/move", json={"from": "m", "to": "n"}).status_code
