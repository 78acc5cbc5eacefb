"""(m) How long one client's heavy request keeps everybody else waiting.

Each case has a gateway of its own on an empty database. What the request needs is prepared first; then one client
sends it, while a neighbour polls an unchanged project every 5 ms from another process. Of each case there are two rows:

- the longest time for which the event loop was held, measured inside the gateway (`benchmarks.held_loop`) without the
  time in which other processes had the core. It should be no more than 50 ms. In brackets: the most CPU time that the
  loop itself took at once, in which no other thread of the gateway has a part;
- the time in which the neighbour's polls are answered, measured from when each was due: 99 of 100 within 10 ms. This
  figure has in it whatever else the machine does.

Beside both stands the same of the same gateway at rest, just before. A request that is refused is as good as any: the
cases are about everybody else. The gateway and its worker processes have all cores, as in service.
"""

import base64
import contextlib
import json
import queue
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any, Protocol

import httpx
import pycrdt

from benchmarks.harness import Aim, Plan, Row, compare, folder
from benchmarks.held_loop import Held, held
from benchmarks.neighbour import Neighbour
from benchmarks.servers import Server, gateway

_PROJECTS = "/api/projects"
_OCTETS = {"Content-Type": "application/octet-stream"}
_PLAIN = {"Content-Type": "text/plain"}
_PATIENCE_S = 60.0
_CLOSE = 8
"""The opcode of a frame that ends a WebSocket."""
_LONGEST_HOLD = Aim("<=", 50.0, of="ours")
_LONGEST_POLL = Aim("<=", 10.0, of="ours")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SYMBOLS = [chr(0x4E00 + number) for number in range(120)]
"""As many different lines: fewer than that, and a comparison may leave the most frequent out."""


class Gateways(Protocol):
    """Where a gateway is, which can be started anew."""

    @property
    def port(self) -> int: ...

    def restart(self) -> None: ...


Case = Callable[["Client", Plan], Iterator[Any]]
"""Prepares, yields, and attacks; may then yield what came of it, for the JSON."""

CASES: dict[str, Case] = {}


def case(prepare_and_attack: Case) -> Case:
    """Register a case under its name."""
    CASES[prepare_and_attack.__name__.removeprefix("_")] = prepare_and_attack
    return prepare_and_attack


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    chosen = [name for name in CASES if not plan.only or any(part in name for part in plan.only)]
    if not chosen:
        raise SystemExit(f"there is no such case; there are {', '.join(CASES)}")
    with Neighbour() as neighbour, ExitStack() as stack:
        shared = stack.enter_context(_Gateways()) if plan.quick else None  # a smoke test has one gateway for all
        for name in chosen:
            if shared is not None:
                yield from _measured(plan, name, shared, neighbour)
            else:
                with _Gateways() as own:
                    yield from _measured(plan, name, own, neighbour)


class Client:
    """The one whose requests are heavy.

    Args:
        gateways: where a gateway is, and how to have it started anew.
    """

    def __init__(self, gateways: "Gateways", project: str = "demo") -> None:
        self._gateways, self._project = gateways, project
        self.http = self.other()

    def again(self) -> None:
        """Have the gateway started anew, on the same database."""
        self._gateways.restart()
        self.http = self.other()

    def other(self) -> httpx.Client:
        """Another client, with connections of its own."""
        # There is no TLS here, and to read the system's certificates takes long.
        base = f"http://127.0.0.1:{self._gateways.port}{_PROJECTS}/{self._project}"
        return httpx.Client(base_url=base, timeout=_PATIENCE_S, verify=False)

    def put(self, path: str, text: str) -> int:
        return self.http.put(f"/files/{path}", content=text.encode(), headers=_PLAIN).status_code

    def patch(self, path: str, update: bytes) -> int:
        return self.http.patch(f"/files/{path}", content=update, headers=_OCTETS).status_code

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
        return Room(self._gateways.port, f"{_PROJECTS}/{self._project}/ws/{path}")


class Room:
    """A WebSocket in a room, as raw bytes: it can send many frames in one write."""

    def __init__(self, port: int, path: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _PATIENCE_S)
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
        states = b"\1" + _var_uint(client) + b"\1" + _var_uint(len(state)) + state
        with contextlib.suppress(OSError):
            self.send(b"\1" + _var_uint(len(states)) + states)
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


# Texts that are compared, or made into one another.


def _noise(count: int, alphabet: str = _LETTERS) -> str:
    return "".join(random.choices(alphabet, k=count))


def _code(lines: int, name: str = "oldName") -> str:
    return "\n".join(f"{number * 7919 % 104729:x} = {name}({number});" for number in range(lines))


@case
def diff_of_two_shuffles_of_short_lines(client: Client, plan: Plan) -> Iterator[Any]:
    for _ in range(2):
        client.put("d", "\n".join(random.choices(_SYMBOLS, k=plan.size(90_000, 2_000))))
    yield
    yield client.http.get("/history/d", params={"diff": "1..2"}).status_code


@case
def diff_of_a_cycle_of_lines_and_its_reverse(client: Client, plan: Plan) -> Iterator[Any]:
    lines = plan.size(90_000, 2_000)
    for step in (1, -1):
        client.put("d", "\n".join(_SYMBOLS[step * (number % 120) - (step < 0)] for number in range(lines)))
    yield
    yield client.http.get("/history/d", params={"diff": "1..2"}).status_code


@case
def diff_of_two_noises_in_one_line(client: Client, plan: Plan) -> Iterator[Any]:
    for _ in range(2):
        client.put("d", _noise(plan.size(1_000_000, 10_000)))
    yield
    yield client.http.get("/history/d", params={"diff": "1..2"}).status_code


@case
def diffs_that_take_all_workers_and_a_read(client: Client, plan: Plan) -> Iterator[Any]:
    for _ in range(2):
        client.put("d", "\n".join(random.choices(_SYMBOLS, k=plan.size(300_000, 2_000))))
    client.patch("large", _many_structs(plan.size(200_000, 2_000)))
    yield
    pairs = [partial(client.other().get, "/history/d", params={"diff": "1..2"}) for _ in range(4)]
    with _at_once(pairs):
        started = time.perf_counter()
        status = client.http.get("/files/large", params={"at_version": 1, "format": "json"}).status_code
        read = time.perf_counter() - started
    yield {"status": status, "read_s": read}


@case
def put_of_1_mb_of_noise_in_long_lines(client: Client, plan: Plan) -> Iterator[Any]:
    def text() -> str:
        return "\nsame line\n".join(_noise(10_000) for _ in range(plan.size(100, 1)))

    client.put("p", text())
    yield
    yield client.put("p", text())


@case
def put_of_noise_in_200_lines_of_1000(client: Client, plan: Plan) -> Iterator[Any]:
    def text() -> str:
        return "\n".join(_noise(1_000) for _ in range(plan.size(200, 5)))

    client.put("p", text())
    yield
    yield client.put("p", text())


@case
def put_of_15_mb_over_15_mb_of_noise(client: Client, plan: Plan) -> Iterator[Any]:
    def text() -> str:
        return _noise(plan.size(15_000_000, 10_000), _LETTERS + "\n ")

    client.put("p", text())
    yield
    yield client.put("p", text())


@case
def put_that_indents_90_000_lines(client: Client, plan: Plan) -> Iterator[Any]:
    text = _code(plan.size(90_000, 1_000))
    client.put("p", text)
    yield
    yield client.put("p", "\n".join("  " + line for line in text.split("\n")))


@case
def put_that_renames_in_20_000_places(client: Client, plan: Plan) -> Iterator[Any]:
    lines = plan.size(20_000, 500)
    client.put("p", _code(lines))
    yield
    yield client.put("p", _code(lines, "brandNewName"))


@case
def restore_of_20_000_renames(client: Client, plan: Plan) -> Iterator[Any]:
    lines = plan.size(20_000, 500)
    client.put("p", _code(lines))
    client.put("p", _code(lines, "brandNewName"))
    yield
    yield client.http.post("/history/p/restore", json={"version": 1}).status_code


@case
def put_over_300_000_emoji(client: Client, plan: Plan) -> Iterator[Any]:
    text = "😀a" * plan.size(300_000, 1_000)
    client.put("e", text)
    yield
    yield [client.put("e", text + "x" * number) for number in range(1, 4)]


@case
def put_into_a_text_of_200_000_structs(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", _many_structs(plan.size(200_000, 2_000)))
    yield
    yield [client.put("m", "y" * number) for number in (100, 50)]


# Documents of many structs.


@cache
def _many_structs(count: int) -> bytes:
    """A text of so many structs: typed backwards, so that none joins its neighbour."""
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
    text = document.get("content", type=pycrdt.Text)
    with document.transaction():
        for number in range(count):
            text.insert(0, _LETTERS[number % 26])
    return document.get_update()


@cache
def _map_of(entries: int) -> bytes:
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
    document["map"] = pycrdt.Map({f"key {number}": number for number in range(entries)})
    return document.get_update()


@cache
def _xml_of(elements: int) -> bytes:
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
    document["xml"] = fragment = pycrdt.XmlFragment()
    with document.transaction():
        for number in range(elements):
            fragment.children.insert(0, pycrdt.XmlElement("p", {"id": str(number)}))
    return document.get_update()


def _var_uint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(0x80 | (number & 0x7F))
        number >>= 7
    return bytes([*encoded, number])


def _sync(step: int, body: bytes) -> bytes:
    return bytes([0, step]) + _var_uint(len(body)) + body


@case
def patch_of_200_000_structs(client: Client, plan: Plan) -> Iterator[Any]:
    update = _many_structs(plan.size(200_000, 2_000))
    yield
    yield client.patch("m", update)


@case
def patch_of_200_000_structs_and_a_byte(client: Client, plan: Plan) -> Iterator[Any]:
    update = _many_structs(plan.size(200_000, 2_000)) + b"\0"
    yield
    yield client.patch("m", update)


@case
def patch_of_the_same_200_000_structs_again(client: Client, plan: Plan) -> Iterator[Any]:
    update = _many_structs(plan.size(200_000, 2_000))
    client.patch("m", update)
    yield
    yield client.patch("m", update)


@case
def patch_just_under_1_mb_of_structs(client: Client, plan: Plan) -> Iterator[Any]:
    update = _many_structs(plan.size(100_000, 2_000))
    assert len(update) < 2**20
    yield
    yield client.patch("m", update)


@case
def patch_of_a_map_of_200_000_entries(client: Client, plan: Plan) -> Iterator[Any]:
    update = _map_of(plan.size(200_000, 1_000))
    yield
    yield client.patch("m", update)


@case
def patch_of_5_million_empty_sections(client: Client, plan: Plan) -> Iterator[Any]:
    sections = plan.size(5_000_000, 10_000)
    update = _var_uint(sections) + b"\0\1\0" * sections + b"\0\0"
    yield
    yield client.patch("m", update)


@case
def patch_of_5_million_deleted_ranges(client: Client, plan: Plan) -> Iterator[Any]:
    ranges = plan.size(5_000_000, 10_000)
    client.put("m", "text")
    update = b"\0\1\5" + _var_uint(ranges) + b"\0\1" * ranges
    yield
    yield client.patch("m", update)


@case
def patch_of_an_array_of_5_million_values(client: Client, plan: Plan) -> Iterator[Any]:
    values = plan.size(5_000_000, 10_000)
    update = b"\1\1\5\0\x08\1\5array" + _var_uint(values) + b"\x7e" * values + b"\0"
    yield
    yield client.patch("m", update)


def _one_struct(kind: int, content: bytes) -> bytes:
    return b"\1\1\5\0" + bytes([kind]) + b"\1\4root" + content + b"\0"


@case
def patch_of_one_value_of_5_million_values(client: Client, plan: Plan) -> Iterator[Any]:
    values = plan.size(5_000_000, 10_000)
    update = _one_struct(8, b"\1\x75" + _var_uint(values) + b"\x7e" * values)
    yield
    yield client.patch("m", update)


@case
def patch_of_3_million_texts_in_an_array(client: Client, plan: Plan) -> Iterator[Any]:
    values = plan.size(3_000_000, 10_000)
    update = _one_struct(8, _var_uint(values) + b"\x77\1a" * values)
    yield
    yield client.patch("m", update)


@case
def patch_of_a_million_json_values(client: Client, plan: Plan) -> Iterator[Any]:
    values = plan.size(1_000_000, 10_000)
    update = _one_struct(2, _var_uint(values) + b"\1\x31" * values)
    yield
    yield client.patch("m", update)


@case
def patch_of_15_mb_in_one_text_and_reads(client: Client, plan: Plan) -> Iterator[Any]:
    size = plan.size(15_000_000, 10_000)
    update = _one_struct(4, _var_uint(size) + b"a" * size)
    yield
    status = client.patch("m", update)
    asked: list[dict[str, str | int]] = [{}, {"state_vector": "AA"}, {"format": "text", "root": "root"}]
    yield status, [client.http.get("/files/m", params=each).status_code for each in asked]


@case
def patch_of_an_embed_of_10_mb(client: Client, plan: Plan) -> Iterator[Any]:
    value = b'{"a":"' + b'\\"' * plan.size(5_000_000, 5_000) + b'"}'
    update = _one_struct(5, _var_uint(len(value)) + value)
    yield
    yield client.patch("m", update)


@case
def patch_of_15_mb_of_binary(client: Client, plan: Plan) -> Iterator[Any]:
    size = plan.size(15_000_000, 10_000)
    update = _one_struct(3, _var_uint(size) + b"a" * size)
    yield
    yield client.patch("m", update)


@case
def patch_of_a_million_roots(client: Client, plan: Plan) -> Iterator[Any]:
    def named(first: int, count: int) -> bytes:
        roots = b"".join(b"\x08\1\7%07d\1\x7e" % number for number in range(first, first + count))
        return b"\1" + _var_uint(count) + _var_uint(first + 1) + b"\0" + roots + b"\0"

    many, most = plan.size(1_000_000, 20_000), 10_000
    updates = [named(0, many), named(0, most), named(most, 1)]
    yield
    yield [client.patch("m", update) for update in updates]


@case
def patches_of_100_000_clients(client: Client, plan: Plan) -> Iterator[Any]:
    def written(first: int, count: int) -> bytes:
        clients = range(first + count, first, -1)
        return _var_uint(count) + b"".join(b"\1" + _var_uint(each) + b"\0\x08\1\1a\1\x7e" for each in clients) + b"\0"

    many = plan.size(99_000, 2_000)
    updates = [written(0, many), written(many, 10), written(many + 10, 1_000)]
    yield
    statuses = [client.patch("m", update) for update in updates]
    asked: list[dict[str, str]] = [{}, {"state_vector": "AA"}, {"format": "json"}]
    yield statuses, [client.http.get("/files/m", params=each).status_code for each in asked]


@case
def edits_of_1_000_places(client: Client, plan: Plan) -> Iterator[Any]:
    lines = plan.size(50_000, 500)
    client.put("p", _code(lines))
    places = range(0, lines, plan.size(50, 5))  # 1,000 are the most
    edits = [{"old": f"= oldName({number});", "new": f"= newName({number});"} for number in places]
    yield
    yield client.http.post("/edits/p", json={"edits": edits}).status_code


@case
def patches_that_compete_with_200_000_structs(client: Client, plan: Plan) -> Iterator[Any]:
    """Clients who did not see the text insert at its beginning: yrs walks over the whole text for each."""

    def letters(first: int, count: int) -> bytes:
        clients = range(first + count, first, -1)
        return _var_uint(count) + b"".join(b"\1" + _var_uint(each) + b"\0\4\1\7content\1z" for each in clients) + b"\0"

    client.patch("m", _many_structs(plan.size(200_000, 2_000)))
    yield
    yield [client.patch("m", letters(10 * count, count)) for count in (1, 10, plan.size(4_000, 20))]


@case
def reads_of_a_small_document_whose_structs_compete(client: Client, plan: Plan) -> Iterator[Any]:
    count = plan.size(10_000, 200)
    clients = range(10, count + 10)
    letters = [b"\1\1" + _var_uint(each) + b"\0\4\1\7content\1z\0" for each in clients]
    for start in range(0, count, 500):
        room = client.room("m")
        room.send_all([_sync(2, letter) for letter in letters[start : start + 500]])
        room.drain()
        room.close()
    client.stored("m")
    client.again()
    yield
    asked: list[dict[str, str | int]] = [{}, {"format": "text"}, {"format": "json"}, {"from_version": 1}]
    asked += [{"at_version": 2, "format": "text"}]
    statuses = [client.http.get("/files/m", params=each).status_code for each in asked]
    yield statuses, client.put("m", "x"), client.patch("m", _many_structs(10))


@case
def deletion_of_a_million_structs(client: Client, plan: Plan) -> Iterator[Any]:
    count = plan.size(1_000_000, 2_000)
    for start in range(0, count, 200_000):
        many = min(count, 200_000)
        parts = b"".join(b"\x04\1\7content\1x" if number % 2 else b"\x08\1\1a\1\x7e" for number in range(many))
        client.patch("m", b"\1" + _var_uint(many) + b"\5" + _var_uint(start) + parts + b"\0")
    yield
    yield client.patch("m", b"\0\1\5\1\0" + _var_uint(count))


@case
def presence_of_a_large_state(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("small", "x")
    bodies = [{"state": {"name": "n", "list": [[]] * plan.size(3_000_000, 1_000)}}, {"state": "a" * 10_000_000}]
    texts = [json.dumps(body).encode() for body in bodies]
    headers = {"Content-Type": "application/json"}
    yield
    yield [client.http.put("/presence/small/7", content=text, headers=headers).status_code for text in texts]


@case
def sync_of_200_000_structs(client: Client, plan: Plan) -> Iterator[Any]:
    update = base64.b64encode(_many_structs(plan.size(200_000, 2_000))).decode()
    yield
    yield client.http.post("/sync", json={"updates": {"m": update}}).status_code


@case
def sync_of_2_000_new_files(client: Client, plan: Plan) -> Iterator[Any]:
    updates = {f"many/{number}": "AAA=" for number in range(plan.size(2_000, 20))}
    yield
    yield client.http.post("/sync", json={"updates": updates}).status_code


@case
def announced_lengths_beyond_the_bytes(client: Client, plan: Plan) -> Iterator[Any]:
    """A few bytes that say that a great many things follow, at each place where a number of things stands."""
    many = _var_uint(2**28 - 1)
    updates = {
        "clients": many + b"\1\7\0",
        "structs": b"\1" + many + b"\7\0",
        "deleting clients": b"\0" + many + b"\1\1\0\1",
        "deleted ranges": b"\0\1\5" + many + b"\0\1",
        "values": b"\1\1\5\0\x08\1\1a" + many + b"\x7e\0",
        "JSON values": b"\1\1\5\0\x02\1\1a" + many + b"\x04null\0",
        "characters": b"\1\1\5\0\x04\1\1a" + many + b"x\0",
        "bytes": b"\1\1\5\0\x03\1\1a" + many + b"x\0",
        "members": b"\1\1\5\0\x08\1\1a\1\x76" + many + b"\0",
        "elements": b"\1\1\5\0\x08\1\1a\1\x75" + many + b"\0",
        "a gap": b"\1\1\5\0\x0a" + many + b"\0",
        "collected": b"\1\1\5\0\0" + many + b"\0",
    }
    yield
    found: dict[str, object] = {name: client.patch("small", update) for name, update in updates.items()}
    for vector in (many + b"\5\1", _var_uint(2**20) + b"\5\1"):
        given = base64.urlsafe_b64encode(vector).decode().rstrip("=")
        client.http.get("/files/small", params={"state_vector": given})
        room = client.room("small")
        room.send(_sync(0, vector))
        room.drain()
        room.close()
    for update in updates.values():
        room = client.room("small")
        room.send(_sync(2, update))
        room.drain()
        room.close()
    yield found


@case
def first_write_after_a_start(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", _many_structs(plan.size(200_000, 2_000)))
    client.again()
    yield
    yield client.http.put("/files/m", params={"root": "x"}, content=b"y", headers=_PLAIN).status_code


@case
def text_of_a_root_that_is_not_there(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", _many_structs(plan.size(200_000, 2_000)))
    yield
    yield client.http.get("/files/m", params={"format": "text", "root": "none"}).status_code


@case
def text_of_200_000_structs_ten_times(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", _many_structs(plan.size(200_000, 2_000)))
    yield
    yield [client.http.get("/files/m", params={"format": "text"}).status_code for _ in range(10)]


@case
def json_just_under_1_mb(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", _many_structs(plan.size(100_000, 2_000)))
    yield
    yield client.http.get("/files/m", params={"format": "json"}).status_code


@case
def json_of_a_map_of_200_000_entries(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", _map_of(plan.size(200_000, 1_000)))
    yield
    yield client.http.get("/files/m", params={"format": "json"}).status_code


@case
def json_of_20_000_xml_elements(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", _xml_of(plan.size(20_000, 500)))
    yield
    yield client.http.get("/files/m", params={"format": "json"}).status_code


@case
def json_of_5_million_values(client: Client, plan: Plan) -> Iterator[Any]:
    values = plan.size(5_000_000, 10_000)
    client.patch("m", b"\1\1\5\0\x08\1\5array" + _var_uint(values) + b"\x7e" * values + b"\0")
    yield
    yield client.http.get("/files/m", params={"format": "json"}).status_code


@case
def restore_of_a_map_of_50_000_entries(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", _map_of(plan.size(50_000, 500)))
    client.http.delete("/files/m")
    yield
    yield client.http.post("/history/m/restore", json={"version": 1}).status_code


@case
def increments_and_old_versions_of_200_000_structs(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", _many_structs(plan.size(200_000, 2_000)))
    client.http.put("/files/m", params={"root": "content"}, content=b"short", headers=_PLAIN)
    yield
    asked: list[dict[str, str | int]] = [{"from_version": 1}, {"at_version": 1}, {"state_vector": "AA"}, {}]
    asked += [{"at_version": 1, "format": "text"}, {"at_version": 1, "format": "json"}]
    yield [client.http.get("/files/m", params=each).status_code for each in asked]


@case
def move_of_200_000_structs(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", _many_structs(plan.size(200_000, 2_000)))
    yield
    yield client.http.post("/files/move", json={"from": "m", "to": "n"}).status_code


# Rooms.


@case
def room_of_200_000_structs_joined_50_times(client: Client, plan: Plan) -> Iterator[Any]:
    client.patch("m", _many_structs(plan.size(200_000, 2_000)))
    yield
    rooms = [client.room("m") for _ in range(plan.size(50, 3))]
    for room in rooms:
        room.send(_sync(0, b"\0"))
    for room in rooms:
        room.drain()
        room.close()
    yield len(rooms)


@case
def room_of_15_000_sync_steps_in_one_write(client: Client, plan: Plan) -> Iterator[Any]:
    structs = plan.size(150_000, 2_000)
    client.patch("m", _many_structs(structs))
    yield
    room = client.room("m")
    room.send(_sync(0, b"\1\5" + _var_uint(structs)), plan.size(15_000, 50))
    room.drain()
    room.close()
    yield


@case
def room_of_a_state_vector_of_7_million_entries(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("small", "x")
    entries = plan.size(7_500_000, 10_000)
    message = _sync(0, _var_uint(entries) + b"\0\0" * entries)
    yield
    room = client.room("small")
    room.send(message)
    room.drain()
    room.close()
    yield


@case
def room_of_200_000_structs_in_one_update(client: Client, plan: Plan) -> Iterator[Any]:
    message = _sync(2, _many_structs(plan.size(200_000, 2_000)))
    yield
    room = client.room("m")
    room.send(message)
    room.drain()
    yield client.stored("m")
    room.close()


@case
def room_of_1_000_updates_of_16_kb(client: Client, plan: Plan) -> Iterator[Any]:
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    text, updates = document.get("content", type=pycrdt.Text), list[bytes]()
    document.observe(lambda event: updates.append(event.update))
    for _ in range(plan.size(1_000, 10)):
        text.insert(0, _noise(15_000))
    yield
    room = client.room("burst")
    for update in updates:
        room.send(_sync(2, update))
    room.drain()
    yield client.stored("burst")
    room.close()


@case
def room_of_30_000_updates_of_a_keystroke_in_one_write(client: Client, plan: Plan) -> Iterator[Any]:
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    text, updates = document.get("content", type=pycrdt.Text), list[bytes]()
    document.observe(lambda event: updates.append(event.update))
    for _ in range(plan.size(30_000, 100)):
        text.insert(0, "x")
    yield
    room = client.room("burst")
    room.send_all([_sync(2, update) for update in updates])
    room.drain()
    yield client.stored("burst")
    room.close()


@case
def room_of_30_000_questions_for_awareness(client: Client, plan: Plan) -> Iterator[Any]:
    yield
    room = client.room("small")
    for number in range(1, 91):
        states = b"\1" + _var_uint(number) + b"\1" + _var_uint(2_400) + b'"' + b"a" * 2_398 + b'"'
        room.send(b"\1" + _var_uint(len(states)) + states)
    room.send(b"\3", plan.size(30_000, 100))
    room.drain()
    room.close()
    yield


# Lists, and what agents say.


@case
def status_of_10_000_paths(client: Client, plan: Plan) -> Iterator[Any]:
    versions = {f"no/{number}": 7 for number in range(plan.size(10_000, 100))}
    yield
    yield [client.http.post("/files/status", json={"versions": versions}).status_code for _ in range(3)]


@case
def listing_changes_and_sync_of_10_000_files(client: Client, plan: Plan) -> Iterator[Any]:
    for start in range(0, plan.size(10_000, 100), 2_000):
        updates = {f"many/{number}": "AAA=" for number in range(start, start + plan.size(2_000, 100))}
        client.http.post("/sync", json={"updates": updates}).raise_for_status()
    yield
    answers = [client.http.get(url, params={"limit": 10_000}) for url in ("/files", "/changes")]
    answers += [client.http.post("/sync", json={}), client.http.post("/files/status", json={"versions": {}})]
    yield [answer.status_code for answer in answers]


@case
def history_of_10_000_versions(client: Client, plan: Plan) -> Iterator[Any]:
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    text, updates = document.get("content", type=pycrdt.Text), list[bytes]()
    document.observe(lambda event: updates.append(event.update))
    for _ in range(plan.size(10_000, 50)):
        text.insert(0, "x")
    for update in updates:
        client.patch("h", update)
    yield
    asked: list[dict[str, str | int]] = [{"limit": 1_000}, {"limit": 1_000, "group": 60}]
    answers = [client.http.get("/history/h", params=each) for each in asked]
    yield [answer.status_code for answer in [*answers, client.http.get("/files/h", params={"from_version": 1})]]


@case
def output_of_9_mb_in_one_line(client: Client, plan: Plan) -> Iterator[Any]:
    parts = [{"type": "text", "text": "x"}] * plan.size(300_000, 1_000)
    line = json.dumps({"type": "assistant", "message": {"content": parts}}).encode() + b"\n"
    output = f"{client.turn()}/output"
    yield
    headers = {"Content-Type": "application/x-ndjson"}
    yield client.http.post(output, content=line, headers=headers).status_code


@case
def output_of_15_mb_in_short_lines(client: Client, plan: Plan) -> Iterator[Any]:
    line = json.dumps({"type": "assistant", "message": {"content": [{"type": "text", "text": "x"}]}}).encode() + b"\n"
    output = f"{client.turn()}/output"
    yield
    headers = {"Content-Type": "application/x-ndjson"}
    yield client.http.post(output, content=line * plan.size(190_000, 100), headers=headers).status_code


@case
def block_of_5_million_empty_lists(client: Client, plan: Plan) -> Iterator[Any]:
    body = json.dumps({"blocks": [{"type": "text", "content": [[]] * plan.size(3_500_000, 1_000)}]}).encode()
    turn = client.turn()
    yield
    headers = {"Content-Type": "application/json"}
    status = client.http.post(f"{turn}/blocks", content=body, headers=headers).status_code
    yield status, client.http.get(turn).status_code


@case
def batch_of_100_000_blocks(client: Client, plan: Plan) -> Iterator[Any]:
    blocks = [{"type": "text", "content": "x"}] * plan.size(100_000, 100)
    turn = client.turn()
    yield
    status = client.http.post(f"{turn}/blocks", json={"blocks": blocks}).status_code
    yield status, client.http.get(turn).status_code


# Bytes.


@case
def answers_of_15_mb_compressed_for_5_clients(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("b", _noise(plan.size(15_000_000, 100_000)))
    yield
    for coding in ("gzip", "br", "zstd"):
        headers = {"Accept-Encoding": coding}
        asked = [partial(client.other().get, "/files/b", params={"format": "text"}, headers=headers) for _ in range(5)]
        with _at_once(asked):
            pass
    yield


@case
def json_of_very_many_values(client: Client, plan: Plan) -> Iterator[Any]:
    paths = json.dumps({"versions": {f"f{number}": 1 for number in range(plan.size(900_000, 1_000))}}).encode()
    lists = b'{"query":"{__typename}","variables":{"a":[' + b"[]," * plan.size(3_000_000, 1_000) + b"[]]}}"
    deep = plan.size(5_000_000, 100)
    nested = b'{"query":"{__typename}","variables":{"a":' + b"[" * deep + b"]" * deep + b"}}"
    graphql = client.http.base_url.copy_with(path="/api/graphql")
    headers = {"Content-Type": "application/json"}
    client.http.post(graphql, json={"query": "{__typename}"})
    yield
    asked = [("/files/status", paths), ("/sync", paths), (graphql, lists), (graphql, nested)]
    yield [client.http.post(url, content=body, headers=headers).status_code for url, body in asked]


@case
def graphql_of_as_many_tokens_as_may_be(client: Client, plan: Plan) -> Iterator[Any]:
    graphql = client.http.base_url.copy_with(path="/api/graphql")
    queries = ["__typename " * 990, 'project(id: "a") { id } ' * 98, 'project(name: "p") { idd } ' * 98]
    client.http.post(graphql, json={"query": "{__typename}"})
    yield
    yield [client.http.post(graphql, json={"query": f"{{{query}}}"}).status_code for query in queries]


@case
def room_of_a_million_awareness_states(client: Client, plan: Plan) -> Iterator[Any]:
    count = plan.size(1_000_000, 1_000)
    states = _var_uint(count) + b"".join(_var_uint(number) + b"\1\4null" for number in range(count))
    yield
    room = client.room("small")
    room.send(b"\1" + _var_uint(len(states)) + states)
    room.drain()
    room.close()
    yield


@case
def tags_of_60_kb_in_a_header(client: Client, plan: Plan) -> Iterator[Any]:
    client.put("small", "x")
    tags = ", ".join(f'"x{number}"' for number in range(7_000))[:60_000]
    yield
    yield [client.http.get("/files/small", headers={"If-None-Match": tags}).status_code for _ in range(20)]


@contextlib.contextmanager
def _at_once(asked: Sequence[Callable[[], object]]) -> Iterator[None]:
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


# Measuring.


@dataclass(frozen=True)
class _Felt:
    """What was measured in some time. Milliseconds."""

    held: Held
    polls: dict[str, float]


class _Gateways:
    """A gateway whose loop is watched, and the next one on the same database."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> "_Gateways":
        self._database = self._stack.enter_context(folder()) / "gateway.db"
        self._start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.__exit__(None, None, None)
        self._stack.close()

    def _start(self) -> None:
        settings = {"GATEWAY_LOG_LEVEL": "error"}
        self.server: Server = gateway(self._database, module="benchmarks.held_loop", on_all_cores=True, **settings)

    def restart(self) -> None:
        self.server.__exit__(None, None, None)
        self._start()

    @property
    def port(self) -> int:
        return self.server.port

    def held(self) -> Held:
        """The longest hold since this was asked before."""
        return held(self.server, patience=_PATIENCE_S)


def _measured(plan: Plan, name: str, gateways: _Gateways, neighbour: Neighbour) -> Iterator[Row]:
    client = Client(gateways)
    steps = CASES[name](client, plan)
    next(steps)
    at_rest = _felt(gateways, neighbour, partial(time.sleep, plan.seconds))
    came: list[object] = []

    def attack() -> None:
        came.extend(steps)

    attacked = _felt(gateways, neighbour, attack)
    yield from _rows(name.replace("_", " "), attacked, at_rest, {"came": came, "peak": gateways.server.peak_bytes()})


def _felt(gateways: _Gateways, neighbour: Neighbour, act: Callable[[], object]) -> _Felt:
    """What the gateway and the neighbour feel while something is done.

    Raises:
        RuntimeError: it was not done within a minute; the gateway was ended.
    """
    neighbour.begin(gateways.server.port)
    gateways.held()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    try:
        held = gateways.held()
    except queue.Empty:
        gateways.server.kill()
        held = Held(2 * _PATIENCE_S * 1e3, 0.0, 0.0, [])
        gateways.restart()
    felt = _Felt(held, neighbour.end())
    if failures and not isinstance(failures[0], httpx.TransportError):
        raise failures[0]
    return felt


def _rows(what: str, attacked: _Felt, at_rest: _Felt, details: dict[str, object]) -> Iterator[Row]:
    held, rested = attacked.held, at_rest.held
    about = {**details, "held": asdict(held), "polls": attacked.polls, "polls at rest": at_rest.polls}
    yield compare(
        f"{what} ({held.cpu:.3g} ms of CPU)",
        "ms held",
        [held.longest],
        "at rest",
        [max(rested.longest, 0.001)],
        aim=_LONGEST_HOLD,
        details=about,
    )
    polls = attacked.polls
    yield compare(
        f"  polls: half in {polls['p50']:.2g} ms, all in {polls['longest']:.3g} ms, 99 of 100",
        "ms",
        [polls["p99"]],
        "at rest",
        [at_rest.polls["p99"]],
        aim=_LONGEST_POLL,
    )
