"""A request with a large body may take its time: the body is not what was sent behind the request."""

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from gateway.server.http_exchange import BODY_HELD
from gateway.server.http_protocol import HttpProtocol
from tests.support.transports import Transport

_SIZE = 6 * BODY_HELD


class _Timers(asyncio.SelectorEventLoop):
    """An event loop that counts the timers that are set."""

    timers = 0

    def call_at(self, *arguments: Any, **options: Any) -> asyncio.TimerHandle:
        self.timers += 1
        return super().call_at(*arguments, **options)


@pytest.mark.parametrize("parts", [1, 3], ids=["in one read", "in parts"])
def test_the_connection_is_read_and_has_no_deadline_while_a_large_body_is_worked_on(parts: int) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, _Timers)
        received, finish = asyncio.Event(), asyncio.Event()
        size = 0

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal size
            more = True
            while more:
                message = await receive()
                size += len(message["body"])
                more = message["more_body"]
            received.set()
            await finish.wait()
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        config = Config(app, lifespan="off", proxy_headers=False, log_config=None)
        config.load()
        transport = Transport()
        protocol = HttpProtocol(config, ServerState(), {})
        protocol.connection_made(transport)
        body = b"x" * _SIZE
        step = _SIZE // parts
        head = b"PUT / HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % _SIZE
        protocol.data_received(head + body[:step])
        timers = loop.timers
        for start in range(step, _SIZE, step):
            assert not transport.reading  # until the application takes what is there
            await asyncio.sleep(0)
            protocol.data_received(body[start : start + step])
        await received.wait()
        assert size == _SIZE
        assert transport.reading  # else nobody would notice that the client leaves
        assert loop.timers == timers
        finish.set()
        await transport.answered.wait()
        assert transport.written.startswith(b"HTTP/1.1 204 ")
        protocol.connection_lost(None)

    with asyncio.Runner(loop_factory=_Timers) as runner:
        runner.run(asyncio.wait_for(work(), 60))
