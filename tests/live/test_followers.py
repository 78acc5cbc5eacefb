"""Random writers, random readers: who follows the feed, in whatever way, ends with the picture that the store has."""

import asyncio
import contextlib
import json
import random
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pycrdt

from tests.live.clients import EVENTS, OCTETS, PLAIN
from tests.support.server import GatewayProcess

_WRITERS = 4
_WRITES = 120
_READERS = 10
_PATHS = [f"{folder}/{name}.md" for folder in ("docs", "src") for name in range(6)]


class Writer:
    """Somebody who does anything with any file."""

    def __init__(self, client: httpx.AsyncClient, randomness: random.Random) -> None:
        self._client = client
        self._random = randomness

    async def run(self) -> None:
        for _ in range(_WRITES):
            do = self._random.choice([self._patch, self._patch, self._put, self._delete, self._move])
            answer = await do(self._random.choice(_PATHS))
            assert answer.status_code in (200, 201, 204, 404, 409, 410), answer.text
            await asyncio.sleep(self._random.choice([0, 0, 0.001, 0.01]))

    async def _patch(self, path: str) -> httpx.Response:
        document: pycrdt.Doc[Any] = pycrdt.Doc()
        document.get("content", type=pycrdt.Text).insert(0, str(self._random.random()))
        return await self._client.patch(f"/files/{path}", content=document.get_update(), headers=OCTETS)

    async def _put(self, path: str) -> httpx.Response:
        return await self._client.put(f"/files/{path}", content=uuid.uuid4().hex, headers=PLAIN)

    async def _delete(self, path: str) -> httpx.Response:
        return await self._client.delete(f"/files/{path}")

    async def _move(self, path: str) -> httpx.Response:
        return await self._client.post("/files/move", json={"from": path, "to": self._random.choice(_PATHS)})


class Reader:
    """Somebody who follows the feed in any way, and stops and resumes anywhere.

    It keeps, for each cursor that it was given, what it had seen by then: when it resumes there, that is what it has.
    """

    def __init__(self, client: httpx.AsyncClient, randomness: random.Random, prefix: str) -> None:
        self._client = client
        self._random = randomness
        self._prefix = prefix
        self._cursor: str | None = None
        self._versions: dict[str, int] = {}
        """The newest version of each file that it has seen, of deleted ones too."""
        self._exist: set[str] = set()
        self._remembered: list[tuple[str | None, dict[str, int], set[str]]] = [(None, {}, set())]

    @property
    def picture(self) -> dict[str, int]:
        return {path: self._versions[path] for path in self._exist}

    async def run(self, over: asyncio.Event) -> None:
        while not over.is_set():
            follow = self._random.choice([self._poll, self._long_poll, self._stream, self._stream, self._go_back])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._random.choice([0.003, 0.03, 0.3, 1])):  # then it hangs up
                    await follow()
        while await self._poll():
            pass

    async def _ask(self, **parameters: Any) -> bool:
        answer = await self._client.get("/changes", params=self._question(**parameters))
        content = answer.raise_for_status().json()
        assert "reset" not in content
        for change in content["changes"]:
            self._see(change)
        self._reach(content["cursor"])
        more: bool = content["more"]
        return more

    def _question(self, **parameters: Any) -> dict[str, Any]:
        since = {} if self._cursor is None else {"since": self._cursor}
        return {"kinds": "file", "prefix": self._prefix, **since, **parameters}

    async def _poll(self) -> bool:
        return await self._ask(limit=self._random.choice([1, 2, 5, 1000]))

    async def _long_poll(self) -> bool:
        return await self._ask(wait=self._random.choice([0.05, 0.2, 1]), limit=self._random.choice([1, 1000]))

    async def _stream(self) -> None:
        """Follow the stream for some events."""
        left = self._random.choice([1, 3, 10, 40])
        headers = EVENTS if self._cursor is None else {**EVENTS, "Last-Event-ID": self._cursor}
        question = {"kinds": "file", "prefix": self._prefix}
        async with self._client.stream("GET", "/changes", params=question, headers=headers) as answer:
            assert answer.status_code == 200
            async for event in _events(answer):
                assert event.get("event") != "reset"
                if event.get("event") == "change":
                    self._see(json.loads(event["data"]))
                if "id" in event:
                    self._reach(event["id"])
                left -= 1
                if left <= 0 or (event.get("event") == "ready" and self._random.random() < 0.5):
                    return

    async def _go_back(self) -> None:
        """Go on from any cursor of before, with what was known then: as a page that was put to sleep."""
        cursor, versions, exist = self._random.choice(self._remembered)
        self._cursor, self._versions, self._exist = cursor, dict(versions), set(exist)

    def _see(self, change: dict[str, Any]) -> None:
        path, version, kind = change["path"], change["version"], change["change_type"]
        assert path.startswith(self._prefix)
        assert version > self._versions.get(path, 0), f"{path} went back to {version}: {self._versions}"
        self._versions[path] = version
        if kind == "deleted":
            self._exist.discard(path)
        else:
            self._exist.add(path)

    def _reach(self, cursor: str) -> None:
        self._cursor = cursor
        self._remembered.append((cursor, dict(self._versions), set(self._exist)))


async def _events(answer: httpx.Response) -> AsyncIterator[dict[str, str]]:
    """The blocks of an event stream, as their fields."""
    event: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
        else:
            yield event
            event = {}


async def _run(base: httpx.URL, randomness: random.Random) -> None:
    async with httpx.AsyncClient(base_url=base, verify=False, timeout=60) as client:
        (await client.put("/files/other.md", content="here", headers=PLAIN)).raise_for_status()
        over = asyncio.Event()
        prefixes = ["", "docs/", ""]
        readers = [Reader(client, random.Random(randomness.random()), prefixes[n % 3]) for n in range(_READERS)]
        async with asyncio.TaskGroup() as reading:
            for reader in readers:
                reading.create_task(reader.run(over))
            async with asyncio.TaskGroup() as writing:
                for _ in range(_WRITERS):
                    writing.create_task(Writer(client, random.Random(randomness.random())).run())
            over.set()
        files = (await client.get("/files")).raise_for_status().json()["files"]
    store = {file["path"]: file["version"] for file in files}
    for number, reader in enumerate(readers):
        prefix = prefixes[number % 3]
        assert reader.picture == {path: version for path, version in store.items() if path.startswith(prefix)}


def test_every_follower_ends_with_the_picture_of_the_store_and_sees_no_version_go_back(
    shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # shown when it fails
    asyncio.run(_run(shared_project.base_url, random.Random(seed)))
