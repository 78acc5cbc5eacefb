"""What holds for every answer: compression, caching, origins, methods, problems."""

import asyncio
import gzip
import random
from collections.abc import Iterator
from pathlib import Path

import brotli
import httpx
import pytest
import zstandard
from starlette.types import Message, Receive, Scope, Send

from gateway.http.middleware import compressed
from tests.support.server import GatewayProcess

_PLAIN = {"Content-Type": "text/plain"}


@pytest.fixture
def large(shared_project: httpx.Client) -> httpx.Client:
    """A project with a file whose answers are worth compressing, and one whose are not."""
    shared_project.put("/files/large.md", content=b"words and words\n" * 500, headers=_PLAIN)
    shared_project.put("/files/small.md", content=b"few words", headers=_PLAIN)
    return shared_project


def _raw(project: httpx.Client, path: str, encoding: str) -> tuple[httpx.Response, bytes]:
    with project.stream("GET", path, headers={"Accept-Encoding": encoding}) as response:
        return response, b"".join(response.iter_raw())


DECODERS = {
    "zstd": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
    "br": brotli.decompress,
    "gzip": gzip.decompress,
}


@pytest.mark.parametrize("encoding", DECODERS)
def test_a_large_answer_is_compressed_as_the_client_can_take_it(large: httpx.Client, encoding: str) -> None:
    plain, body = _raw(large, "/files/large.md", "identity")
    response, compressed = _raw(large, "/files/large.md", encoding)
    assert response.headers["Content-Encoding"] == encoding
    assert len(compressed) < len(body) / 4
    assert DECODERS[encoding](compressed) == body
    assert response.headers["ETag"] == "W/" + plain.headers["ETag"]
    assert "Content-Encoding" not in plain.headers


@pytest.mark.parametrize("encoding", [*DECODERS, "identity"])
@pytest.mark.parametrize("form", ["?format=text", "?format=json", ""])
def test_the_largest_answers_are_the_same_however_they_are_sent(
    long_text: tuple[httpx.Client, str], encoding: str, form: str
) -> None:
    project, text = long_text
    _, plain = _raw(project, f"/files/long.md{form}", "")
    response, body = _raw(project, f"/files/long.md{form}", encoding)
    assert response.headers.get("Content-Encoding", "identity") == encoding
    assert DECODERS.get(encoding, bytes)(body) == plain
    assert text.encode() in plain
    head = project.head(f"/files/long.md{form}", headers={"Accept-Encoding": encoding})
    assert (head.status_code, head.headers["ETag"]) == (200, response.headers["ETag"])


@pytest.fixture(scope="module")
def long_text(shared_gateway: GatewayProcess) -> Iterator[tuple[httpx.Client, str]]:
    """A file whose text is 2 MB, and hardly compressible."""
    with shared_gateway.client("long") as project:
        text = random.Random(1).randbytes(10**6).hex()
        project.put("/files/long.md", content=text, headers=_PLAIN).raise_for_status()
        yield project, text


@pytest.mark.parametrize("encoding", DECODERS)
@pytest.mark.parametrize("parts", [1, 3])
def test_all_others_have_their_turns_while_an_answer_is_compressed(encoding: str, parts: int) -> None:
    body = random.Random(1).randbytes(2**20).hex().encode()
    sent: list[bytes] = []
    turns = 0

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        for number in range(1, parts + 1):
            await send({"type": "http.response.body", "body": body, "more_body": number < parts})

    async def take(message: Message) -> None:
        sent.append(message.get("body", b""))

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def ask() -> None:
        others = asyncio.create_task(count_turns())
        scope = {"type": "http", "method": "GET", "headers": [(b"accept-encoding", encoding.encode())]}
        await compressed(answer)(scope, _never, take)
        others.cancel()

    asyncio.run(ask())
    assert DECODERS[encoding](b"".join(sent)) == body * parts
    assert turns >= parts * len(body) / 2**16


async def _never() -> Message:
    raise AssertionError("nothing is received")


def test_a_small_answer_is_not_compressed(large: httpx.Client) -> None:
    response, _ = _raw(large, "/files/small.md", "zstd, br, gzip")
    assert "Content-Encoding" not in response.headers
    assert response.headers["ETag"].startswith('"')


ACCEPTED = {
    "gzip;q=0": {None},
    "gzip;q=0, br": {"br"},
    "br;q=0.1, gzip;q=0": {"br"},
    "*": {"zstd", "br", "gzip"},
    "*;q=0": {None},
    "GZIP": {"gzip"},
    "gzip ; q=0": {None},
    "deflate": {None},
    "": {None},
    "gzip;q=abc": {None, "gzip"},
}


@pytest.mark.parametrize("accepted", ACCEPTED)
def test_a_coding_that_the_client_does_not_accept_is_not_used(large: httpx.Client, accepted: str) -> None:
    """RFC 9110 §12.5.3."""
    response, body = _raw(large, "/files/large.md?format=text", accepted)
    coding = response.headers.get("Content-Encoding")
    assert coding in ACCEPTED[accepted]
    assert (DECODERS[coding](body) if coding else body) == b"words and words\n" * 500


@pytest.mark.parametrize(("size", "compressed"), [(1024, False), (1025, True)])
def test_bodies_over_a_kibibyte_are_compressed(shared_project: httpx.Client, size: int, compressed: bool) -> None:
    shared_project.put("/files/a.md", content=b"x" * size, headers=_PLAIN).raise_for_status()
    response, _ = _raw(shared_project, "/files/a.md?format=text", "gzip")
    assert ("Content-Encoding" in response.headers) == compressed


@pytest.mark.parametrize("form", ["{tag}", "W/{tag}", '"x", {tag}', 'W/"x" , W/{tag}', "*"])
def test_every_form_of_a_tag_is_understood_everywhere(large: httpx.Client, form: str) -> None:
    tag = large.get("/files/small.md").headers["ETag"]
    value = form.format(tag=tag)
    assert large.get("/files/small.md", headers={"If-None-Match": value}).status_code == 304
    written = large.put("/files/small.md", content=b"few words", headers={**_PLAIN, "If-Match": value})
    assert written.status_code == 200
    listing = large.get("/files")
    value = form.format(tag=listing.headers["ETag"])
    assert large.get("/files", headers={"If-None-Match": value}).status_code == 304


def test_caches_revalidate_and_never_leak(large: httpx.Client) -> None:
    tag = large.get("/files/small.md").headers["ETag"]
    answers = [
        large.get("/files/small.md"),
        large.get("/files/small.md", headers={"If-None-Match": tag}),
        large.get("/files/large.md", headers={"Accept-Encoding": "gzip"}),
        large.get("/files"),
        large.get("/files/none.md"),
        large.post("/files/status", json={}),
        large.post("/files/status", json={"since": large.get("/files").json()["cursor"]}),
        large.put("/files/small.md", content=b"other words", headers=_PLAIN),
    ]
    for answer in answers:
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert {"Accept", "Accept-Encoding", "Authorization"} <= set(answer.headers["Vary"].split(", "))


def test_head_answers_like_get_without_a_body(large: httpx.Client) -> None:
    got, head = large.get("/files/small.md"), large.head("/files/small.md")
    assert head.status_code == 200
    assert head.content == b""
    for name in ("ETag", "X-Version", "X-Incarnation", "Last-Modified", "Content-Type"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/files/a.md", "PATCH"), ("DELETE", "/files", "GET"), ("PUT", "/changes", "GET")],
)
def test_a_wrong_method_is_told_the_right_ones(
    shared_project: httpx.Client, method: str, path: str, allowed: str
) -> None:
    answer = shared_project.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert allowed in answer.headers["Allow"].split(", ")


@pytest.mark.parametrize("path", ["/nothing", "/files/none.md", "/files/a//b", "/../../etc/passwd", "/files/%2e%2e/x"])
def test_every_error_is_a_problem_with_a_code(shared_project: httpx.Client, path: str) -> None:
    answer = shared_project.get(path)
    problem = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(problem) >= {"type", "title", "status", "detail", "code"}
    assert problem["status"] == answer.status_code


def test_only_configured_origins_may_call(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "gateway.db", GATEWAY_CORS_ORIGINS="https://app.example")
    with gateway, gateway.client() as client:
        asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "PATCH"}
        asked["Access-Control-Request-Headers"] = "if-match, x-incarnation, last-event-id"
        preflight = client.options("/files/a.md", headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["Access-Control-Allow-Origin"] == "https://app.example"
        answer = client.get("/files/a.md", headers={"Origin": "https://app.example"})
        exposed = answer.headers["Access-Control-Expose-Headers"].lower()
        assert {"etag", "x-version", "x-from-version", "x-incarnation", "backoff"} <= set(exposed.split(", "))
        for headers in ({**asked, "Origin": "https://evil.example"}, {"Origin": "https://evil.example"}):
            foreign = client.options("/files/a.md", headers=headers)
            assert foreign.headers.get("Access-Control-Allow-Origin") is None


def test_health_readiness_and_figures_are_there(shared_gateway: GatewayProcess, shared_project: httpx.Client) -> None:
    shared_project.put("/files/a.md", content=b"text", headers=_PLAIN)
    assert httpx.get(f"{shared_gateway.url}/healthz").json() == {"status": "ok"}
    ready = httpx.get(f"{shared_gateway.url}/readyz").json()
    assert ready["status"] == "ok"
    assert {*ready["checks"].values()} == {"ok"}
    figures = httpx.get(f"{shared_gateway.url}/metrics")
    assert figures.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    names = {line.split("{")[0].split(" ")[0] for line in figures.text.splitlines() if not line.startswith("#")}
    assert names >= {
        "gateway_requests_total", "gateway_request_seconds_bucket", "gateway_commits_total", "gateway_changes_total",
        "gateway_queued_changes", "gateway_hot_documents", "gateway_hot_document_bytes", "gateway_database_bytes",
    }  # fmt: skip
