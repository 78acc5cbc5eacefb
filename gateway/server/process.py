"""The gateway process: uvicorn with our options, logging, and a shutdown that loses nothing."""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, cast

import structlog
import uvicorn
from msgspec import Struct

from gateway.app import Gateway, create_app
from gateway.heap import map_large_buffers
from gateway.pace import with_turns
from gateway.server.garbage import FullCollections, collect_in_small_parts
from gateway.server.http_protocol import HttpProtocol
from gateway.server.siblings import Siblings
from gateway.server.supervisor import Supervisor
from gateway.server.websocket_protocol import WebSocketProtocol
from gateway.settings import Settings
from storage.opening import place_of

_log = structlog.get_logger("gateway.server")

_SWITCH_S = 0.0005
"""How long another thread may keep the interpreter from the event loop, which waits so long each time that it was
without work or wrote to a socket. With Python's default of 5 ms, a thread that reads 1,000 rows triples the time of
every answer meanwhile."""
_CLOSED_TOGETHER = 50
"""How many connections are closed in one turn of the event loop when the server stops."""
_TICK_S = 1.0
"""How often the date in the headers is renewed, and the garbage is looked at."""


class Membership(Struct, frozen=True):
    """What makes a process one of several on a port."""

    index: int
    """The number of the process, from 0."""
    folder: Path
    """Where the processes have sockets for each other."""
    sockets: list[socket.socket]
    """The listening sockets, which all processes share."""
    serves: Callable[[], None]
    """Called when the process accepts connections."""


def run_server(settings: Settings) -> bool:
    """Serve until stopped, by as many processes as the settings say; return whether the server started at all."""
    if settings.processes == 1:
        return _serve(settings, None)
    _configure_log(settings)
    return asyncio.run(Supervisor(settings, lambda sockets: _print_place(settings, sockets)).run())


def serve_member(settings: Settings, membership: Membership) -> bool:
    """Serve as one of several processes until stopped; return whether the server started at all."""
    return _serve(settings, membership)


def _serve(settings: Settings, membership: Membership | None) -> bool:
    map_large_buffers()
    sys.setswitchinterval(_SWITCH_S)
    _configure_log(settings)
    app = create_app(settings)
    web_socket_limits: dict[str, Any] = {
        "pong_bytes": settings.pong_bytes,
        "unread": app.connections.unread,
        "half_messages": app.half_messages,
        "turn": app.connections.turn,
    }
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level=logging.WARNING,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on the address of a client
        http=cast(Any, partial(HttpProtocol, connections=app.connections)),
        ws=cast(Any, partial(WebSocketProtocol, **web_socket_limits)),
        ws_max_size=settings.body_limit,
        ws_per_message_deflate=False,  # would cost 90 KB per connection, for tiny messages
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    server = _Server(config, app, membership)
    _raise_file_limit()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn re-raises the signal after it has stopped
    try:
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn re-raises SIGINT after it has stopped
            server.run(sockets=None if membership is None else membership.sockets)
    finally:
        if server.started:
            _log.info("stopped", pid=os.getpid())
    return server.started


def _print_place(settings: Settings, sockets: Iterable[socket.socket]) -> None:
    for listener in sockets:
        host, port = listener.getsockname()[:2]
        print(f"Listening on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    print(f"Data in {place_of(settings.database)}", flush=True)


def _raise_file_limit() -> None:
    """Raise the limit of open files as far as the system allows, since each connection is an open file."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Server(uvicorn.Server):
    """A server that prints its address and the location of its data once it listens, or tells its parent, and drains
    waiters on shutdown."""

    def __init__(self, config: uvicorn.Config, app: Gateway, membership: Membership | None) -> None:
        super().__init__(config)
        self._gateway = app
        self._membership = membership
        self._open = contextlib.AsyncExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._exit = asyncio.Event()
        """Set once a signal has asked the server to stop."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._membership is not None:
            await self._join(self._membership)
        await super().startup(sockets)
        gc.freeze()  # imported objects live for ever: exclude them from full collections
        collect_in_small_parts()
        if not self.started:
            return
        settings = self._gateway.settings
        _log.info("started", version=version("yjs-gateway"), pid=os.getpid(), database=place_of(settings.database))
        if self._membership is not None:
            self._membership.serves()
            return
        for server in self.servers:
            _print_place(self._gateway.settings, cast(Sequence[socket.socket], server.sockets))

    async def _join(self, membership: Membership) -> None:
        gateway = self._gateway
        siblings = Siblings(
            membership.index, membership.folder, gateway.settings.processes, lambda: gateway.own_metrics()
        )
        await self._open.enter_async_context(siblings.answering())
        gateway.all_metrics = siblings.exposition

    async def main_loop(self) -> None:
        """Wake once a second, for the date in the headers and the garbage, and when the server is to stop.

        The loop of uvicorn wakes ten times a second: that would be most of the CPU time of an idle gateway.
        """
        self._loop = asyncio.get_running_loop()
        collections = FullCollections(time.monotonic(), time.thread_time(), self.server_state.total_requests)
        while not await self.on_tick(0):
            collections.look(time.monotonic(), time.thread_time(), self.server_state.total_requests)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._exit.wait(), _TICK_S)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._exit.set)  # called by the interpreter, between any two instructions

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._gateway.drain()
        for server in self.servers:
            server.close()
        # uvicorn closes all connections in one turn of the event loop: those that are left.
        async for connection in with_turns(list(self.server_state.connections), _CLOSED_TOGETHER):
            connection.shutdown()
        await super().shutdown(sockets)
        await self._open.aclose()


def _configure_log(settings: Settings) -> None:
    renderer = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    of_others = logging.StreamHandler()  # of uvicorn, such as an address in use
    of_others.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    logging.basicConfig(handlers=[of_others], level=logging.WARNING, force=True)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
