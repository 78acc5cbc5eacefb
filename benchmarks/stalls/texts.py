"""Texts that are compared, or made into one another."""

import random
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.harness import Plan
from benchmarks.stalls.client import Case, Client, at_once, cases_of
from benchmarks.stalls.updates import LETTERS, SYMBOLS, code, many_structs, noise

CASES: dict[str, Case] = {}
case = cases_of(CASES)


@case
def diff_of_two_shuffles_of_short_lines(client: Client, plan: Plan) -> Iterator[Any]:
    for _ in range(2):
        client.put("d", "\n".join(random.choices(SYMBOLS, k=plan.size(90_000, 2_000))))
    yield
    yield client.http.get("/history/d", params={"diff": "1..2"}).status_code


@case
def diff_of_a_cycle_of_lines_and_its_reverse(client: Client, plan: Plan) -> Iterator[Any]:
    lines = plan.size(90_000, 2_000)
    for step in (1, -1):
        client.put("d", "\n".join(SYMBOLS[step * (number % 120) - (step < 0)] for number in range(lines)))
    yield
    yield client.http.get("/history/d", params={"diff": "1..2"}).status_code


@case
def diff_of_two_noises_in_one_line(client: Client, plan: Plan) -> Iterator[Any]:
    for _ in range(2):
        client.put("d", noise(plan.size(1_000_000, 10_000)))
    yield
    yield client.http.get("/history/d", params={"diff": "1..2"}).status_code


@case
def diffs_that_take_all_workers_and_a_read(client: Client, plan: Plan) -> Iterator[Any]:
    for _ in range(2):
        client.put("d", "\n".join(random.choices(SYMBOLS, k=plan.size(300_000, 2_000))))
    client.patch("large", many_structs(plan.size(200_000, 2_000)))
    yield
    pairs = [partial(client.other().get, "/history/d", params={"diff": "1..2"}) for _ in range(4)]
    with at_once(pairs):
        started = time.perf_counter()
        status = client.http.get("/files/large", params={"at_version": 1, "format": "json"}).status_code
        read = time.perf_counter() - started
    yield {"status": status, "read_s": read}


@case
def put_of_1_mb_of_noise_in_long_lines(client: Client, plan: Plan) -> Iterator[Any]:
    def text() -> str:
        return "\nsame line\n".join(noise(10_000) for _ in range(plan.size(100, 1)))

    client.put("p", text())
    yield
    yield client.put("p", text())


@case
def put_of_noise_in_200_lines_of_1000(client: Client, plan: Plan) -> Iterator[Any]:
    def text() -> str:
        return "\n".join(noise(1_000) for _ in range(plan.size(200, 5)))

    client.put("p", text())
    yield
    yield client.put("p", text())


@case
def put_of_15_mb_over_15_mb_of_noise(client: Client, plan: Plan) -> Iterator[Any]:
    def text() -> str:
        return noise(plan.size(15_000_000, 10_000), LETTERS + "\n ")

    client.put("p", text())
    yield
    yield client.put("p", text())


@case
def put_that_indents_90_000_lines(client: Client, plan: Plan) -> Iterator[Any]:
    text = code(plan.size(90_000, 1_000))
    client.put("p", text)
    yield
    yield client.put("p", "\n".join("  " + line for line in text.split("\n")))


@case
def put_that_renames_in_20_000_places(client: Client, plan: Plan) -> Iterator[Any]:
    lines = plan.size(20_000, 500)
    client.put("p", code(lines))
    yield
    yield client.put("p", code(lines, "brandNewName"))


@case
def restore_of_20_000_renames(client: Client, plan: Plan) -> Iterator[Any]:
    lines = plan.size(20_000, 500)
    client.put("p", code(lines))
    client.put("p", code(lines, "brandNewName"))
    yield
    yield client.http.post("/history/p/restore", json={"version": 1}).status_code


@case
def put_over_300_000_emoji(client: Client, plan: Plan) -> Iterator[Any]:
    text = "😀a" * plan.size(300_000, 1_000)
    client.put("e", text)
    yield
    yield [client.put("e", text + "x" * number) for number in range(1, 4)]


@case
def put_into_a_text_of_200_000_structs(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", many_structs(plan.size(200_000, 2_000)))
    yield
    yield [client.put("m", "y" * number) for number in (100, 50)]
