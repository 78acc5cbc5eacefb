"""How many statements many equal requests of one project take, on two gateways of one database."""

import asyncio
import collections
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx

from gateway.app import Gateway
from gateway.settings import Settings
from storage import Storage
from storage.opening import StorageLimits
from storage.postgres import PostgresStorage
from tests.support.postgres import PATIENCE_S

_CROWD = 100
"""The clients of each gateway."""
_FEW = _CROWD // 5
"""More reads than a crowd needs, and fewer than one for each client."""
_METRICS = "http://127.0.0.1/metrics"
_PLAIN = {"Content-Type": "text/plain"}
_OF_PROJECTS = re.compile(r"^(SELECT|WITH)\b.*\b(FROM|JOIN) (project|file|change|turn|block|snapshot)\b", re.DOTALL)


class _Node:
    """A gateway in this process, and the statements that it ran."""

    def __init__(self, client: httpx.AsyncClient, storage: PostgresStorage, statements: list[str]) -> None:
        self.client = client
        self.storage = storage
        self._statements = statements

    def repeated(self) -> dict[str, int]:
        """The reads that ran more than a few times, and how often."""
        counts = collections.Counter(self._statements)
        return {query: count for query, count in counts.items() if count > _FEW and _OF_PROJECTS.search(query)}

    def forget(self) -> None:
        self._statements.clear()

    async def until_waiting(self, count: int) -> None:
        while f"gateway_waiters {count}.0" not in (await self.client.get(_METRICS)).text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def _node(url: str) -> AsyncIterator[_Node]:
    statements: list[str] = []
    storage = await PostgresStorage.open(url, patience=PATIENCE_S, trace=lambda query, values: statements.append(query))

    @contextlib.asynccontextmanager
    async def opened(url: str, limits: StorageLimits) -> AsyncIterator[Storage]:
        yield storage

    app = Gateway(Settings(database="sqlite:///unused.db"), opened)
    transport = httpx.ASGITransport(app=app)
    base = "http://127.0.0.1/api/projects/p"
    limits = httpx.Limits(max_connections=None)
    try:
        async with (
            app.running(),
            httpx.AsyncClient(transport=transport, base_url=base, limits=limits, timeout=60) as client,
        ):
            yield _Node(client, storage, statements)
    finally:
        await storage.close()


def _on_two_gateways(database: str, work: Callable[[_Node, _Node], Any]) -> None:
    async def both() -> None:
        async with _node(database) as first, _node(database) as second:
            await work(first, second)

    asyncio.run(asyncio.wait_for(both(), 300))


async def _put(node: _Node, path: str, text: str) -> str:
    answer = await node.client.put(f"/files/{path}", content=text, headers=_PLAIN)
    return str(answer.raise_for_status().json()["cursor"])


_Ask = Callable[[httpx.AsyncClient, str], Awaitable[httpx.Response]]


def _feed(**parameters: str) -> _Ask:
    return lambda client, cursor: client.get("/changes", params={"since": cursor, "wait": "55", **parameters})


def _status(**question: object) -> _Ask:
    return lambda client, cursor: client.post("/files/status", json={"since": cursor, "wait": 55, **question})


def _file(**parameters: str) -> _Ask:
    def ask(client: httpx.AsyncClient, cursor: str) -> Awaitable[httpx.Response]:
        version = cursor.rpartition(".")[2]  # the file is all that changes in this project
        return client.get("/files/a.md", params={"from_version": version, "wait": "55", **parameters})

    return ask


_QUESTIONS = {
    "the feed": _feed(),
    "the feed of a file": _feed(path="a.md"),
    "the feed with updates": _feed(include="update"),
    "the feed with differences": _feed(diff="text"),
    "the status of all files": _status(),
    "the status of a file": _status(paths=["a.md"]),
    "a file": _file(),
    "a file as text": _file(format="text"),
}


def test_a_crowd_of_equal_long_polls_takes_a_few_reads(database: str) -> None:
    """None of them reads for itself, neither when it arrives nor when it is woken."""

    async def work(first: _Node, second: _Node) -> None:
        nodes = (first, second)
        cursor = await _put(first, "a.md", "one")
        for node in nodes:
            await node.client.get("/changes", params={"since": cursor})  # both have heard of it
        for what, ask in _QUESTIONS.items():
            for node in nodes:
                node.forget()
            polls = [asyncio.ensure_future(ask(node.client, cursor)) for node in nodes for _ in range(_CROWD)]
            for node in nodes:
                await node.until_waiting(_CROWD)
            cursor = await _put(first, "a.md", f"before {what}")
            answers = await asyncio.gather(*polls)
            assert {answer.status_code for answer in answers} == {200}, what
            assert len({answer.content for answer in answers}) == 1, what
            for node in nodes:
                assert node.repeated() == {}, what

    _on_two_gateways(database, work)


def test_a_crowd_that_asks_at_once_takes_a_few_reads(database: str) -> None:
    async def work(first: _Node, second: _Node) -> None:
        old = await _put(first, "a.md", "one")
        cursor = await _put(first, "b.md", "two")
        nodes = (first, second)
        for node in nodes:
            await node.client.get("/changes", params={"since": cursor})
        questions: list[Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]] = [
            lambda client: client.get("/changes", params={"since": cursor}),
            lambda client: client.get("/changes", params={"since": old}),
            lambda client: client.get("/changes"),
            lambda client: client.get("/files"),
            lambda client: client.get("/files", params={"deleted": "true"}),
            lambda client: client.get("/files/b.md"),
            lambda client: client.post("/files/status", json={"since": old}),
            lambda client: client.post("/files/status", json={"versions": {"a.md": 1, "none.md": 1}}),
        ]
        for ask in questions:
            for node in nodes:
                node.forget()
            answers = await asyncio.gather(*(ask(node.client) for node in nodes for _ in range(_CROWD)))
            assert {answer.status_code for answer in answers} == {200}
            assert len({answer.content for answer in answers}) == 1 or "b.md" in answers[0].request.url.path
            for node in nodes:
                assert node.repeated() == {}, answers[0].request.url

    _on_two_gateways(database, work)
