"""Clients of every kind at work on one project, in one process: what `soak` puts on a gateway.

Editors type in rooms; pollers keep mirrors of files; long polls and event streams follow single files; agents read and
put texts; others write turns, or read histories. Each acts at its own pace until it is told to stop, and then says
whether it has what the gateway has.
"""

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable
from typing import Any

import httpx
import pycrdt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

_PROJECT = "/api/projects/soak"
_PLAIN = {"Content-Type": "text/plain"}
_LONGEST_TEXT = 4_000
_PATIENCE_S = 60.0
_TRY_AGAIN_S = 0.5
_WORDS = ("lorem ", "ipsum ", "dolor\n", "sit 🙂 ", "amet ")


class Crowd:
    """So many clients, and what they have met."""

    def __init__(self, port: int, clients: int, *, seed: int = 0) -> None:
        self.base = f"http://127.0.0.1:{port}{_PROJECT}"
        self.rooms = f"ws://127.0.0.1:{port}{_PROJECT}/ws"
        self.stopping = asyncio.Event()
        self.writes: list[float] = []
        """How long each write took, in seconds, since somebody took them."""
        self.refused: Counter[str] = Counter()
        """Answers with a problem, by status and code."""
        self.unanswered: list[str] = []
        """Requests without an answer for a minute, and when they were given up."""
        self.done: Counter[str] = Counter()
        """What was done, by the kind of client."""
        self.shared = [f"shared/{number}.md" for number in range(max(2, clients // 16))]
        """Files that many edit at once."""
        chance = random.Random(seed)
        kinds = [_Editor, _Editor, _Editor, _Poller, _Poller, _LongPoll, _Stream, _LongPoll, _Stream, _Agent]
        kinds += [_Editor, _Editor, _Editor, _Poller, _Poller, _LongPoll, _Stream, _Turns, _Historian, _Agent]
        self._clients = [
            kinds[number % len(kinds)](self, number, random.Random(chance.random())) for number in range(clients)
        ]

    async def run(self, ended: Awaitable[object]) -> list[str]:
        """Have all at work until `ended`; returns in what they differ from the gateway after that, in words.

        Raises:
            What one of the clients met that is not to be met.
        """
        async with httpx.AsyncClient(base_url=self.base, timeout=_PATIENCE_S, verify=False) as http:
            for path in self.shared:
                (await http.put(f"/files/{path}", content=b"Begin.\n", headers=_PLAIN)).raise_for_status()
            work = asyncio.gather(*(client.run() for client in self._clients))
            stop = asyncio.ensure_future(ended)
            await asyncio.wait((work, stop), return_when=asyncio.FIRST_COMPLETED)
            self.stopping.set()
            await work
            differ = [await client.compare(http) for client in self._clients]
            await asyncio.gather(*(client.close() for client in self._clients))
        return [each for each in differ if each]


class _Client:
    """One client. It acts, waits for a while, and acts again."""

    kind = ""
    pause = 1.0
    """The mean of its pauses, in seconds."""

    def __init__(self, crowd: Crowd, number: int, chance: random.Random) -> None:
        self.crowd = crowd
        self.number = number
        self.chance = chance
        self.path = crowd.shared[number % len(crowd.shared)]
        self.http = httpx.AsyncClient(base_url=crowd.base, timeout=_PATIENCE_S, verify=False)

    async def run(self) -> None:
        await self._wait(self.chance.random() * self.pause)
        while not self.crowd.stopping.is_set():
            await self.act()
            self.crowd.done[self.kind] += 1
            await self._wait(self.chance.expovariate(1 / self.pause))

    async def act(self) -> None:
        raise NotImplementedError

    async def compare(self, http: httpx.AsyncClient) -> str:
        """In what it differs from the gateway, in words; empty: in nothing."""
        return ""

    async def close(self) -> None:
        await self.http.aclose()

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.crowd.stopping.wait(), seconds)

    async def ask(self, method: str, url: str, **options: Any) -> httpx.Response | None:
        """An answer; None where the gateway has refused, in a way that a client has to expect.

        Raises:
            RuntimeError: it was another problem.
        """
        try:
            answer = await self.http.request(method, url, **options)
        except httpx.ReadTimeout:
            self.crowd.unanswered.append(f"{time.strftime('%H:%M:%S')} {method} {url} of {self.kind} {self.number}")
            return None
        if answer.status_code < 400:
            return answer
        code = answer.json()["code"]
        self.crowd.refused[f"{answer.status_code} {code}"] += 1
        if answer.status_code in (409, 410, 412) or code in ("overloaded", "too_complex", "file_not_found"):
            return None
        raise RuntimeError(f"{method} {url} was answered {answer.status_code}: {answer.text}")

    async def write(self, method: str, url: str, **options: Any) -> httpx.Response | None:
        """The same of a write, whose time counts."""
        started = time.perf_counter()
        answer = await self.ask(method, url, **options)
        self.crowd.writes.append(time.perf_counter() - started)
        return answer


class _Editor(_Client):
    """Types in a room; leaves it now and then, types on, and comes back."""

    kind = "keystrokes"

    def __init__(self, crowd: Crowd, number: int, chance: random.Random) -> None:
        super().__init__(crowd, number, chance)
        self._document: pycrdt.Doc[Any] = pycrdt.Doc()
        self._text = self._document.get("content", type=pycrdt.Text)
        self._socket: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None

    async def act(self) -> None:
        if self._socket is None and not await self._join():
            return
        if self.chance.random() < 0.01:
            await self._leave()
        state = self._document.get_state()
        end = len(self._text)
        place = self.chance.randint(0, end) if str(self._text).isascii() else end
        if end > _LONGEST_TEXT:
            del self._text[0 : end // 2 if str(self._text).isascii() else end]
        else:
            self._text.insert(place, self.chance.choice(_WORDS[: 5 if place == end else 3]))
        if self._socket is not None:
            with contextlib.suppress(ConnectionClosed):
                await self._socket.send(b"\0\2" + _bytes(self._document.get_update(state)))

    async def _join(self) -> bool:
        try:
            self._socket = await connect(f"{self.crowd.rooms}/{self.path}", compression=None, max_size=None)
        except (InvalidStatus, OSError, TimeoutError) as error:
            self.crowd.refused[f"room: {type(error).__name__}"] += 1
            return False
        await self._socket.send(b"\0\0" + _bytes(self._document.get_state()))
        self._reading = asyncio.create_task(self._read(self._socket))
        return True

    async def _leave(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None and self._reading is not None:
            await socket.close()
            await self._reading

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for message in socket:
                if not isinstance(message, bytes) or message[0] != 0:
                    continue
                body = _body(message[2:])
                if message[1] == 0:
                    await socket.send(b"\0\1" + _bytes(self._document.get_update(body)))
                else:
                    self._document.apply_update(body)
            code = socket.close_code
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else None
        if code not in (None, 1000):
            self.crowd.refused[f"room closed: {code}"] += 1
        if self._socket is socket:
            self._socket = None

    async def compare(self, http: httpx.AsyncClient) -> str:
        for _ in range(100):
            if self._socket is None:
                await self._join()
            text = (await http.get(f"/files/{self.path}", params={"format": "text"})).text
            if str(self._text) == text:
                return ""
            await asyncio.sleep(0.1)
        return f"editor {self.number} has {str(self._text)[:200]!r} of {self.path}, the gateway {text[:200]!r}"

    async def close(self) -> None:
        await self._leave()
        await super().close()


class _Poller(_Client):
    """Keeps a mirror of a file by asking for what later versions added."""

    kind = "polls"

    def __init__(self, crowd: Crowd, number: int, chance: random.Random) -> None:
        super().__init__(crowd, number, chance)
        self._version, self._document = 0, pycrdt.Doc[Any]()

    async def act(self) -> None:
        answer = await self.ask("GET", f"/files/{self.path}", params={"from_version": self._version})
        if answer is None or answer.status_code == 204:
            return
        if answer.headers["X-From-Version"] == "0":
            self._document = pycrdt.Doc()
        elif answer.headers["X-From-Version"] != str(self._version):
            raise RuntimeError(f"an increment from {self._version} builds on {answer.headers['X-From-Version']}")
        self._document.apply_update(answer.content)
        self._version = int(answer.headers["X-Version"])

    async def compare(self, http: httpx.AsyncClient) -> str:
        await self.act()
        answer = await http.get(f"/files/{self.path}", params={"format": "text"})
        text = str(self._document.get("content", type=pycrdt.Text))
        if (text, str(self._version)) == (answer.text, answer.headers["X-Version"]):
            return ""
        return f"poller {self.number} has version {self._version} of {self.path}: {text[:200]!r}"


class _Follower(_Client):
    """Knows the newest version of a file from the feed."""

    def __init__(self, crowd: Crowd, number: int, chance: random.Random) -> None:
        super().__init__(crowd, number, chance)
        self._cursor: str | None = None
        self._version = 0

    def _parameters(self) -> dict[str, str | int]:
        return {"path": self.path, "kinds": "file", **({} if self._cursor is None else {"since": self._cursor})}

    def _tell(self, entry: dict[str, Any]) -> None:
        if entry["version"] < self._version:
            raise RuntimeError(f"the feed tells of version {entry['version']} after {self._version}")
        self._version = entry["version"]

    async def _look(self, wait: int) -> None:
        answer = await self.ask("GET", "/changes", params={**self._parameters(), "wait": wait})
        if answer is not None and answer.status_code == 200:
            for entry in answer.json()["changes"]:
                self._tell(entry)
            self._cursor = answer.json()["cursor"]

    async def compare(self, http: httpx.AsyncClient) -> str:
        await self._look(0)
        newest = (await http.head(f"/files/{self.path}")).headers["X-Version"]
        return (
            "" if str(self._version) == newest else f"{self.kind}: version {self._version} of {self.path}, not {newest}"
        )


class _LongPoll(_Follower):
    kind = "long polls"

    async def act(self) -> None:
        await self._look(10)


class _Stream(_Follower):
    """Reads a stream for some time, and goes on in another where that ended."""

    kind = "streams"

    async def act(self) -> None:
        until = time.monotonic() + self.chance.uniform(5, 60)
        headers = {"Accept": "text/event-stream"}
        async with self.http.stream("GET", "/changes", params=self._parameters(), headers=headers) as answer:
            lines = answer.aiter_lines()
            event = position = ""
            while not self.crowd.stopping.is_set() and time.monotonic() < until:
                line = await self._next(lines.__anext__())
                if line is None:
                    return
                name, _, value = line.partition(": ")
                if not line and position:
                    self._cursor = position  # an event counts when it is whole
                elif name == "id":
                    position = value
                elif name == "event":
                    event = value
                elif name == "data" and event == "change":
                    self._tell(json.loads(value))

    async def _next(self, line: "Awaitable[str]") -> str | None:
        """The next line; None where the stream has ended, or the crowd ends."""
        reading, stopping = asyncio.ensure_future(line), asyncio.ensure_future(self.crowd.stopping.wait())
        await asyncio.wait((reading, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not reading.done():
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
            return None
        try:
            return reading.result()
        except StopAsyncIteration:
            return None


class _Agent(_Client):
    """Reads a text, makes it another one, and writes that: if it is still the same, and now and then in any case."""

    kind = "agents"
    pause = 2.0

    async def act(self) -> None:
        own = f"agents/{self.number}.py"
        path = self.path if self.chance.random() < 0.3 else own
        read = await self.ask("GET", f"/files/{path}", params={"format": "text"})
        if read is None and path == own:
            await self.write("PUT", f"/files/{own}", content=b"begin = 1\n", headers=_PLAIN)
        if read is None:
            return
        text = read.text + f"line = {self.chance.random()}\n" if len(read.text) < _LONGEST_TEXT else "short = 1\n"
        headers = {**_PLAIN, "If-Match": read.headers["ETag"]}
        written = await self.write("PUT", f"/files/{path}", content=text.encode(), headers=headers)
        if written is not None and path == own:
            read = await self.ask("GET", f"/files/{own}", params={"format": "text"})
            if read is None or read.text != text:
                raise RuntimeError(f"{own} is not what was put there")
            if self.chance.random() < 0.02:
                await self.write("DELETE", f"/files/{own}")


class _Turns(_Client):
    """A turn with output, from its beginning to its end."""

    kind = "turns"
    pause = 2.0

    async def act(self) -> None:
        session = await self.write("POST", "/sessions", json={"title": f"Session {self.number}"})
        if session is None:
            return
        turns = f"/sessions/{session.json()['id']}/turns"
        created = await self.write("POST", turns, json={"prompt": "Go on. " * 20})
        if created is None:
            return
        turn, offset, blocks = f"{turns}/{created.json()['id']}", 0, 0
        headers = {"Content-Type": "application/x-ndjson"}
        for step in range(20):
            part = {"type": "text", "text": f"Step {step}. " + "word " * self.chance.randint(1, 400)}
            line = json.dumps({"type": "assistant", "message": {"content": [part]}}).encode() + b"\n"
            asked = {"offset": offset}
            written = await self.write("POST", f"{turn}/output", content=line, params=asked, headers=headers)
            if written is None:
                return
            offset, blocks = written.json()["offset"], written.json()["block_count"]
            await self._wait(0.3)
        await self.write("PATCH", turn, json={"status": "completed"})
        read = await self.ask("GET", turn)
        if read is None or (read.json()["status"], read.json()["block_count"]) != ("completed", blocks):
            raise RuntimeError(f"a turn of {blocks} blocks became {read and read.text[:300]}")


class _Historian(_Client):
    """Reads old versions of a file, and what changed between two."""

    kind = "histories"
    pause = 2.0

    async def act(self) -> None:
        head = await self.ask("HEAD", f"/files/{self.path}")
        if head is None:
            return
        newest = int(head.headers["X-Version"])
        first, second = sorted(self.chance.randint(1, newest) for _ in range(2))
        await self.ask("GET", f"/files/{self.path}", params={"at_version": first, "format": "text"})
        await self.ask("GET", f"/history/{self.path}", params={"limit": 100})
        await self.ask("GET", f"/history/{self.path}", params={"diff": f"{first}..{second}"})


def _bytes(content: bytes) -> bytes:
    """Bytes after their length, as lib0 writes them."""
    size, length = len(content), bytearray()
    while size > 0x7F:
        length.append(0x80 | (size & 0x7F))
        size >>= 7
    return bytes([*length, size]) + content


def _body(message: bytes) -> bytes:
    """The bytes behind such a length."""
    start = next(place for place, byte in enumerate(message) if byte < 0x80) + 1
    return message[start:]
