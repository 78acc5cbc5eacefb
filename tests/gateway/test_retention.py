"""Retention: what was squashed answers as the contract says, and nothing else answers otherwise than before."""

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pycrdt
import pytest

from gateway.app import create_app
from gateway.maintenance.retention import Retainer, Squashed
from gateway.settings import RetentionPolicy, Settings
from storage import Storage
from tests.support.oracle import Oracle
from tests.support.server import GatewayProcess

_OCTETS = {"Content-Type": "application/octet-stream"}
_DAY_MS = 24 * 60 * 60 * 1000
_ROOTS = {"content": "text", "map": "map"}


@contextlib.asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[Storage, httpx.AsyncClient]]:
    """A gateway in this process, to let its files be squashed at a moment of the test's choice."""
    gateway = create_app(Settings(database=f"sqlite:///{folder / 'gateway.db'}"))
    async with gateway.running() as storage:
        transport = httpx.ASGITransport(app=gateway, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway/api/projects/demo") as client:
            yield storage, client


async def squash(storage: Storage, later_ms: int = 0, **limits: Any) -> Squashed:
    retainer = Retainer(storage, RetentionPolicy(**limits), clock=lambda: _now_ms() + later_ms)
    return await retainer.squash_all()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def put(client: httpx.AsyncClient, path: str, text: str) -> dict[str, Any]:
    answer = await client.put(f"/files/{path}", content=text.encode(), headers={"Content-Type": "text/plain"})
    receipt: dict[str, Any] = answer.raise_for_status().json()
    return receipt


class Author:
    """Edits one file at random, and remembers what makes each version of it."""

    def __init__(self, client: httpx.AsyncClient, path: str, randomness: random.Random) -> None:
        self._client = client
        self.path = path
        self._random = randomness
        self.versions: list[list[bytes] | None] = [None]
        """By version the updates of its life; None where there is no file."""
        self._begin()

    def _begin(self) -> None:
        self.document: pycrdt.Doc[Any] = pycrdt.Doc()
        self.text = self.document.get("content", type=pycrdt.Text)
        self.map = self.document.get("map", type=pycrdt.Map)
        self._life: list[bytes] = []

    async def edit(self) -> None:
        if self._life and self._random.random() < 0.03:
            (await self._client.delete(f"/files/{self.path}")).raise_for_status()
            self.versions.append(None)
            self._begin()
            return
        before = self.document.get_state()
        self._change()
        update = self.document.get_update(before)
        answer = await self._client.patch(f"/files/{self.path}", content=update, headers=_OCTETS)
        if answer.raise_for_status().json()["changed"]:
            self._life = [*self._life, update]
            self.versions.append(self._life)
        assert answer.json()["version"] == len(self.versions) - 1

    def _change(self) -> None:
        length = len(self.text)
        match self._random.randrange(5):
            case 0 if length > 4:
                start = self._random.randrange(length - 3)
                del self.text[start : start + 3]
            case 1:
                self.map[self._random.choice("abc")] = self._random.choice([1, "two", [3], {"four": None}])
            case _:
                self.text.insert(self._random.randrange(length + 1), self._random.choice(["word ", "x", "e\n"]))


@pytest.mark.parametrize("seed", range(6))
def test_squashing_at_any_moment_changes_no_answer_but_those_it_may(tmp_path: Path, oracle: Oracle, seed: int) -> None:
    async def work() -> None:
        randomness = random.Random(seed)
        async with running(tmp_path) as (storage, client):
            authors = [Author(client, f"{name}.md", randomness) for name in "ab"]
            for _ in range(150):
                await randomness.choice(authors).edit()
                if randomness.random() < 0.06:
                    keep = randomness.choice([1, 2, 5, 20, 60])
                    await squash(storage, versions=keep)
            await squash(storage, versions=30)
            for author in authors:
                await _compare(storage, client, author, oracle)

    asyncio.run(work())
    verified = subprocess.run(
        [sys.executable, "-m", "gateway", "verify", "--database", f"sqlite:///{tmp_path / 'gateway.db'}"],
        capture_output=True,
        text=True,
    )
    assert verified.returncode == 0, verified.stdout


async def _compare(storage: Storage, client: httpx.AsyncClient, author: Author, oracle: Oracle) -> None:
    url = f"/files/{author.path}"
    base = await storage.base_version("demo", author.path)
    head = len(author.versions) - 1
    assert base > 1
    present = author.versions[head]
    told = (await client.get(f"/history/{author.path}", params={"limit": 1000})).raise_for_status().json()
    assert [entry["version"] for entry in told["versions"]] == list(range(head, base - 1, -1))
    for version in range(1, head + 1):
        expected = author.versions[version]
        old = await client.get(url, params={"at_version": version})
        if present is None:
            assert (old.status_code, old.json()["code"]) == (410, "file_deleted")
            continue
        if version < base:
            assert (old.status_code, old.json()["code"]) == (404, "version_not_found")
            assert f"{base} to {head}" in old.json()["detail"]
        elif expected is None:
            assert (old.status_code, old.json()["code"]) == (410, "file_deleted")
        else:
            assert oracle.read([old.content], _ROOTS) == oracle.read(expected, _ROOTS), version
        since = await client.get(url, params={"from_version": version})
        if version == head:
            assert since.status_code == 204
            continue
        whole = since.headers["X-From-Version"] == "0"
        assert whole or (version >= base and int(since.headers["X-From-Version"]) == version)
        own = [] if whole or expected is None else expected
        assert oracle.read([*own, since.content], _ROOTS) == oracle.read(present, _ROOTS), version
    status = (await client.post("/files/status", json={"paths": [author.path], "versions": {author.path: 1}})).json()
    assert [change["version"] for change in status["changes"]] == [head]


def test_what_is_restored_of_a_squashed_file_is_what_it_was(tmp_path: Path, oracle: Oracle) -> None:
    async def work() -> None:
        async with running(tmp_path) as (storage, client):
            for number in range(1, 11):
                await put(client, "a.md", f"line {number}\n")
            assert await squash(storage, versions=5) == Squashed(files=1, versions=5)
            assert await squash(storage, versions=5) == Squashed()
            refused = await client.post("/history/a.md/restore", json={"version": 5})
            assert (refused.status_code, refused.json()["code"]) == (404, "version_not_found")
            for version in (6, 8):
                (await client.post("/history/a.md/restore", json={"version": version})).raise_for_status()
                whole = (await client.get("/files/a.md")).content
                assert oracle.text([whole]) == f"line {version}\n"
            difference = await client.get("/history/a.md", params={"diff": "6..7"})
            assert "-line 6\n+line 7\n" in difference.text

    asyncio.run(work())


def test_days_and_versions_keep_what_either_keeps(tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as (storage, client):
            for number in range(10):
                await put(client, "a.md", str(number))
            assert await squash(storage, versions=3, days=1) == Squashed()
            assert await squash(storage, later_ms=2 * _DAY_MS, versions=3, days=1) == Squashed(files=1, versions=7)

    asyncio.run(work())


def test_an_old_cursor_is_told_to_start_over_once_a_tombstone_is_forgotten(tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as (storage, client):
            cursors = [(await put(client, f"{number}.md", "x"))["cursor"] for number in range(6)]
            await client.delete("/files/3.md")
            floor = (await client.get("/files")).json()["cursor"]
            cursors.append((await put(client, "6.md", "x"))["cursor"])
            alive = {f"{number}.md" for number in range(7)} - {"3.md"}
            assert await squash(storage, later_ms=2 * _DAY_MS, tombstone_days=1) == Squashed(tombstones=1, versions=1)
            for cursor in cursors[:-1]:
                for answer in (
                    await client.get("/changes", params={"since": cursor}),
                    await client.post("/files/status", json={"since": cursor}),
                    await client.post("/sync", json={"since": cursor}),
                ):
                    told = answer.json()
                    assert told["reset"] is True
                    assert {change["path"] for change in told["changes"]} == alive
            for cursor in (floor, cursors[-1]):
                told = (await client.get("/changes", params={"since": cursor})).json()
                assert "reset" not in told
            assert (await client.get("/files/3.md")).status_code == 410
            assert (await put(client, "3.md", "again"))["version"] == 3

    asyncio.run(work())


def test_a_listing_in_pages_comes_to_its_end_across_a_forgotten_tombstone(tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as (storage, client):
            first = (await put(client, "0.md", "x"))["cursor"]
            for number in range(1, 20):
                await put(client, f"{number}.md", "x")
            for number in range(5, 10):
                await client.delete(f"/files/{number}.md")
            await put(client, "20.md", "x")
            await squash(storage, later_ms=2 * _DAY_MS, tombstone_days=1)
            alive = {f"{number}.md" for number in range(21)} - {f"{number}.md" for number in range(5, 10)}
            for since in (None, first):
                seen: set[str] = set()
                resets = 0
                while True:
                    parameters = {"limit": 4} | ({} if since is None else {"since": since})
                    page = (await client.get("/changes", params=parameters)).json()
                    resets += page.get("reset", False)
                    seen |= {change["path"] for change in page["changes"] if change["change_type"] != "deleted"}
                    since = page["cursor"]
                    if not page["more"]:
                        break
                assert seen == alive
                assert resets <= 1
            pulled: set[str] = set()
            question: dict[str, Any] = {"max_bytes": 100}
            while True:
                answer = (await client.post("/sync", json=question)).json()
                pulled |= {change["path"] for change in answer["changes"] if "update" in change}
                question["since"] = answer["cursor"]
                if not answer["more"]:
                    break
            assert pulled == alive

    asyncio.run(work())


def test_a_listing_that_was_begun_before_the_tombstone_starts_over(tmp_path: Path) -> None:
    async def work() -> None:
        async with running(tmp_path) as (storage, client):
            for number in range(10):
                await put(client, f"{number}.md", "x")
            page = (await client.get("/changes", params={"limit": 4})).json()
            await client.delete("/files/0.md")
            await put(client, "10.md", "x")
            await squash(storage, later_ms=2 * _DAY_MS, tombstone_days=1)
            told = (await client.get("/changes", params={"since": page["cursor"]})).json()
            assert told["reset"] is True
            assert {change["path"] for change in told["changes"]} == {f"{number}.md" for number in range(1, 11)}

    asyncio.run(work())


def test_a_serving_gateway_squashes_by_itself(tmp_path: Path) -> None:
    limits = {"GATEWAY_RETAIN_VERSIONS": 10, "GATEWAY_RETENTION_INTERVAL": 0.1}
    with GatewayProcess(tmp_path / "gateway.db", **limits) as gateway, gateway.client() as project:
        document: pycrdt.Doc[Any] = pycrdt.Doc()
        text = document.get("content", type=pycrdt.Text)
        typed = 0
        while project.get("/history/a.md", params={"before": 2}).json().get("versions") != []:
            before = document.get_state()
            text += "x"
            typed += 1
            project.patch("/files/a.md", content=document.get_update(before), headers=_OCTETS).raise_for_status()
            assert typed < 50_000, "it never squashes"
        assert typed >= 110
        assert project.get("/files/a.md?format=text").text == "x" * typed


def test_compact_squashes_says_what_it_freed_and_the_file_shrinks(tmp_path: Path) -> None:
    database = tmp_path / "gateway.db"
    with GatewayProcess(database) as gateway, gateway.client() as project:
        document: pycrdt.Doc[Any] = pycrdt.Doc()
        values = document.get("map", type=pycrdt.Map)
        for number in range(300):
            before = document.get_state()
            values["key"] = random.Random(number).randbytes(2_000).hex()
            project.patch("/files/a.md", content=document.get_update(before), headers=_OCTETS).raise_for_status()
        project.put("/files/gone.md", content="x", headers={"Content-Type": "text/plain"}).raise_for_status()
        project.delete("/files/gone.md").raise_for_status()
    size = database.stat().st_size

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "gateway", *arguments, "--database", f"sqlite:///{database}"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = run("compact", "--retain-versions", "10", "--retain-tombstone-days", "0.00000001")
    assert "291 versions of 1 files squashed, 1 deleted files forgotten" in said
    assert database.stat().st_size < size / 5
    assert "2 files and 0 turns verified, 0 faults" in run("verify")
    with GatewayProcess(database) as gateway, gateway.client() as project:
        assert project.get("/files/a.md?format=json").json() == {"map": {"key": values["key"]}}
        assert project.get("/files/a.md?at_version=291").status_code == 200
        assert project.get("/files/a.md?at_version=290").status_code == 404
