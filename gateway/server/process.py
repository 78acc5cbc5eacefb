"""The gateway process: uvicorn with our options, logging, and a shutdown that loses nothing."""

import contextlib
import gc
import logging
import resource
import signal
import sys
from functools import partial
from typing import Any, cast

import structlog
import uvicorn

from gateway.app import Gateway, create_app
from gateway.maintenance.memory import map_large_buffers
from gateway.server.http_protocol import HttpProtocol
from gateway.server.websocket_protocol import WebSocketProtocol
from gateway.settings import Settings
from storage.opening import place_of

_COLLECT_EVERY = 5_000
"""The allocation threshold of the youngest garbage-collector generation. Little here is cyclic; with Python's default
of 700, a busy gateway spends a twentieth of its time in the collector."""


def run_server(settings: Settings) -> bool:
    """Serve until stopped; return whether the server started at all."""
    map_large_buffers()
    _configure_log(settings)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on the address of a client
        http=cast(Any, partial(HttpProtocol, connections=app.connections)),
        ws=cast(Any, partial(WebSocketProtocol, pong_bytes=settings.pong_bytes)),
        ws_max_size=settings.body_limit,
        ws_per_message_deflate=False,  # would cost 90 KB per connection, for tiny messages
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    server = _Server(config, app)
    _raise_file_limit()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn re-raises the signal after it has stopped
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn re-raises SIGINT after it has stopped
        server.run()
    return server.started


def _raise_file_limit() -> None:
    """Raise the limit of open files as far as the system allows, since each connection is an open file."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Server(uvicorn.Server):
    """A server that prints its address and the location of its data once it listens, and drains waiters on shutdown."""

    def __init__(self, config: uvicorn.Config, app: Gateway) -> None:
        super().__init__(config)
        self._gateway = app

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup()
        gc.collect()
        gc.freeze()  # imported objects live for ever: exclude them from full collections
        gc.set_threshold(_COLLECT_EVERY, 20, 20)
        for server in self.servers if self.started else []:
            for listener in server.sockets:
                host, port = listener.getsockname()[:2]
                print(f"Listening on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
        if self.started:
            print(f"Data in {place_of(self._gateway.settings.database)}", flush=True)

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self._gateway.drain()
        await super().shutdown()


def _configure_log(settings: Settings) -> None:
    renderer = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
