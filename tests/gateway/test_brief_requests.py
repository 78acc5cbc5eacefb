"""Who polls for changes is answered in a turn of the event loop that others have used up, as that is soon done."""

import asyncio
from itertools import pairwise

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from gateway.asgi.answers import DirectAnswers
from gateway.http.connections import Connections
from gateway.server.http_protocol import HttpProtocol
from gateway.shared_turn import SharedTurn
from tests.support.clocks import TickingClock
from tests.support.transports import Transport
from tests.support.turns import until

_LONG = 100_000


class _App:
    """Answers at once: a long answer where the path says so."""

    def __init__(self) -> None:
        self.left: list[str] = []

    def answer_directly(self, scope: Scope, body: bytes, server: DirectAnswers) -> bool:
        answer = b"x" * (_LONG if scope["path"] == "/long" else 2)
        return scope["path"] not in ("/task", "/wait") and server.answer_encoded(200, b"", answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/wait":
            await receive()  # the request, which has no body
            assert (await receive())["type"] == "http.disconnect"
            self.left.append(scope["path"])
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


class _Server:
    """Connections whose turns of the loop end when the test says so."""

    def __init__(self) -> None:
        self.app = _App()
        self.config = Config(self.app, lifespan="off", proxy_headers=False, log_config=None, interface="asgi3")
        self.config.load()
        self.turn = SharedTurn(TickingClock(0.001))
        self.connections = Connections(turn=self.turn)

    def connect(self) -> "_Client":
        return _Client(self)

    async def connect_and_ask(self, first: str, count: int = 1) -> list["_Client"]:
        """Connect clients, and have them ask a first request."""
        clients = [self.connect() for _ in range(count)]
        for each in clients:
            each.ask(first)
            await until(lambda each=each: each.answers == 1)
        return clients

    def use_up_turn(self) -> None:
        while not self.turn.is_over():
            pass


class _Client:
    def __init__(self, server: _Server) -> None:
        self._transport = Transport()
        self._protocol = HttpProtocol(server.config, ServerState(), {}, connections=server.connections)
        self._protocol.connection_made(self._transport)

    def ask(self, request: str) -> None:
        self._protocol.data_received(f"{request} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())

    @property
    def waits(self) -> bool:
        """Whether the application waits for the client to leave."""
        exchange = self._protocol._exchange
        return exchange is not None and exchange._waiter is not None

    @property
    def answers(self) -> int:
        return self._transport.written.count(b"HTTP/1.1 200")

    def leave(self) -> None:
        self._protocol.connection_lost(None)


def test_who_was_answered_from_memory_is_answered_although_the_turn_is_over() -> None:
    async def work() -> None:
        server = _Server()
        (poller,) = await server.connect_and_ask("GET /poll")
        newcomer = server.connect()
        server.use_up_turn()
        newcomer.ask("GET /poll")
        poller.ask("GET /poll")
        assert poller.answers == 2
        assert newcomer.answers == 0
        await until(lambda: newcomer.answers == 1)
        for each in (poller, newcomer):
            each.leave()

    asyncio.run(asyncio.wait_for(work(), 60))


@pytest.mark.parametrize("first", ["GET /task", "GET /long", "PATCH /poll"])
def test_whose_last_request_was_none_of_a_moment_waits_as_others_do(first: str) -> None:
    async def work() -> None:
        server = _Server()
        (client,) = await server.connect_and_ask(first)
        server.use_up_turn()
        client.ask("GET /poll")
        assert client.answers == 1
        await until(lambda: client.answers == 2)
        client.leave()

    asyncio.run(asyncio.wait_for(work(), 60))


def test_a_crowd_of_those_who_poll_is_not_answered_in_one_turn() -> None:
    async def work() -> None:
        server = _Server()
        clients = await server.connect_and_ask("GET /poll", 50)
        server.use_up_turn()
        for each in clients:
            each.ask("GET /poll")
        assert [each.answers for each in clients] == [*[2] * 32, *[1] * 18]
        await until(lambda: all(each.answers == 2 for each in clients))
        for each in clients:
            each.leave()

    asyncio.run(asyncio.wait_for(work(), 60))


def test_a_request_that_is_read_in_time_is_answered_before_those_that_wait() -> None:
    async def work() -> None:
        server = _Server()
        (poller,) = await server.connect_and_ask("GET /poll")
        others = [server.connect() for _ in range(20)]
        poller.ask("GET /poll")
        server.use_up_turn()
        for each in others:
            each.ask("GET /poll")
        await asyncio.sleep(0)
        assert poller.answers == 2
        assert not any(each.answers for each in others)
        await until(lambda: all(each.answers for each in others))
        for each in (poller, *others):
            each.leave()

    asyncio.run(asyncio.wait_for(work(), 60))


def test_requests_whose_clients_leave_together_end_in_several_turns() -> None:
    async def work() -> None:
        server = _Server()
        clients = [server.connect() for _ in range(60)]
        for each in clients:
            each.ask("GET /wait")
            await until(lambda each=each: each.waits)
        server.use_up_turn()
        for each in clients:
            each.leave()
        left = [len(server.app.left)]
        while left[-1] < 60:
            await asyncio.sleep(0)
            left.append(len(server.app.left))
        assert max(after - before for before, after in pairwise(left)) <= 6

    asyncio.run(work())
