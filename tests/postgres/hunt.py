"""Hunts for what is lost, doubled, out of order or stale while gateways and their database fail.

    python -m tests.postgres.hunt SECONDS FAULT[,FAULT …] [SEED]

Three gateways serve one PostgreSQL database, each behind a proxy, and nginx has all three as its upstream. Writers
repeat a request anywhere until it is answered, and keep the receipts; readers follow the feed from gateway to gateway;
pollers ask with the tag that they have. Faults: `kill` a gateway (-9), `stop` it for a while, `cut` its connections to
the database after answers were lost, make a `hole` in them, `crash` the database with all its processes.

With `HUNT_FAULTS=1000` in the environment a hunt, also one of the tests, lasts until there were so many faults.
"""

import asyncio
import collections
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pycrdt

from tests.live.clients import OCTETS
from tests.support.cutting_proxy import CuttingProxy
from tests.support.nginx import in_front_of, running_nginx
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.server import GatewayProcess

FAULTS = ("kill", "stop", "cut", "hole", "crash")
_GATEWAYS = 3
_LEAST_RECEIPTS = 20
_BEHIND_S = 1.5
"""After so long no gateway may show anything older: the promise is one second."""


class Hunt:
    """One hunt. `found` has what should not be; `counts` what happened."""

    def __init__(
        self, server: PostgresServer, faults: Iterable[str], seed: int, *, least_faults: int = 1, at_once: int = 1
    ) -> None:
        self._server = server
        self._least_faults = int(os.environ.get("HUNT_FAULTS", least_faults))
        self._at_once = at_once
        self._enough = asyncio.Event()
        self._written = asyncio.Event()
        """Set once the hunt has some receipts, which may take longer on a slow machine."""
        self._front = ""
        """The URL of nginx."""
        self._faults = list(faults)
        self._random = random.Random(seed)
        self._over = asyncio.Event()
        self._database = ""
        self._gateways: list[GatewayProcess] = []
        self._proxies: list[CuttingProxy] = []
        self._receipts: list[tuple[str, str, int, bool]] = []
        """Of each word that was stored: the file, the word, the version, whether it made the version."""
        self.found: list[str] = []
        self.counts: collections.Counter[str] = collections.Counter()

    async def run(self, seconds: float) -> None:
        async with self._serving():
            clients = [*(self._write(n) for n in range(5)), *(self._read() for _ in range(2)), self._poll()]
            tasks = [asyncio.create_task(client) for client in clients]
            hunting = asyncio.gather(*(self._break_things(first) for first in range(self._at_once)))
            await asyncio.sleep(seconds)
            enough = asyncio.gather(self._enough.wait(), self._written.wait())
            await asyncio.wait({enough, hunting}, return_when="FIRST_COMPLETED")
            self._over.set()
            await hunting
            await asyncio.wait_for(asyncio.gather(*tasks), 300)
            await asyncio.sleep(_BEHIND_S)
            await self._compare()
        command = [sys.executable, "-m", "gateway", "verify", "--database", self._database]
        verified = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
        if verified.returncode:
            self.found.append(verified.stdout + verified.stderr)

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        self._database = await asyncio.to_thread(self._server.schema_url)
        port = f":{self._server.port}/"
        try:
            for _ in range(_GATEWAYS):
                proxy = await CuttingProxy(self._server.port).__aenter__()
                self._proxies.append(proxy)
                url = self._database.replace(port, f":{proxy.port}/")
                self._gateways.append(GatewayProcess(url, GATEWAY_DATABASE_SECONDS=5))
            await asyncio.gather(*(asyncio.to_thread(gateway.start) for gateway in self._gateways))
            with (
                tempfile.TemporaryDirectory(prefix="yjsg-nginx-") as folder,
                running_nginx(Path(folder), in_front_of(self._gateways)) as self._front,
            ):
                yield
        finally:
            for gateway in self._gateways:
                if gateway.process is not None:
                    gateway.kill()
            for proxy in self._proxies:
                await proxy.__aexit__(None, None, None)

    # Clients

    async def _ask(self, client: httpx.AsyncClient, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask any gateway, again and again, until one answers."""
        while True:
            place = self._random.choice([*(gateway.url for gateway in self._gateways), *[self._front] * _GATEWAYS])
            try:
                answer = await client.request(method, f"{place}/api/projects/p{path}", **options)
            except httpx.TransportError as error:
                self.counts[type(error).__name__] += 1
                await asyncio.sleep(0.05)
                continue
            if answer.status_code < 500:
                return answer
            self.counts[f"{answer.status_code}"] += 1
            if answer.status_code in (502, 504) and place == self._front:
                await asyncio.sleep(0.1)
                continue
            if answer.status_code != 503 or not isinstance(answer.json()["certain"], bool):
                self.found.append(f"{method} {path}: {answer.status_code} {answer.text}")
            await asyncio.sleep(0.1)

    async def _write(self, name: int) -> None:
        documents: dict[str, pycrdt.Doc[Any]] = {}
        async with httpx.AsyncClient(timeout=60, verify=False) as client:
            for number in range(sys.maxsize):
                if self._over.is_set():
                    return
                path = self._random.choice((f"/files/own{name}.md", "/files/shared.md", "/files/other.md"))
                document = documents.setdefault(path, pycrdt.Doc())
                text, before = document.get("content", type=pycrdt.Text), document.get_state()
                word = f"<{name}.{number}>"
                text.insert(len(str(text)), word)
                update = document.get_update(before)
                answer = await self._ask(client, "PATCH", path, content=update, headers=OCTETS)
                if answer.status_code not in (200, 201) or "incomplete" in answer.json():
                    self.found.append(f"PATCH {path}: {answer.status_code} {answer.text}")
                    return
                receipt = answer.json()
                self._receipts.append((path, word, receipt["version"], receipt["changed"]))
                if len(self._receipts) >= _LEAST_RECEIPTS:
                    self._written.set()
                await asyncio.sleep(self._random.random() * 0.05)

    async def _read(self) -> None:
        """Follow the feed: each file's versions go up, and so does the cursor, whichever gateway answers."""
        cursor: str | None = None
        versions: dict[str, int] = {}
        async with httpx.AsyncClient(timeout=60, verify=False) as client:
            while not self._over.is_set():
                parameters: dict[str, Any] = {"wait": 1, "limit": self._random.choice((2, 50))}
                if cursor is not None:
                    parameters["since"] = cursor
                answer = await self._ask(client, "GET", "/changes", params=parameters)
                if answer.status_code == 404 and cursor is None:
                    continue
                if answer.status_code != 200 or "reset" in answer.json():
                    self.found.append(f"feed since {cursor}: {answer.status_code} {answer.text}")
                    return
                for change in answer.json()["changes"]:
                    if change["version"] <= versions.get(change["path"], 0):
                        self.found.append(f"told again, or late: {change}")
                    versions[change["path"]] = change["version"]
                after = answer.json()["cursor"]
                if cursor is not None and int(after.split(".")[1]) < int(cursor.split(".")[1]):
                    self.found.append(f"the cursor went from {cursor} to {after}")
                cursor = after

    async def _poll(self) -> None:
        """Ask for a file with the tag of the newest state that is known: the answer is that one, or newer."""
        tag, version = "", 0
        async with httpx.AsyncClient(timeout=60, verify=False) as client:
            while not self._over.is_set():
                answer = await self._ask(client, "GET", "/files/shared.md", headers={"If-None-Match": tag})
                if answer.status_code == 200:
                    found = int(answer.headers["X-Version"])
                    if found < version:
                        self.found.append(f"version {found} for a client that has {version}")
                    tag, version = answer.headers["ETag"], found
                await asyncio.sleep(0.02)

    # Faults

    async def _break_things(self, first: int) -> None:
        """Break gateways, of which each belongs to one such task."""
        while not self._over.is_set():
            await asyncio.sleep(self._random.uniform(0.3, 1.5) / self._at_once)
            fault, number = self._random.choice(self._faults), self._random.randrange(first, _GATEWAYS, self._at_once)
            self.counts[fault] += 1
            self.counts["faults"] += 1
            if self.counts["faults"] >= self._least_faults:
                self._enough.set()
            await getattr(self, f"_{fault}")(self._gateways[number], self._proxies[number])

    async def _kill(self, gateway: GatewayProcess, proxy: CuttingProxy) -> None:
        gateway.kill()
        await asyncio.to_thread(gateway.start)

    async def _stop(self, gateway: GatewayProcess, proxy: CuttingProxy) -> None:
        assert gateway.process is not None
        os.kill(gateway.process.pid, signal.SIGSTOP)
        await asyncio.sleep(self._random.uniform(0.5, 3))
        os.kill(gateway.process.pid, signal.SIGCONT)

    async def _cut(self, gateway: GatewayProcess, proxy: CuttingProxy) -> None:
        proxy.swallowing = True
        await asyncio.sleep(self._random.uniform(0.001, 0.05))
        proxy.cut()
        proxy.swallowing = False

    async def _hole(self, gateway: GatewayProcess, proxy: CuttingProxy) -> None:
        proxy.block()
        await asyncio.sleep(self._random.uniform(0.5, 4))
        proxy.unblock()

    async def _crash(self, gateway: GatewayProcess, proxy: CuttingProxy) -> None:
        await asyncio.to_thread(self._server.kill)
        await asyncio.to_thread(self._server.start)

    # The end

    async def _compare(self) -> None:
        """What was acknowledged is there once, and all gateways show the same."""
        texts: dict[str, str] = {}
        async with httpx.AsyncClient(timeout=60, verify=False) as client:
            for path in {path for path, *_ in self._receipts}:
                for gateway in self._gateways:
                    answer = await client.get(gateway.project("p") + path, params={"format": "text"})
                    while answer.status_code == 503:
                        answer = await client.get(gateway.project("p") + path, params={"format": "text"})
                    if texts.setdefault(path, answer.text) != answer.text:
                        self.found.append(f"{path} is not the same everywhere")
        for path, word, version, _ in self._receipts:
            if texts[path].count(word) != 1:
                self.found.append(f"{word} of version {version} is {texts[path].count(word)} times in {path}")
        made = collections.Counter((path, version) for path, _, version, changed in self._receipts if changed)
        self.found += [f"{count} receipts for one version: {what}" for what, count in made.items() if count > 1]
        self.counts["receipts"] = len(self._receipts)
        for path, text in texts.items():
            self.counts["words"] += len(re.findall("<", text)) if path else 0


async def hunt(server: PostgresServer, seconds: float, faults: Iterable[str], seed: int, **more: int) -> Hunt:
    """One hunt, which is over; `more` as in `Hunt`."""
    one = Hunt(server, faults, seed, **more)
    await one.run(seconds)
    return one


def main() -> None:
    seconds, faults = float(sys.argv[1]), sys.argv[2].split(",")
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else int(time.time())
    with postgres_server() as server:
        over = asyncio.run(hunt(server, seconds, faults, seed))
    print(f"seed {seed}: {dict(over.counts)}")
    print("\n".join(over.found) or "nothing found")
    sys.exit(bool(over.found))


if __name__ == "__main__":
    main()
