"""Rich text: documents of an editor that are read and edited as Markdown."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pycrdt

from benchmarks.harness import Plan
from benchmarks.stalls.client import Case, Client, cases_of

CASES: dict[str, Case] = {}
case = cases_of(CASES)

_MARKDOWN = {"Content-Type": "text/markdown"}


@cache
def _paragraphs(count: int) -> bytes:
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
    document["default"] = fragment = pycrdt.XmlFragment()
    with document.transaction():
        for number in range(count):
            paragraph = fragment.children.append(pycrdt.XmlElement("paragraph"))
            paragraph.children.append(pycrdt.XmlText(f"paragraph {number} of a *long* text"))
    return document.get_update()


@case
def markdown_of_20_000_paragraphs(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("r", _paragraphs(plan.size(20_000, 100)))
    yield
    yield [client.http.get("/files/r", params={"format": each}).status_code for each in ("markdown", "html")]


@case
def markdown_put_over_20_000_paragraphs(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("r", _paragraphs(plan.size(20_000, 100)))
    text = client.http.get("/files/r", params={"format": "markdown"}).text
    yield
    changed = text.replace("long", "short").encode()
    yield client.http.put("/files/r", content=changed, headers=_MARKDOWN).status_code


@case
def markdown_edits_of_20_000_paragraphs(client: Client, plan: Plan) -> Iterator[Any]:
    count = plan.size(20_000, 100)
    client.patch("r", _paragraphs(count))
    edits = [
        {"old": f"paragraph {number} of", "new": f"part {number} of"} for number in range(0, count, plan.size(20, 5))
    ]
    yield
    yield client.http.post("/edits/r", json={"edits": edits, "format": "markdown"}).status_code


@case
def markdown_put_of_a_new_file_of_2_mb(client: Client, plan: Plan) -> Iterator[Any]:
    lines = plan.size(50_000, 100)
    flat = "".join(f"- item *{number}* with `code` and [a link](x)\n" for number in range(lines))
    yield
    yield client.http.put("/files/r", content=flat.encode(), headers=_MARKDOWN).status_code


@case
def markdown_put_of_hard_inputs(client: Client, plan: Plan) -> Iterator[Any]:
    size = plan.size(100_000, 1_000)
    hard = ["> " * size, "*a **a " * size, "[" * size, "`" * size + "a", "<" * size, "a | " * size + "\n" + "-|" * size]
    hard += ["".join(f"[a{number}]: x\n" for number in range(size)), "- " * size, "![](" * size, "\\" * size]
    yield
    yield [
        client.http.put(f"/files/r{number}", content=each.encode(), headers=_MARKDOWN).status_code
        for number, each in enumerate(hard)
    ]
