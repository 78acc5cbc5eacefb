"""What subscriptions cost: one execution for all who ask the same, and nothing for what nobody selected."""

import asyncio
import contextlib
import functools
import json
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

import gateway.graphql.execution as execution
from gateway.app import Gateway
from gateway.settings import Settings
from storage import StorageUnavailable
from storage.opening import open_storage as real_open
from storage.sqlite import SQLiteStorage
from tests.graphql.asking import PATH
from tests.support.chunked_body import ChunkedBody
from tests.support.in_process import InProcess, serve
from tests.support.statements import StatementRecorder, record_statements

_CLIENTS = 30


def _in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


class _Gateway:
    """A gateway in this process, of which executions and statements are counted."""

    def __init__(self, server: InProcess, recorder: StatementRecorder, client: httpx.AsyncClient) -> None:
        self.server = server
        self.recorder = recorder
        self.client = client
        self.executions: list[execution.Executions] = []
        self.results = 0

    @property
    def groups(self) -> list[int]:
        """How many clients each execution has that waits for more."""
        return [len(group.members) for group in self.executions[0].groups.values()] if self.executions else []

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(120):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def put(self, path: str, text: str, **parameters: str) -> None:
        answer = await self.client.put(f"/api/projects/demo/files/{path}", content=text, params=parameters)
        assert answer.is_success, answer.text

    @contextlib.asynccontextmanager
    async def follow(self, query: str, **variables: Any) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        question = {"query": query, "variables": variables}
        headers = {"Accept": "text/event-stream"}
        async with self.client.stream("POST", PATH, json=question, headers=headers) as answer:
            yield _results(answer)


async def _results(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


@contextlib.asynccontextmanager
async def _gateway(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[_Gateway]:
    opened: list[SQLiteStorage] = []
    database = f"sqlite:///{folder / 'gateway.db'}"

    @contextlib.asynccontextmanager
    async def open_and_keep(url: str, limits: Any) -> AsyncIterator[Any]:
        async with real_open(url, limits) as storage:
            opened.append(storage)
            yield storage

    app = Gateway(Settings(database=database, **settings), open_and_keep)
    limits = httpx.Limits(max_connections=None)
    async with serve(app) as server, httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as client:
        counted = _Gateway(server, await record_statements(opened[0]), client)
        encode, create = execution.result_bytes, execution.Executions.__init__

        def count(result: Any) -> bytes:
            counted.results += 1
            return encode(result)

        def keep(self: execution.Executions, services: Any) -> None:
            create(self, services)
            counted.executions.append(self)

        monkeypatch.setattr(execution, "result_bytes", count)
        monkeypatch.setattr(execution.Executions, "__init__", keep)
        await client.post("/api/projects/demo/sessions", json={})
        yield counted


async def _turn(gateway: _Gateway) -> tuple[str, dict[str, str]]:
    session = (await gateway.client.post("/api/projects/demo/sessions", json={})).json()["id"]
    url = f"/api/projects/demo/sessions/{session}/turns"
    turn = (await gateway.client.post(url, json={"prompt": "Do it"})).json()["id"]
    return f"{url}/{turn}", {"s": session, "t": turn}


_STATUS = 'subscription ($s: String!, $t: String!) { turn(project: "demo", session: $s, id: $t) { status blockCount } }'


@_in_a_loop
async def test_those_who_ask_the_same_are_executed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with _gateway(tmp_path, monkeypatch) as gateway, contextlib.AsyncExitStack() as stack:
        url, turn = await _turn(gateway)
        streams = [await stack.enter_async_context(gateway.follow(_STATUS, **turn)) for _ in range(_CLIENTS)]
        for stream in streams:
            assert (await anext(stream))["data"]["turn"]["status"] == "pending"
        await gateway.until(lambda: gateway.groups == [_CLIENTS])
        gateway.results = 0
        for number in range(1, 4):
            block = {"blocks": [{"type": "text", "content": "x"}]}
            assert (await gateway.client.post(f"{url}/blocks", json=block)).is_success
            told = [await anext(stream) for stream in streams]
            assert told == [{"data": {"turn": {"status": "running", "blockCount": number}}}] * _CLIENTS
            await gateway.until(lambda: gateway.groups == [_CLIENTS])
        assert gateway.results == 3


@_in_a_loop
async def test_those_who_come_from_different_places_are_executed_together_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = """subscription ($since: String) { changes(project: "demo", since: $since) {
        cursor changes { ... on FileChange { path version } } } }"""
    async with _gateway(tmp_path, monkeypatch) as gateway, contextlib.AsyncExitStack() as stack:
        cursors: list[str | None] = [None]
        for number in range(3):
            await gateway.put(f"{number}.md", "x")
            listing = await gateway.client.get("/api/projects/demo/files")
            cursors.append(listing.json()["cursor"])
        streams = [await stack.enter_async_context(gateway.follow(query, since=since)) for since in cursors]
        firsts = [(await anext(stream))["data"]["changes"] for stream in streams]
        assert [len(first["changes"]) for first in firsts] == [3, 2, 1, 0]
        await gateway.until(lambda: gateway.groups == [4])
        gateway.results = 0
        await gateway.put("new.md", "x")
        lasts = [(await anext(stream))["data"]["changes"] for stream in streams]
        assert lasts == [lasts[0]] * 4
        assert lasts[0]["changes"] == [{"path": "new.md", "version": 1}]
        assert gateway.results == 1


@_in_a_loop
async def test_different_questions_are_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query = 'subscription ($path: String!, $from: Int) { file(project: "demo", path: $path, fromVersion: $from) {%s} }'
    async with _gateway(tmp_path, monkeypatch) as gateway, contextlib.AsyncExitStack() as stack:
        for path in ("a.md", "b.md"):
            await gateway.put(path, path)
        asked = [("a.md", "version"), ("b.md", "version"), ("a.md", "text"), ("a.md", "version text")]
        streams = [await stack.enter_async_context(gateway.follow(query % what, path=path)) for path, what in asked]
        for stream in streams:
            await anext(stream)
        await gateway.until(lambda: gateway.groups == [1, 1, 1, 1])
        await gateway.put("a.md", "moved")
        await gateway.put("b.md", "too")
        told = [(await anext(stream))["data"]["file"] for stream in streams]
        assert told == [{"version": 2}, {"version": 2}, {"text": "moved"}, {"version": 2, "text": "moved"}]


@_in_a_loop
async def test_a_version_alone_never_reads_a_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query = 'subscription { file(project: "demo", path: "a.md") { version lastModified deleted } }'
    async with _gateway(tmp_path, monkeypatch) as gateway:
        await gateway.put("a.md", "begin")
        async with gateway.follow(query) as stream:
            assert (await anext(stream))["data"]["file"]["version"] == 1
            await gateway.until(lambda: gateway.groups == [1])
            with gateway.recorder.recording() as with_reader:
                await gateway.put("a.md", "one")
                assert (await anext(stream))["data"]["file"]["version"] == 2
        await gateway.until(lambda: gateway.groups == [])
        with gateway.recorder.recording() as without_reader:
            await gateway.put("a.md", "two")
        assert _kinds(with_reader) == _kinds(without_reader)


def _kinds(statements: list[str]) -> list[str]:
    """The statements without their values."""
    return sorted(re.sub(r"\d+|'[^']*'", "?", statement) for statement in statements)


@_in_a_loop
async def test_the_status_alone_is_neither_executed_nor_read_for_a_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = 'subscription ($s: String!, $t: String!) { turn(project: "demo", session: $s, id: $t) { status } }'
    block = {"blocks": [{"type": "text", "content": "x"}]}
    async with _gateway(tmp_path, monkeypatch) as gateway:
        url, turn = await _turn(gateway)
        await gateway.client.post(f"{url}/blocks", json=block)
        async with gateway.follow(query, **turn) as stream:
            assert (await anext(stream))["data"]["turn"]["status"] == "running"
            await gateway.until(lambda: gateway.groups == [1])
            gateway.results = 0
            with gateway.recorder.recording() as with_reader:
                for _ in range(5):
                    await gateway.client.post(f"{url}/blocks", json=block)
                await gateway.until(lambda: gateway.groups == [1])
            assert gateway.results == 0
        await gateway.until(lambda: gateway.groups == [])
        with gateway.recorder.recording() as without_reader:
            for _ in range(5):
                await gateway.client.post(f"{url}/blocks", json=block)
        assert _kinds(with_reader) == _kinds(without_reader)


@_in_a_loop
async def test_who_does_not_read_is_served_apart_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two reads nothing while more is sent than the system keeps for it; in the end it has all of it."""
    query = 'subscription { changes(project: "demo") { changes { ... on FileChange { path version text } } } }'
    rounds, size = 40, 200_000
    async with (
        contextlib.AsyncExitStack() as stack,
        _gateway(tmp_path, monkeypatch) as gateway,
        gateway.follow(query) as quick,
    ):
        await anext(quick)
        question = json.dumps({"query": query}).encode()
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # else the system keeps megabytes
        connection.setblocking(False)
        port = int(gateway.server.url.rpartition(":")[2])
        loop = asyncio.get_running_loop()
        stack.callback(connection.close)
        await loop.sock_connect(connection, ("127.0.0.1", port))
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(question)}\r\n\r\n"
        await loop.sock_sendall(connection, head.encode() + question)
        await gateway.until(lambda: gateway.groups == [2])
        for number in range(rounds):
            await gateway.put(f"{number}.md", "x" * size)
            told = (await anext(quick))["data"]["changes"]["changes"]
            assert [change["path"] for change in told] == [f"{number}.md"]
        assert all(len(group.members) == 1 for group in gateway.executions[0].groups.values())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)  # else it would take a minute
        received: set[str] = set()
        body, unread = ChunkedBody(), b""
        while len(received) < rounds:
            part = await asyncio.wait_for(loop.sock_recv(connection, 2**20), 120)
            assert part, "the stream has ended"
            *lines, unread = (unread + body.take(part)).split(b"\n")
            for line in lines:
                if line.startswith(b"data: "):
                    received |= {change["path"] for change in json.loads(line[6:])["data"]["changes"]["changes"]}
        await gateway.until(lambda: gateway.groups == [2])


@_in_a_loop
async def test_there_is_room_for_so_many_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query = 'subscription { changes(project: "demo") { cursor } }'
    async with _gateway(tmp_path, monkeypatch, project_waiters=2) as gateway, contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(gateway.follow(query)) for _ in range(2)]
        assert all(["data" in await anext(stream) for stream in streams])
        async with gateway.follow(query) as refused:
            assert (await anext(refused))["errors"][0]["extensions"]["code"] == "overloaded"
        await stack.aclose()
        await gateway.until(lambda: gateway.groups == [])
        async with gateway.follow(query) as stream:
            assert "data" in await anext(stream)


@_in_a_loop
async def test_a_subscription_whose_events_cannot_be_read_ends_and_is_not_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = 'subscription { changes(project: "demo") { cursor } }'
    async with _gateway(tmp_path, monkeypatch) as gateway:
        question, headers = {"query": query}, {"Accept": "text/event-stream"}
        async with gateway.client.stream("POST", PATH, json=question, headers=headers) as answer:
            await gateway.until(lambda: gateway.groups == [1])

            async def fail(*_: object) -> None:
                raise StorageUnavailable("for a moment")

            monkeypatch.setattr(gateway.executions[0].services.feed, "read", fail)
            await gateway.put("a.md", "x")
            lines = [line async for line in answer.aiter_lines()]
        assert lines.count("event: next") == 1
        assert "event: complete" not in lines


@_in_a_loop
async def test_everybody_has_a_turn_while_a_long_list_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = """query ($s: String!, $t: String!) { project(id: "demo") { turn(session: $s, id: $t) {
        blocks { index createdAt } } } }"""
    turns_of_the_loop = 0
    seen: list[int] = []

    async def count() -> None:
        nonlocal turns_of_the_loop
        while True:
            turns_of_the_loop += 1
            await asyncio.sleep(0)

    async with _gateway(tmp_path, monkeypatch) as gateway:
        url, turn = await _turn(gateway)
        blocks = {"blocks": [{"type": "text", "content": number} for number in range(1000)]}
        assert (await gateway.client.post(f"{url}/blocks", json=blocks)).is_success
        await gateway.client.post(PATH, json={"query": "{ __typename }"})  # imports what it is made of

        from gateway.graphql import types

        written = types.rfc3339

        def note(milliseconds: int) -> str:
            seen.append(turns_of_the_loop)
            return written(milliseconds)

        monkeypatch.setattr(types, "rfc3339", note)
        counting = asyncio.create_task(count())
        answer = await gateway.client.post(PATH, json={"query": query, "variables": turn})
        counting.cancel()
        assert len(answer.json()["data"]["project"]["turn"]["blocks"]) == 1000
    assert len(seen) == 1000
    assert max(Counter(seen).values()) <= 100
