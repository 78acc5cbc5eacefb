"""Polls that are answered from memory as soon as they are read, and long polls that wait: both without a task."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.types import Receive, Scope, Send

from gateway.api.routes import presence as presence_routes
from gateway.app import create_app
from gateway.asgi.answers import DirectAnswers, encode_headers, holder_of
from gateway.asgi.outlets import PART_BYTES
from gateway.server.http_protocol import HttpProtocol
from gateway.settings import Settings
from tests.access.conftest import bearer
from tests.access.keys import SECRET
from tests.support.in_process import InProcess, serve

_FILE = "/api/projects/demo/files/a.md"
_STATUS = "/api/projects/demo/files/status"


class _Tasks:
    """Counts the tasks that run a request."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        self.count += coroutine.__qualname__ == "Exchange.run"
        return asyncio.Task(coroutine, loop=loop, **options)


@contextlib.asynccontextmanager
async def _serving(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[InProcess, _Tasks]]:
    app = create_app(Settings(database=f"sqlite:///{tmp_path / 'gateway.db'}", **settings))
    tasks = _Tasks()
    asyncio.get_running_loop().set_task_factory(tasks)
    async with serve(app) as server:
        yield server, tasks


_Talk = Callable[["_Connection", InProcess, _Tasks], Awaitable[None]]


def _run(tmp_path: Path, talk: _Talk, **settings: Any) -> None:
    """Let somebody talk to a gateway over a connection."""

    async def work() -> None:
        async with _serving(tmp_path, **settings) as (server, tasks):
            connection = await _Connection.open(server)
            await talk(connection, server, tasks)
            connection.close()

    asyncio.run(asyncio.wait_for(work(), 120))


class _Connection:
    """A connection on which requests are written as bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, server: InProcess) -> "_Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2])))

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        status = int(head[0].split()[1])
        body = b"" if status in (204, 304) else await self._reader.readexactly(int(headers["content-length"]))
        return status, headers, body

    async def ask(self, *request: Any, **headers: str) -> tuple[int, dict[str, str], bytes]:
        self.write(_request(*request, **headers))
        return await self.answer()

    async def head(self) -> tuple[int, str]:
        """The status and the length of an answer to HEAD."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        return int(head[0].split()[1]), next(line.partition(": ")[2] for line in head if line.startswith("content-len"))

    async def ended(self) -> bool:
        return await self._reader.read() == b""

    def close(self) -> None:
        self._writer.close()


def _request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _write(connection: _Connection, text: bytes = b"text", **headers: str) -> tuple[str, str]:
    """Write the file and have it in memory; returns its tag and the cursor."""
    status, _, body = await connection.ask("PUT", _FILE, text, Content_Type="text/plain", **headers)
    assert status in (200, 201), body
    status, told, _ = await connection.ask("GET", _FILE, **headers)
    assert status == 200
    status, listing, _ = await connection.ask("GET", "/api/projects/demo/files", **headers)
    assert status == 200
    return told["etag"], listing["etag"].strip('"')


def test_an_unchanged_poll_takes_no_task(tmp_path: Path) -> None:
    async def talk(connection: _Connection, _server: InProcess, tasks: _Tasks) -> None:
        tag, cursor = await _write(connection)
        question = b'{"since":"%s"}' % cursor.encode()
        before = tasks.count
        for _ in range(3):
            status, headers, _ = await connection.ask("GET", _FILE, If_None_Match=tag)
            assert (status, headers["etag"]) == (304, tag)
            status, headers, body = await connection.ask("POST", _STATUS, question, Content_Type="application/json")
            assert (status, body) == (200, b'{"changes":[],"cursor":"%s"}' % cursor.encode())
        assert tasks.count == before
        assert (await connection.ask("GET", _FILE, If_None_Match='"another"'))[0] == 200
        assert tasks.count == before + 1
        _, _, metrics = await connection.ask("GET", "/metrics")
        counted = [line for line in metrics.decode().splitlines() if line.startswith("gateway_requests_total")]
        assert any('status="304"' in line and line.endswith(" 3.0") for line in counted), counted
        assert any("files/status" in line and line.endswith(" 3.0") for line in counted), counted

    _run(tmp_path, talk)


def test_a_question_whose_body_comes_in_two_parts_is_answered(tmp_path: Path) -> None:
    async def talk(connection: _Connection, _server: InProcess, _tasks: _Tasks) -> None:
        _, cursor = await _write(connection)
        question = _request("POST", _STATUS, b'{"since":"%s"}' % cursor.encode(), Content_Type="application/json")
        for cut in (len(question) - 5, len(question) - len(cursor) - 12, 30):
            connection.write(question[:cut])
            await asyncio.sleep(0.01)
            connection.write(question[cut:])
            status, _, body = await connection.answer()
            assert (status, body) == (200, b'{"changes":[],"cursor":"%s"}' % cursor.encode())

    _run(tmp_path, talk)


def test_pipelined_requests_are_answered_in_their_order(tmp_path: Path) -> None:
    async def talk(connection: _Connection, _server: InProcess, _tasks: _Tasks) -> None:
        tag, cursor = await _write(connection)
        poll = _request("GET", _FILE, If_None_Match=tag)
        question = _request("POST", _STATUS, b'{"since":"%s"}' % cursor.encode(), Content_Type="application/json")
        write = _request("PUT", _FILE, b"new", Content_Type="text/plain")
        connection.write(poll * 300 + question + write + poll + question + _request("GET", "/missing"))
        statuses = [(await connection.answer())[0] for _ in range(305)]
        assert statuses == [304] * 300 + [200, 200, 200, 200, 404]

    _run(tmp_path, talk)


def test_other_connections_have_their_turn_between_pipelined_polls(tmp_path: Path) -> None:
    async def talk(connection: _Connection, _server: InProcess, _tasks: _Tasks) -> None:
        tag, _ = await _write(connection)
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            asyncio.get_running_loop().call_soon(turn)

        connection.write(_request("GET", _FILE, If_None_Match=tag) * 200)
        turn()
        for _ in range(200):
            assert (await connection.answer())[0] == 304
        assert turns >= 190

    _run(tmp_path, talk)


def test_a_connection_is_closed_behind_a_direct_answer_if_the_client_asks(tmp_path: Path) -> None:
    async def talk(connection: _Connection, _server: InProcess, _tasks: _Tasks) -> None:
        tag, _ = await _write(connection)
        status, headers, _ = await connection.ask("GET", _FILE, If_None_Match=tag, Connection="close")
        assert (status, headers["connection"]) == (304, "close")
        assert await connection.ended()

    _run(tmp_path, talk)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_long_part_of_an_answer_is_written_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    body = bytes(range(256)) * 4096
    written: list[int] = []
    write = HttpProtocol.write

    def note(self: HttpProtocol, data: bytes | memoryview) -> None:
        written.append(len(data))
        write(self, data)

    monkeypatch.setattr(HttpProtocol, "write", note)

    class Answering:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            headers = [(b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        def answer_directly(self, scope: Scope, body: bytes, server: DirectAnswers) -> bool:
            return False

    async def talk(_: _Connection, server: InProcess, _tasks: _Tasks) -> None:
        server.config.loaded_app = Answering()  # type: ignore[assignment]
        connection = await _Connection.open(server)
        connection.write(_request(method, _FILE))
        if method == "HEAD":
            assert await connection.head() == (200, str(len(body)))
            assert written == [sum(written)]
        else:
            status, _headers, got = await connection.answer()
            assert (status, got == body) == (200, True)
            assert len(written) == len(body) // PART_BYTES
            assert max(written) <= PART_BYTES + 1000
        connection.close()

    _run(tmp_path, talk)


def test_a_long_part_of_an_answer_is_whole_although_the_task_that_sends_it_is_cancelled(tmp_path: Path) -> None:
    body = bytes(range(256)) * 4096

    class Answering:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            headers = [(b"content-length", b"%d" % (len(body) + 4))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            sending = asyncio.ensure_future(send({"type": "http.response.body", "body": body, "more_body": True}))
            await asyncio.sleep(0)  # the first part is sent
            assert not sending.done()
            sending.cancel()
            await asyncio.wait([sending])
            await send({"type": "http.response.body", "body": b"last"})

        def answer_directly(self, scope: Scope, body: bytes, server: DirectAnswers) -> bool:
            return False

    async def talk(_: _Connection, server: InProcess, _tasks: _Tasks) -> None:
        server.config.loaded_app = Answering()  # type: ignore[assignment]
        connection = await _Connection.open(server)
        connection.write(_request("GET", _FILE))
        status, _headers, got = await connection.answer()
        assert (status, got == body + b"last") == (200, True)
        connection.close()

    _run(tmp_path, talk)


def test_presence_that_is_too_much_for_one_exchange_comes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_routes, "_TOLD_BYTES", 10)

    async def talk(connection: _Connection, _server: InProcess, _tasks: _Tasks) -> None:
        async def exchange(asked: dict[str, Any], accept: str) -> dict[str, Any]:
            body = msgspec.json.encode({"presence": asked})
            headers = {"Content_Type": "application/json", "Accept": accept}
            status, _, answer = await connection.ask("POST", "/api/projects/demo/sync", body, **headers)
            assert status == 200
            decode = msgspec.json.decode if accept == "application/json" else msgspec.msgpack.decode
            told: dict[str, Any] = decode(answer)["presence"]
            return told

        await _write(connection)
        for accept in ("application/json", "application/msgpack"):
            asked: dict[str, Any] = {
                f"{name}.md": {"client_id": 7, "state": {"a": "long" * 9}, "clock": len(accept)} for name in "abc"
            }
            for path in list(asked):
                told = await exchange(asked, accept)
                assert list(told) == [path]
                assert told[path]["clients"][0]["state"] == asked[path]["state"]
                asked[path] = {"version": told[path]["version"]}
            assert await exchange(asked, accept) == {}

    _run(tmp_path, talk)


def test_a_failure_is_answered_and_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Failing:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            raise AssertionError

        def answer_directly(self, scope: Scope, body: bytes, server: DirectAnswers) -> bool:
            raise RuntimeError("on purpose")

    async def talk(_: _Connection, server: InProcess, _tasks: _Tasks) -> None:
        server.config.loaded_app = Failing()  # type: ignore[assignment]
        connection = await _Connection.open(server)
        status, headers, _answer = await connection.ask("GET", _FILE)
        assert (status, headers["content-type"]) == (500, "application/problem+json")
        assert await connection.ended()
        connection.close()

    _run(tmp_path, talk)
    assert "on purpose" in "".join(capsys.readouterr())


def test_a_poll_of_another_site_or_host_is_refused(tmp_path: Path) -> None:
    async def talk(connection: _Connection, _server: InProcess, _tasks: _Tasks) -> None:
        tag, cursor = await _write(connection)
        request = _request("GET", _FILE, If_None_Match=tag).replace(b"Host: localhost", b"Host: evil.example")
        connection.write(request)
        assert (await connection.answer())[0] == 421
        question = b'{"since":"%s"}' % cursor.encode()
        foreign = {"Content_Type": "application/json", "Origin": "https://evil.example"}
        assert (await connection.ask("POST", _STATUS, question, **foreign))[0] == 403

    _run(tmp_path, talk)


def test_a_poll_with_a_credential_takes_no_task_and_is_limited(tmp_path: Path) -> None:
    async def talk(connection: _Connection, _server: InProcess, tasks: _Tasks) -> None:
        ann = {"Authorization": f"Bearer {bearer(projects={'demo': 'write'})}"}
        tag, _ = await _write(connection, **ann)
        before = tasks.count
        statuses = [(await connection.ask("GET", _FILE, If_None_Match=tag, **ann))[0] for _ in range(10)]
        assert statuses == [304] * 10
        assert tasks.count == before
        other = {"Authorization": f"Bearer {bearer('eve', projects={'other': 'write'})}"}
        assert (await connection.ask("GET", _FILE, If_None_Match=tag, **other))[0] == 404
        assert (await connection.ask("GET", _FILE, If_None_Match=tag))[0] == 401
        while (answer := await connection.ask("GET", _FILE, If_None_Match=tag, **ann))[0] != 429:
            assert answer[0] == 304

    _run(tmp_path, talk, auth="required", jwt_key=SECRET, rate_requests=40)


def test_a_poll_through_a_proxy_takes_no_task(tmp_path: Path) -> None:
    async def talk(connection: _Connection, _server: InProcess, tasks: _Tasks) -> None:
        ann = {"Authorization": f"Bearer {bearer(projects={'demo': 'write'})}"}
        tag, _ = await _write(connection, **ann)
        before = tasks.count
        for address in ("192.0.2.7", "192.0.2.8"):
            poll = {**ann, "If_None_Match": tag, "X_Forwarded_For": address}
            assert (await connection.ask("GET", _FILE, **poll))[0] == 304
        assert tasks.count == before

    _run(tmp_path, talk, proxies=("127.0.0.0/8",), auth="required", jwt_key=SECRET)


async def _figure(connection: _Connection, name: str) -> float:
    _, _, metrics = await connection.ask("GET", "/metrics")
    return sum(float(line.rpartition(" ")[2]) for line in metrics.decode().splitlines() if line.startswith(name))


async def _until_waiting(connection: _Connection, count: int) -> None:
    while await _figure(connection, "gateway_waiters ") != count:
        pass


def _running() -> int:
    """How many requests have a task."""
    return sum("Exchange.run" in repr(task.get_coro()) for task in asyncio.all_tasks())


def test_a_long_poll_waits_without_a_task_and_all_get_the_same_answer(tmp_path: Path) -> None:
    async def talk(connection: _Connection, server: InProcess, _tasks: _Tasks) -> None:
        _, cursor = await _write(connection)
        url = f"/api/projects/demo/changes?since={cursor}&wait=60"
        crowd = [await _Connection.open(server) for _ in range(7)]
        *keeping, closing, head = crowd
        for each in keeping:
            each.write(_request("GET", url) + _request("GET", "/healthz"))
        closing.write(_request("GET", url, Connection="close"))
        head.write(_request("HEAD", url))
        await _until_waiting(connection, len(crowd))
        assert _running() == 0
        before = await _figure(
            connection, 'gateway_requests_total{method="GET",route="/api/projects/{project}/changes"'
        )
        await _write(connection, b"another text")
        answers = [await each.answer() for each in keeping]
        status, headers, body = answers[0]
        assert status == 200
        assert b'"version":2' in body
        assert "connection" not in headers
        assert all((*each[::2], each[1]["etag"]) == (status, body, headers["etag"]) for each in answers)
        for each in keeping:  # the request behind it
            assert (await each.answer())[0] == 200
        closed = await closing.answer()
        assert closed[2] == body
        assert closed[1]["connection"] == "close"
        assert await closing.ended()
        assert await head.head() == (200, str(len(body)))
        assert (await head.ask("GET", "/healthz"))[0] == 200
        await _until_waiting(connection, 0)
        after = await _figure(connection, 'gateway_requests_total{method="GET",route="/api/projects/{project}/changes"')
        assert after - before >= len(crowd) - 1
        for each in crowd:
            each.close()

    _run(tmp_path, talk)


def test_a_client_that_leaves_a_long_poll_is_forgotten(tmp_path: Path) -> None:
    async def talk(connection: _Connection, server: InProcess, _tasks: _Tasks) -> None:
        _, cursor = await _write(connection)
        leaving, staying = await _Connection.open(server), await _Connection.open(server)
        question = b'{"since":"%s","wait":60}' % cursor.encode()
        for each in (leaving, staying):
            each.write(_request("GET", f"/api/projects/demo/changes?since={cursor}&wait=60"))
        other = await _Connection.open(server)
        other.write(_request("POST", _STATUS, question, Content_Type="application/json"))
        await _until_waiting(connection, 3)
        leaving.close()
        await _until_waiting(connection, 2)
        await _write(connection, b"another text")
        assert (await staying.answer())[0] == (await other.answer())[0] == 200
        await _until_waiting(connection, 0)
        for each in (staying, other):
            each.close()

    _run(tmp_path, talk)


def test_work_that_fails_after_the_application_has_returned_ends_the_connection(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = asyncio.Event()

    async def fail() -> None:
        raise RuntimeError("on purpose")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        held = holder_of(receive, send)
        assert held is not None
        assert held.hold(ended.set)
        asyncio.get_running_loop().call_soon(lambda: held.start(fail()))

    async def talk(_: _Connection, server: InProcess, _tasks: _Tasks) -> None:
        server.config.loaded_app = app  # type: ignore[assignment]
        connection = await _Connection.open(server)
        status, headers, _answer = await connection.ask("GET", _FILE)
        assert (status, headers["content-type"]) == (500, "application/problem+json")
        assert await connection.ended()
        assert ended.is_set()
        connection.close()

    _run(tmp_path, talk)
    assert "on purpose" in "".join(capsys.readouterr())


def test_a_direct_answer_has_the_headers_of_any_other(tmp_path: Path) -> None:
    async def talk(connection: _Connection, server: InProcess, tasks: _Tasks) -> None:
        tag, cursor = await _write(connection)
        question = b'{"since":"%s"}' % cursor.encode()
        asked = [("GET", _FILE, b"", {"If_None_Match": tag}),
                 ("POST", _STATUS, question, {"Content_Type": "application/json"})]  # fmt: skip
        before = tasks.count
        at_once = [await connection.ask(*request, **headers) for *request, headers in asked]
        assert tasks.count == before
        app = server.config.loaded_app

        async def without(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send)

        server.config.loaded_app = without  # has no `answer_directly`
        other = await _Connection.open(server)
        for (status, headers, body), (*request, given) in zip(at_once, asked, strict=True):
            again, others, same = await other.ask(*request, **given)
            del headers["date"], others["date"]
            assert (status, headers, body) == (again, others, same)
        assert tasks.count == before + 2
        other.close()

    _run(tmp_path, talk)


def test_a_header_with_a_line_break_is_never_sent() -> None:
    assert encode_headers([(b"a", b"1"), (b"b", b"2")]) == b"a: 1\r\nb: 2\r\n"
    for value in (b"1\r\nset-cookie: x", b"1\n", b"1\r", b"\0"):
        with pytest.raises(RuntimeError):
            encode_headers([(b"a", value)])
