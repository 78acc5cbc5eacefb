"""What comes over the wire is no HTTP, half of it, too much of it, or slow: a clear answer, and nobody else suffers."""

import json
import socket
from pathlib import Path

import httpx
import pytest

from tests.live.clients import wait_for_figure
from tests.support.server import GatewayProcess

_HOST = " HTTP/1.1\r\nHost: localhost"
_PLAIN = {"Content-Type": "text/plain"}


class Connection:
    """A socket to a gateway, on which one writes what one likes."""

    def __init__(self, gateway: GatewayProcess, project: httpx.Client) -> None:
        self._socket = socket.create_connection(("127.0.0.1", gateway.port), 120)
        self._target = project.base_url.path

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, text: str, *, end: bool = True) -> None:
        """A request line, its target relative to the project, and headers, one a line; `end`: and the empty line."""
        method, _, rest = text.partition(" ")
        lines = "\r\n".join([f"{method} {self._target}{rest.replace(chr(10), chr(13) + chr(10))}", "Host: localhost"])
        self.write(lines.encode() + (b"\r\n\r\n" if end else b"\r\n"))

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read_until(self, end: bytes) -> bytes:
        received = b""
        while not received.endswith(end):
            chunk = self._socket.recv(1)
            assert chunk, received
            received += chunk
        return received

    def read_all(self) -> bytes:
        """All that comes until the gateway ends the connection."""
        received = b""
        while chunk := self._socket.recv(65536):
            received += chunk
        return received


@pytest.fixture
def connection(shared_gateway: GatewayProcess, shared_project: httpx.Client) -> "Connection":
    return Connection(shared_gateway, shared_project)


def _paths(project: httpx.Client) -> list[str]:
    return [entry["path"] for entry in project.get("/files").json()["files"]]


def _problem(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\ncontent-type: application/problem+json" in head.lower(), answer
    assert b"\r\nconnection: close" in head.lower(), answer
    problem = json.loads(body)
    assert head.startswith(b"HTTP/1.1 %d " % problem["status"])
    return problem["status"], problem["code"]


def test_half_a_request_harms_nobody(shared_gateway: GatewayProcess, shared_project: httpx.Client) -> None:
    halves = [
        ("PATCH files/half.md HTTP/1.1\nContent-Length: 1000", b"half"),
        ("PUT files/half.md HTTP/1.1\nTransfer-Encoding: chunked", b"5\r\nhal"),
        ("POST files/status HTTP/1.1\nContent-Length: 50", b"{"),
        ("POST sync HTTP/1.1\nContent-Length: 50", b"{"),
        ("GET changes?wait=50&since=x HTTP/1.1", b""),
    ]
    for head, body in halves:
        with Connection(shared_gateway, shared_project) as connection:
            connection.send(head)
            connection.write(body)
    with Connection(shared_gateway, shared_project) as connection:
        connection.write(b"GET /api/proj")
    assert shared_project.put("/files/whole.md", content=b"text", headers=_PLAIN).status_code == 201
    assert _paths(shared_project) == ["whole.md"]


def test_requests_in_one_packet_are_answered_in_order(connection: Connection, shared_project: httpx.Client) -> None:
    shared_project.put("/files/a.md", content=b"text", headers=_PLAIN)
    target = shared_project.base_url.path
    one = f"GET {target}files/a.md?format=text HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    last = f"GET {target}files/none.md HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    with connection:
        connection.write(one + one + last)
        received = connection.read_all()
    assert [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"404"]


@pytest.mark.parametrize(
    "asked", ["changes\nAccept: text/event-stream", "files/a.md?from_version=1&wait=50\n", "changes?wait=50\n"]
)
def test_who_leaves_with_a_request_behind_the_one_that_waits_is_forgotten(tmp_path: Path, asked: str) -> None:
    with GatewayProcess(tmp_path / "gateway.db") as gateway, gateway.client() as project:
        cursor = project.put("/files/a.md", content=b"text", headers=_PLAIN).json()["cursor"]
        asked = asked.replace("changes?", f"changes?since={cursor}&").replace("\n", f"{_HOST}\r\n", 1)
        with Connection(gateway, project) as connection:
            connection.write(f"GET /api/projects/demo/{asked}\r\n\r\nGET /healthz{_HOST}\r\n\r\n".encode())
            wait_for_figure(gateway, "gateway_waiters", 1)
        wait_for_figure(gateway, "gateway_waiters", 0)


@pytest.mark.parametrize(
    "noise",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a client that speaks TLS
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"BREW /pot HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"PUT / HTTP/1.1\r\nContent-Length: 99999999999999999999999999\r\n\r\n",
        b"PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"PUT / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        bytes(range(256)) * 100,
    ],
)
def test_what_is_no_http_is_told_so(connection: Connection, noise: bytes) -> None:
    with connection:
        connection.write(noise)
        assert _problem(connection.read_all()) == (400, "malformed_request")


def test_noise_after_a_request_does_not_take_its_answer(connection: Connection, shared_project: httpx.Client) -> None:
    with connection:
        connection.send("PUT files/a.md HTTP/1.1\nContent-Type: text/plain\nContent-Length: 4")
        connection.write(b"textand noise\r\n\r\n")
        assert connection.read_all().startswith(b"HTTP/1.1 201 ")
    assert shared_project.get("/files/a.md?format=text").text == "text"


def test_a_body_that_breaks_off_into_noise_stores_nothing(connection: Connection, shared_project: httpx.Client) -> None:
    with connection:
        connection.send("PUT files/a.md HTTP/1.1\nContent-Type: text/plain\nTransfer-Encoding: chunked")
        connection.write(b"4\r\ntext\r\nno length\r\n")
        assert _problem(connection.read_all()) == (400, "malformed_request")
    shared_project.put("/files/b.md", content=b"text", headers=_PLAIN)
    assert _paths(shared_project) == ["b.md"]


@pytest.mark.parametrize("start", [b"GET /api HTTP/1.1\r\nX-Large: ", b"GET /api?root=", b"G"])
def test_a_head_without_an_end_is_refused(connection: Connection, start: bytes) -> None:
    with connection:
        connection.write(start)
        connection.write(b"x" * 2**20)
        assert _problem(connection.read_all()) in [(431, "head_too_large"), (400, "malformed_request")]


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"0\r\nX-Large: ", b"x"),
        (b"0\r\n", b"x"),
        (b"0\r\n", b"X-Many: x\r\n"),
        (b"4;", b"x"),
        (b"4\r\nmore\r\n4;", b"x"),
    ],
    ids=["value", "name", "trailers", "extension", "extension of a later chunk"],
)
def test_what_comes_beside_a_chunked_body_without_an_end_is_refused(
    connection: Connection, shared_project: httpx.Client, start: bytes, more: bytes
) -> None:
    with connection:
        connection.send("PUT files/a.md HTTP/1.1\nContent-Type: text/plain\nTransfer-Encoding: chunked")
        connection.write(b"4\r\ntext\r\n" + start)
        connection.write(more * (2**20 // len(more)))
        assert _problem(connection.read_all()) == (431, "head_too_large")
    shared_project.put("/files/b.md", content=b"text", headers=_PLAIN)
    assert _paths(shared_project) == ["b.md"]


def test_large_chunks_and_a_few_trailers_are_taken(connection: Connection, shared_project: httpx.Client) -> None:
    text = b"large " * 50_000
    chunk = b"%x;name=value\r\n%b\r\n" % (len(text), text)
    with connection:
        connection.send("PUT files/a.md HTTP/1.1\nContent-Type: text/plain\nTransfer-Encoding: chunked")
        connection.write(chunk * 3 + b"0\r\n" + b"X-Sum: 1\r\n" * 1000 + b"\r\n")
        assert connection.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 201 ")
    assert shared_project.get("/files/a.md?format=text").content == text * 3


def test_a_body_in_a_coding_that_nobody_decodes_is_refused(
    connection: Connection, shared_project: httpx.Client
) -> None:
    with connection:
        connection.send("PUT files/a.md HTTP/1.1\nContent-Type: text/plain\nTransfer-Encoding: gzip, chunked")
        connection.write(b"4\r\ntext\r\n0\r\n\r\n")
        assert _problem(connection.read_all()) == (400, "malformed_request")
    shared_project.put("/files/b.md", content=b"text", headers=_PLAIN)
    assert _paths(shared_project) == ["b.md"]


@pytest.mark.parametrize("size", [1000, 100_000])
@pytest.mark.parametrize("value", ["x", "*/*,", "gzip,", '"a",', '"', "bytes=0-1,", "W/", ";q=0.1,", "\xff"])
def test_large_headers_are_understood_or_refused(shared_project: httpx.Client, value: str, size: int) -> None:
    shared_project.put("/files/a.md", content=b"text", headers=_PLAIN)
    names = [
        "Accept", "Accept-Encoding", "Content-Encoding", "Content-Type", "If-Match", "If-None-Match", "Last-Event-ID",
        "Origin", "Range", "X-Author", "X-Incarnation",
    ]  # fmt: skip
    for name in names:
        headers = {name: (value * size)[:size].encode("latin-1")}
        for method, path in (("GET", "/files/a.md"), ("PUT", "/files/a.md"), ("GET", "/files"), ("GET", "/changes")):
            answer = shared_project.request(method, path, content=b"text", headers={**_PLAIN, **headers})
            assert answer.status_code < 500, (name, method, path, answer.text)
            if answer.status_code >= 400:
                assert answer.json()["code"]
                assert len(answer.content) < 1000
    assert shared_project.get("/files/a.md?format=text").text == "text"


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "PURGE", "LOCK", "M-SEARCH", "OPTIONS"])
def test_a_method_that_nothing_takes_is_told_those_it_takes(shared_project: httpx.Client, method: str) -> None:
    for path in ("/files/a.md", "/files", "/files/status", "/changes", "/sync", "/history/a.md"):
        answer = shared_project.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert answer.headers["Allow"]


def test_a_client_that_asks_first_is_told_to_go_on(connection: Connection, shared_project: httpx.Client) -> None:
    with connection:
        connection.send("PUT files/a.md HTTP/1.1\nContent-Type: text/plain\nContent-Length: 4\nExpect: 100-continue")
        assert connection.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        connection.write(b"text")
        assert connection.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 201 ")
    assert shared_project.get("/files/a.md?format=text").text == "text"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("PATCH files/a.md HTTP/1.1\nContent-Length: 17000000", 413),
        ("PATCH files/a.md HTTP/1.1\nContent-Length: 10\nContent-Type: text/plain", 415),
        ('PUT files/a.md HTTP/1.1\nContent-Length: 10\nIf-Match: "x', 400),
        ("PUT files/../a.md HTTP/1.1\nContent-Length: 10", 400),
    ],
)
def test_a_client_that_asks_first_sends_no_body_in_vain(connection: Connection, head: str, status: int) -> None:
    with connection:
        connection.send(f"{head}\nExpect: 100-continue")
        assert connection.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 %d " % status)


def test_slow_bodies_hold_up_nobody_and_arrive(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_BODY_SECONDS=600) as gateway, gateway.client() as project:
        slow = [Connection(gateway, project) for _ in range(50)]
        for number, connection in enumerate(slow):
            connection.send(f"PUT files/{number}.md HTTP/1.1\nContent-Type: text/plain\nContent-Length: 4")
            connection.write(b"t")
        assert project.put("/files/quick.md", content=b"text", headers=_PLAIN).status_code == 201
        assert _paths(project) == ["quick.md"]
        for connection in slow:
            connection.write(b"ex")
        for connection in slow:
            with connection:
                connection.write(b"t")
                assert connection.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 201 ")
        assert len(_paths(project)) == 51
