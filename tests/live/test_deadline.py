"""A change that is committed at the very moment when a wait ends: it is in that answer, or in the next one."""

import asyncio
import itertools
import json
import random
import time
from abc import ABC, abstractmethod
from itertools import cycle
from typing import Self

import httpx
from msgspec import Struct

from tests.live.clients import PLAIN
from tests.support.server import GatewayProcess

_READERS = 100
_ROUNDS = 25
_HITS = _READERS * _ROUNDS // 10
"""So often, at least, a write fell before the end of the wait, and as often after."""
_PATIENCE = 60
"""Seconds, the wait of the second request: longer than the change takes to come."""


class Answer(Struct):
    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One connection, kept open; light enough that a hundred of them hit a moment."""

    def __init__(self, project: httpx.Client) -> None:
        self._url = project.base_url
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        self._streams = await asyncio.open_connection(self._url.host, self._url.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._streams is not None
        self._streams[1].close()
        await self._streams[1].wait_closed()

    async def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        assert self._streams is not None
        reader, writer = self._streams
        head = [f"{method} {self._url.path.rstrip('/')}{target} HTTP/1.1", "host: localhost"]
        head.append(f"content-length: {len(body)}")
        head += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        found = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return Answer(int(first.split()[1]), found, await reader.readexactly(int(found.get("content-length", 0))))


class Reader(ABC):
    """One who waits for the next version of a file, and knows which one that was last."""

    def __init__(self, connection: Connection, path: str, written: Answer) -> None:
        receipt = json.loads(written.body)
        assert "version" in receipt, receipt
        self.connection = connection
        self.path = path
        self.version: int = receipt["version"]
        self.cursor: str = receipt["cursor"]
        self.tag = written.headers["etag"]

    @abstractmethod
    async def wait(self, seconds: float) -> bool:
        """Ask for what is new; whether it came."""

    def take(self, answer: Answer) -> bool:
        """Take the answer of a feed."""
        assert answer.status == 200, answer
        content = json.loads(answer.body)
        before, self.cursor = self.version, content["cursor"]
        for change in content["changes"]:
            assert change["path"] == self.path
            self.version = change["version"]
        assert self.version >= before
        return self.version > before  # status may say again what it has said, as its cursor is never ahead of it


class FeedOfOneFile(Reader):
    async def wait(self, seconds: float) -> bool:
        question = f"kinds=file&path={self.path}&since={self.cursor}&wait={seconds}"
        return self.take(await self.connection.ask("GET", f"/changes?{question}"))


class FeedOfAFolder(Reader):
    async def wait(self, seconds: float) -> bool:
        question = f"prefix={self.path}&since={self.cursor}&wait={seconds}"
        return self.take(await self.connection.ask("GET", f"/changes?{question}"))


class Status(Reader):
    async def wait(self, seconds: float) -> bool:
        question = json.dumps({"paths": [self.path], "since": self.cursor, "wait": seconds}).encode()
        return self.take(await self.connection.ask("POST", "/files/status", question, content_type="application/json"))


class Increments(Reader):
    async def wait(self, seconds: float) -> bool:
        answer = await self.connection.ask("GET", f"/files/{self.path}?from_version={self.version}&wait={seconds}")
        assert answer.status in (200, 204), answer
        self.version = int(answer.headers["x-version"])
        return answer.status == 200


class Whole(Reader):
    async def wait(self, seconds: float) -> bool:
        answer = await self.connection.ask("GET", f"/files/{self.path}?wait={seconds}", if_none_match=self.tag)
        assert answer.status in (200, 304), answer
        self.version, self.tag = int(answer.headers["x-version"]), answer.headers["etag"]
        return answer.status == 200


class Aim:
    """When to write, so that the commit falls where the wait ends: by what became of earlier shots, as one learns to
    aim. Seconds, after the end of the wait as the reader asked for it."""

    _STEP = 0.0005
    _JITTER = 0.003

    def __init__(self) -> None:
        self._after = 0.05
        self.hits = self.misses = 0

    def shot(self) -> float:
        return self._after + random.uniform(-self._JITTER, self._JITTER)

    def learn(self, hit: bool) -> None:
        self._after += self._STEP if hit else -self._STEP
        self.hits += hit
        self.misses += not hit

    @property
    def true(self) -> bool:
        return min(self.hits, self.misses) > _HITS


def _wait_to_the_middle_of_a_tenth() -> float:
    """Seconds. The gateway ends waits at tenths of a second of the machine's clock, which all processes share."""
    now = time.monotonic()
    return round(random.randint(1, 3) / 10 + 0.05 - now % 0.1, 4)


async def _write(connection: Connection, path: str, text: str, when: float) -> int:
    await asyncio.sleep(when - time.monotonic())
    answer = await connection.ask("PUT", f"/files/{path}", text.encode(), **PLAIN)
    version: int = json.loads(answer.body)["version"]
    return version


async def _shoot(reader: Reader, writer: Connection, aim: Aim) -> None:
    """Each round: a write where the wait ends. It is in that answer or in the next. A machine that answers late takes
    more rounds until the aim is true."""
    await asyncio.sleep(random.random() / 4)
    for number in itertools.count():
        if number >= _ROUNDS and aim.true:
            break
        seconds = _wait_to_the_middle_of_a_tenth()
        when = time.monotonic() + seconds + aim.shot()
        before = reader.version
        async with asyncio.TaskGroup() as group:
            written = group.create_task(_write(writer, reader.path, f"{number}", when))
            hit = await reader.wait(seconds)
            if not hit:
                assert await reader.wait(_PATIENCE), f"{reader.path} missed version {before + 1}"
        assert reader.version == written.result() == before + 1
        aim.learn(hit)


async def _run(project: httpx.Client) -> Aim:
    aim = Aim()
    kinds = cycle([FeedOfOneFile, FeedOfAFolder, Status, Increments, Whole])
    async with asyncio.TaskGroup() as group:
        for number, kind in zip(range(_READERS), kinds, strict=False):
            group.create_task(_one(project, f"{number:03}.md", kind, aim))
    return aim


async def _one(project: httpx.Client, path: str, kind: type[Reader], aim: Aim) -> None:
    async with Connection(project) as reading, Connection(project) as writing:
        written = await writing.ask("PUT", f"/files/{path}", b"first", **PLAIN)
        await _shoot(kind(reading, path, written), writing, aim)


def test_a_change_at_the_moment_when_a_wait_ends_is_missed_by_nobody(
    shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    aim = asyncio.run(_run(shared_project))
    assert aim.hits + aim.misses >= _READERS * _ROUNDS
    assert aim.true
