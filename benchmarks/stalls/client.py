"""The client of a case: requests, rooms as raw bytes, and the register of the cases."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import httpx

from benchmarks.harness import Plan
from benchmarks.stalls.updates import var_uint

PROJECTS = "/api/projects"
OCTETS = {"Content-Type": "application/octet-stream"}
PLAIN = {"Content-Type": "text/plain"}
PATIENCE_S = 60.0
_CLOSE = 8
"""The opcode of a frame that ends a WebSocket."""


class Gateways(Protocol):
    """Where a gateway is, which can be started anew."""

    @property
    def port(self) -> int: ...

    def restart(self) -> None: ...


Case = Callable[["Client", Plan], Iterator[Any]]
"""Prepares, yields, and attacks; may then yield what came of it, for the JSON."""


def cases_of(subject: dict[str, Case]) -> Callable[[Case], Case]:
    """Return what registers a case of a subject under its name."""

    def case(prepare_and_attack: Case) -> Case:
        subject[prepare_and_attack.__name__] = prepare_and_attack
        return prepare_and_attack

    return case


class Client:
    """The one whose requests are heavy.

    Args:
        gateways: where a gateway is, and how to have it started anew.
    """

    def __init__(self, gateways: "Gateways", project: str = "demo") -> None:
        self._gateways, self._project = gateways, project
        self.http = self.other()

    @property
    def port(self) -> int:
        return self._gateways.port

    def again(self) -> None:
        """Have the gateway started anew, on the same database."""
        self._gateways.restart()
        self.http = self.other()

    def other(self) -> httpx.Client:
        """Another client, with connections of its own."""
        # There is no TLS here, and to read the system's certificates takes long.
        base = f"http://127.0.0.1:{self._gateways.port}{PROJECTS}/{self._project}"
        return httpx.Client(base_url=base, timeout=PATIENCE_S, verify=False)

    def put(self, path: str, text: str) -> int:
        return self.http.put(f"/files/{path}", content=text.encode(), headers=PLAIN).status_code

    def patch(self, path: str, update: bytes) -> int:
        return self.http.patch(f"/files/{path}", content=update, headers=OCTETS).status_code

    def turn(self) -> str:
        """A new turn of a new session."""
        session = f"/sessions/{self.http.post('/sessions', json={}).json()['id']}"
        return f"{session}/turns/{self.http.post(f'{session}/turns', json={'prompt': 'Go'}).json()['id']}"

    def stored(self, path: str) -> bool:
        """Wait until a file is there, as it is some time after a room was sent it."""
        for _ in range(200):
            if self.http.get(f"/files/{path}", params={"from_version": 1}).status_code < 400:
                return True
            time.sleep(0.05)
        return False

    def room(self, path: str) -> "Room":
        return Room(self._gateways.port, f"{PROJECTS}/{self._project}/ws/{path}")


class Room:
    """A WebSocket in a room, as raw bytes: it can send many frames in one write."""

    def __init__(self, port: int, path: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        head = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade"]
        head += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""]
        self._socket.sendall("\r\n".join(head).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._socket.recv(2**16)
        self._shook = answer.partition(b"\r\n\r\n")[2]
        """What came behind the handshake."""

    def send(self, message: bytes, times: int = 1) -> None:
        """Send frames, all in one write."""
        self._socket.sendall(_frame(message) * times)

    def send_all(self, messages: list[bytes]) -> None:
        """The same, of different messages."""
        self._socket.sendall(b"".join(map(_frame, messages)))

    def drain(self) -> None:
        """Read all that the gateway sends until it has come to the end of what it was sent, or closes the connection.

        The end is an awareness state, which the gateway sends to everybody in the room. (It answers a ping at once.)
        """
        state = b'"the end"'
        client = random.randrange(1, 2**31)  # a new one each time: a state that was seen before is not sent on
        states = b"\1" + var_uint(client) + b"\1" + var_uint(len(state)) + state
        with contextlib.suppress(OSError):
            self.send(b"\1" + var_uint(len(states)) + states)
            self.send(b"\3")
            for kind, message in self._messages():
                if kind == _CLOSE or state in message:
                    return

    def _messages(self) -> Iterator[tuple[int, bytes]]:
        """The kind of each frame, and what is in it."""
        buffer, at = bytearray(self._shook), 0
        while True:
            size, start = buffer[at + 1] if len(buffer) >= at + 2 else 0, at + 2
            if size >= 126:
                start += 2 if size == 126 else 8
                size = int.from_bytes(buffer[at + 2 : start])
            if len(buffer) >= max(start + size, at + 2):
                yield buffer[at] & 0xF, bytes(buffer[start : start + size])
                at = start + size
                continue
            del buffer[:at]
            at, received = 0, self._socket.recv(2**20)
            if not received:
                return
            buffer += received

    def close(self) -> None:
        self._socket.close()


def _frame(message: bytes) -> bytes:
    size = len(message)
    if size < 126:
        length = bytes([0x80 | size])
    else:
        length = b"\xfe" + size.to_bytes(2) if size < 2**16 else b"\xff" + size.to_bytes(8)
    return b"\x82" + length + bytes(4) + message


@contextlib.contextmanager
def at_once(asked: Sequence[Callable[[], object]]) -> Iterator[None]:
    """Requests in threads of their own; waits for them at the end."""

    def ask(each: Callable[[], object]) -> None:
        with contextlib.suppress(httpx.HTTPError):
            each()

    threads = [threading.Thread(target=ask, args=(each,), daemon=True) for each in asked]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()
