"""Clients of what is live: an event stream read event by event, requests that wait, the gateway's own figures."""

import contextlib
import json
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import httpx
from msgspec import Struct

from tests.support.server import PATIENCE_S, GatewayProcess

PLAIN = {"Content-Type": "text/plain"}
OCTETS = {"Content-Type": "application/octet-stream"}
EVENTS = {"Accept": "text/event-stream"}


def put(client: httpx.Client, path: str, text: str) -> dict[str, Any]:
    """Write a file's text; returns the receipt."""
    receipt: dict[str, Any] = (
        client.put(f"/files/{path}", content=text.encode(), headers=PLAIN).raise_for_status().json()
    )
    return receipt


def name_of(project: httpx.Client) -> str:
    """The project that a client is for."""
    return project.base_url.path.rstrip("/").rpartition("/")[2]


def names(answer: dict[str, Any]) -> list[tuple[str, int, str]]:
    """What the entries of an answer about files say."""
    return [(change["path"], change["version"], change["change_type"]) for change in answer["changes"]]


class Event(Struct):
    """One block of an event stream."""

    name: str = "message"
    id: str | None = None
    data: str = ""
    retry: int | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class EventStream:
    """A response that is an event stream, as the blocks that it consists of (WHATWG HTML §9.2.6)."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        event = Event()
        for line in self._lines:
            if not line:
                return event
            field, _, value = line.partition(": ")
            match field:
                case "event":
                    event.name = value
                case "id":
                    event.id = value
                case "data":
                    event.data = value
                case "retry":
                    event.retry = int(value)
                case _:
                    raise AssertionError(f"not a field: {line!r}")
        raise StopIteration

    def next(self, name: str) -> Event:
        """The next event of a name."""
        deadline, others = time.monotonic() + PATIENCE_S, list[Event]()
        for event in self:
            if event.name == name:
                return event
            others.append(event)
            assert time.monotonic() < deadline, f"no event {name!r} came, but {others[-20:]}"
        raise AssertionError(f"the stream ended before an event {name!r}, after {others[-20:]}")

    def until_ready(self) -> list[Event]:
        """The changes up to and without `ready`."""
        changes = []
        for event in self:
            if event.name == "ready":
                return changes
            if event.name != "message":
                changes.append(event)
        raise AssertionError("the stream ended before it was ready")


@contextlib.contextmanager
def event_stream(client: httpx.Client, last_event_id: str | None = None, **parameters: Any) -> Iterator[EventStream]:
    headers = EVENTS if last_event_id is None else {**EVENTS, "Last-Event-ID": last_event_id}
    with client.stream("GET", "/changes", params=parameters, headers=headers) as response:
        assert response.status_code == 200, response.read()
        yield EventStream(response)


def figure(gateway: GatewayProcess, name: str) -> float:
    """A figure of the gateway, by its name in `/metrics`; all of its labels together."""
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.port}/metrics") as answer:
        text = answer.read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))


def wait_for_figure(gateway: GatewayProcess, name: str, value: float) -> None:
    """Ask until a figure of the gateway has a value: there is no event for what happens inside another process."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := figure(gateway, name)) != value:
        assert time.monotonic() < deadline, f"{name} is {found}, not {value}"


class Waiting:
    """Requests that wait on one project of a gateway where nobody else does, each on a connection of its own."""

    def __init__(self, gateway: GatewayProcess, project: str = "demo") -> None:
        self._gateway = gateway
        self._project = project
        self._pool = ThreadPoolExecutor(64)
        self._started = 0
        wait_for_figure(gateway, "gateway_waiters", 0)

    def start(self, method: str, path: str, **options: Any) -> "Future[httpx.Response]":
        """Send a request, and return when the gateway holds it."""
        return self.start_all([{"method": method, "path": path, **options}])[0]

    def start_all(self, requests: list[dict[str, Any]]) -> list["Future[httpx.Response]"]:
        """Send requests at once, and return when the gateway holds all of them."""

        def ask(method: str, path: str, **options: Any) -> httpx.Response:
            with self._gateway.client(self._project) as client:
                return client.request(method, path, **options)

        self._started += len(requests)
        asked = [self._pool.submit(ask, **request) for request in requests]
        wait_for_figure(self._gateway, "gateway_waiters", self._started)
        return asked

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


class Wakes:
    """How often somebody was woken since this was made."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self._before = figure(gateway, "gateway_wakes_total")

    def __call__(self) -> float:
        return figure(self._gateway, "gateway_wakes_total") - self._before


@contextlib.contextmanager
def held_request(gateway: GatewayProcess, target: str) -> Iterator[None]:
    """A GET of a project's client that leaves at the end of the block without having read anything.

    Args:
        gateway: the one that is connected to, by its `url`; whoever waits is counted by its metrics.
        target: the path, within the project, and the query.
    """
    url = httpx.URL(gateway.url)
    waiting = figure(gateway, "gateway_waiters")
    with socket.create_connection((url.host, url.port or 80)) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {url.netloc.decode()}\r\n\r\n".encode())
        wait_for_figure(gateway, "gateway_waiters", waiting + 1)
        yield
