"""People who edit: stock y-websocket providers in Node.js, and a client that says byte by byte what it wants."""

import contextlib
import itertools
import json
import os
import struct
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, Self
from urllib.parse import quote

import pycrdt
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from gateway.yjs.messages import (
    AwarenessMessage,
    LongUpdate,
    SyncMessage,
    parse_message,
    sync_step_1,
    sync_step_2,
    sync_update,
)
from tests.support.oracle import FOLDER
from tests.support.server import PATIENCE_S, GatewayProcess

_PATIENCE_S = PATIENCE_S


WEBSOCKET: dict[str, Any] = {
    "open_timeout": _PATIENCE_S,
    "close_timeout": _PATIENCE_S,
    "ping_interval": None,
    "compression": None,
    "max_queue": None,
}
"""How clients of `websockets` connect: a machine that stands still for seconds ends no connection, and a client reads
the other side's close behind messages that it has not received, instead of waiting for it until the time is up."""


class EditorHost:
    """A Node.js process that runs editors; see `tests/yjs/live_editors.mjs`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["node", "live_editors.mjs"], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._ids = itertools.count()
        self._asked: dict[int, Future[Any]] = {}
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                answer = json.loads(line)
                asked = self._asked.pop(answer["id"])
                if "error" in answer:
                    asked.set_exception(AssertionError(answer["error"]))
                else:
                    asked.set_result(answer.get("value"))

    def ask(self, **request: Any) -> "Future[Any]":
        assert self._process.stdin is not None
        id = next(self._ids)
        self._asked[id] = asked = Future()
        self._process.stdin.write(json.dumps({"id": id, **request}) + "\n")
        self._process.stdin.flush()
        return asked

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._reader.join()


class Editor:
    """One person: a document behind a stock provider."""

    _names = itertools.count()

    def __init__(self, host: EditorHost, gateway: GatewayProcess, project: str, path: str, **options: Any) -> None:
        self._host = host
        self.left = False
        self.name = f"editor-{next(self._names)}"
        server = gateway.project(project).replace("http", "ws", 1) + "/ws"
        self._do("open", server=server, room=quote(path), **options)

    def start(self, do: str, **request: Any) -> "Future[Any]":
        """Begin what takes its time."""
        return self._host.ask(do=do, editor=self.name, **request)

    def _do(self, do: str, **request: Any) -> Any:
        asked = self.start(do, **request)
        try:
            return asked.result(_PATIENCE_S)
        except TimeoutError:
            found = self.start("state").result(_PATIENCE_S)
            raise AssertionError(f"{self.name} waited in vain for {do} {request}: it has {found}") from None

    def synced(self) -> Self:
        self._do("synced")
        return self

    def unsynced(self) -> None:
        self._do("unsynced")

    @property
    def text(self) -> str:
        assert self._do("clean"), "something is pending"
        text: str = self._do("read")
        return text

    def insert(self, text: str, at: int | None = None) -> None:
        self._do("insert", at=at, text=text)

    def delete(self, at: int, length: int) -> None:
        self._do("delete", at=at, length=length)

    def type(self, text: str) -> None:
        """Key by key, in one turn of the loop."""
        self._do("type", text=text)

    def until_text(self, text: str) -> None:
        self._do("until_text", text=text)

    def until_holds(self, text: str) -> None:
        self._do("until_holds", text=text)

    def until_ended(self) -> int:
        """The code with which the gateway sent it away for good."""
        code: int = self._do("until_ended")
        return code

    def until_closed(self) -> int:
        """The next code with which a connection was closed."""
        code: int = self._do("until_closed")
        return code

    def say(self, state: dict[str, Any] | None) -> None:
        self._do("say", state=state)

    def until_others(self, *names: str) -> None:
        """Until it sees just these."""
        self._do("until_others", others=[{"name": name} for name in sorted(names)])

    def cursors(self) -> list[list[str]]:
        """Who of the others has a cursor, and the text that it selects."""
        cursors: list[list[str]] = self._do("cursors")
        return cursors

    def lose(self, count: int) -> None:
        self._do("lose", count=count)

    @property
    def comes_back(self) -> bool:
        connected: bool = self._do("connected")
        return connected

    def disconnect(self) -> None:
        self._do("disconnect")

    def connect(self) -> None:
        self._do("connect")

    def renew(self, token: str) -> None:
        """Connect again with another token."""
        self._do("renew", params={"token": token})

    def cut(self) -> None:
        self._do("cut")

    def leave(self, text: str = "") -> None:
        """Type, and close at once."""
        self._do("leave", text=text)
        self.left = True


class RawClient:
    """A WebSocket that sends what it is told to send."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def send(self, message: bytes | str) -> None:
        with contextlib.suppress(ConnectionClosed):  # what the gateway has to say of it is still to be read
            self.socket.send(message)

    def send_update(self, update: bytes) -> None:
        self.send(sync_update(update))

    def receive(self) -> Any:
        """The next message."""
        message = self.socket.recv(_PATIENCE_S)
        assert isinstance(message, bytes)
        parsed = parse_message(message)
        return SyncMessage(parsed.step, bytes(parsed.body)) if isinstance(parsed, LongUpdate) else parsed

    def receive_sync(self, step: str) -> bytes:
        """What the next sync message of a step holds."""
        while True:
            message = self.receive()
            if isinstance(message, SyncMessage) and message.step == step:
                return message.body

    def receive_awareness(self) -> AwarenessMessage:
        """The next awareness message. A sync message may come before it at any moment: once the file has been read."""
        while not isinstance(message := self.receive(), AwarenessMessage):
            pass
        return message

    def join(self, document: "pycrdt.Doc[Any]") -> None:
        """Do as a provider does when it connects."""
        self.send(sync_step_1(document.get_state()))
        self.send(sync_step_2(document.get_update(self.receive_sync("step_1"))))
        document.apply_update(self.receive_sync("step_2"))

    def close_code(self) -> int | None:
        """Read on until the gateway closes; returns the code."""
        try:
            while True:
                self.socket.recv(_PATIENCE_S)
        except ConnectionClosed as closed:
            return None if closed.rcvd is None else closed.rcvd.code


@contextlib.contextmanager
def raw_client(
    gateway: GatewayProcess, project: str, path: str, *, quoted: bool = False, query: str = "", **options: Any
) -> Iterator[RawClient]:
    url = f"{gateway.project(quote(project))}/ws/{path if quoted else quote(path)}".replace("http", "ws", 1) + query
    with connect(url, **WEBSOCKET, **options, max_size=None) as socket:
        yield RawClient(socket)


def client_frame(payload: bytes) -> bytes:
    """A binary frame of a client (RFC 6455 §5.2), masked with zeros."""
    if len(payload) < 126:
        head = struct.pack("!BB", 0x82, 0x80 | len(payload))
    elif len(payload) < 65536:
        head = struct.pack("!BBH", 0x82, 0x80 | 126, len(payload))
    else:
        head = struct.pack("!BBQ", 0x82, 0x80 | 127, len(payload))
    return head + bytes(4) + payload


class Typewriter:
    """A document of one's own, and the update that each edit makes."""

    def __init__(self, base: bytes | None = None) -> None:
        self.document: pycrdt.Doc[Any] = pycrdt.Doc()
        self.text = self.document.get("content", type=pycrdt.Text)
        if base is not None:
            self.document.apply_update(base)

    def type(self, text: str) -> bytes:
        """Append text; returns the update."""
        state = self.document.get_state()
        self.text += text
        return self.document.get_update(state)

    def erase(self) -> bytes:
        """Delete all text; returns the update."""
        state = self.document.get_state()
        self.text.clear()
        return self.document.get_update(state)

    def updates(self, text: str) -> list[bytes]:
        """One update a character."""
        made: list[bytes] = []
        subscription = self.document.observe(lambda event: made.append(event.update))
        for character in text:
            self.text += character
        self.document.unobserve(subscription)
        return made


def resident_bytes(gateway: GatewayProcess) -> int:
    """The memory that a gateway takes now."""
    assert gateway.process is not None
    with open(f"/proc/{gateway.process.pid}/statm", encoding="ascii") as figures:
        return int(figures.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
