"""The HTTP/1.1 protocol class for uvicorn: httptools parses requests, an exchange answers them.

One request is read at a time. Pipelined requests stay unparsed, in a small buffer, until it is answered. Requests that
never reach the application are answered with a problem too.
"""

import asyncio
import re
import ssl
import urllib.parse
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, cast

import httptools
import structlog
from starlette.types import ASGIApp, Scope
from uvicorn import Config
from uvicorn.server import ServerState

from gateway.asgi.answers import directly
from gateway.asgi.outlets import Outlet
from gateway.asgi.requests import named_headers
from gateway.http.connections import Connections
from gateway.server.http_exchange import BODY_HELD, Exchange
from gateway.server.leaving import is_closed_later
from gateway.server.outlets import outlet_of
from gateway.shared_turn import Pieces
from gateway.wire.headers import COMMON_HEADERS
from gateway.wire.problems import HeadTooLarge, MalformedRequest, Overloaded, Problem, RequestTimeout

_log = structlog.get_logger("gateway.http")

_HEAD_LIMIT = 256 * 2**10
"""The limit on a head; one read from the socket may exceed it."""
_HEADERS_LIMIT = 256
_HEADERS_BYTES = 32 * 2**10
"""The limits on headers, since each part of the application searches them and parses long ones."""
_BESIDE_BODY_BYTES = 32 * 2**10
"""The limit on trailers, and on the extensions of one chunk; one read from the socket may exceed it."""
_HANDSHAKE_HEADERS, _HANDSHAKE_LINE = 100, 8000
"""The limits on a WebSocket handshake: beyond them, `websockets` sends no answer at all."""
_TASK_S = 0.0003
"""What the first step of a request takes that is answered by a task, in seconds."""
_LEAVE_S = 0.00005
"""What a request takes to end whose client has left, in seconds."""
_BRIEF_BYTES = 16 * 2**10
"""The size of question and answer up to which a request is brief."""
_BEHIND_S = 5.0
"""How long pipelined bytes over the limit may wait: while the socket is not read, a disconnect goes unnoticed."""
_LINGER_S = 2.0
"""How long further input is read and dropped: closing a socket with unread bytes would discard the answer."""
_LINGERING_LIMIT = 1000
"""How many connections over the limit linger to read their refusal; any others are closed at once."""
_BLANK_LINE = b"\r\n\r\n"
_ASKS_FOR_WEBSOCKET = re.compile(rb"\r\nupgrade:[^\r\n]*websocket", re.IGNORECASE)


class HttpProtocol(asyncio.Protocol):
    """One connection."""

    __slots__ = (
        "_answer_directly",
        "_app",
        "_app_state",
        "_behind",
        "_beside_body",
        "_body_left",
        "_brief",
        "_client",
        "_config",
        "_connections",
        "_deadline",
        "_exchange",
        "_fed",
        "_head_size",
        "_headers",
        "_lingers",
        "_loop",
        "_parser",
        "_reading",
        "_refused",
        "_scheme",
        "_server",
        "_state",
        "_timer",
        "_transport",
        "_unanswered",
        "_unread",
        "_upgrading",
        "_url",
        "_writable",
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        connections: Connections | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._config = config
        self._state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._connections = connections or Connections()
        self._connections.open = server_state.connections
        self._app: ASGIApp = cast(Any, config.loaded_app)
        self._answer_directly = directly(self._app)
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._server: tuple[str, int] | None = None
        self._client: tuple[str, int] | None = None
        self._scheme = "http"
        self._parser = httptools.HttpRequestParser(self)
        self._reading = True
        self._writable: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        self._refused = False
        self._lingers = False
        """Whether this connection is over the limit and lingers for its client to read the refusal."""
        self._exchange: Exchange | None = None
        """The request that is being read or answered."""
        self._unanswered = False
        """Whether the application was not called for that request yet."""
        self._unread = b""
        """What was received in a turn of the event loop that had no time left for it."""
        self._brief = False
        """Whether the last request was answered from memory, and the next one is expected to be, too."""
        self._behind = bytearray()
        """Pipelined bytes that came after that request."""
        # State of the request that is being read:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._body_left: int | None = None
        """How many bytes of the body are missing; None outside of a body with a Content-Length."""
        self._beside_body = 0
        """How many bytes of a chunked body came since its last content: the parser keeps a whole trailer."""
        self._fed = b""
        """The last bytes that were fed to the parser: a blank line may begin in them."""
        self._upgrading = False

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        self._server, self._client = _address(transport, "sockname"), _address(transport, "peername")
        if isinstance(transport.get_extra_info("ssl_object"), ssl.SSLObject):
            self._scheme = "https"
        if self._connections.full:
            self._refused = True
            self._connections.refused[Overloaded.code] += 1
            transport.write(_answer(Overloaded("there are too many connections; try again in a moment")))
            if self._connections.lingering < _LINGERING_LIMIT:
                self._connections.lingering += 1
                self._lingers = True
                self._end_after_answer()
            else:
                transport.close()
            return
        self._state.connections.add(cast(Any, self))
        self._expect_within(self._connections.limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._exchange is not None:
            self._exchange.close_outlet()  # another connection may soon have the number of the socket
        turn = self._connections.turn
        if turn.is_over():
            turn.run(self._end_later())
        else:
            turn.note(self._end())

    def _end_later(self) -> Pieces:
        yield from ()
        return self._end()

    def _end(self) -> float:
        """Let go of the connection, which is lost; return what is left to the task of its request, in seconds."""
        self._receive_unread()
        self._state.connections.discard(cast(Any, self))
        self._connections.lingering -= self._lingers
        self._refused = True
        self._behind.clear()
        self._stop_timer()
        left = 0.0
        if self._exchange is not None:
            self._exchange.leave()
            left = _LEAVE_S
        self.resume_writing()
        self._parser = cast(Any, None)  # a cycle, which would be left to the garbage collector
        return left

    def eof_received(self) -> bool:
        """No more input: the connection is closed."""
        return is_closed_later(self._transport, self._connections.turn)

    def pause_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.note_buffered()
        self._connections.unread.add(self)
        if self._writable is None:
            self._writable = self._loop.create_future()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait for the client, in the transport and in the application."""
        unsent = 0 if self._exchange is None else self._exchange.unsent
        return self._transport.get_write_buffer_size() + unsent

    def kept_bytes(self) -> int:
        """Return how much memory is kept for that."""
        return self.get_write_buffer_size()

    def abort(self) -> None:
        """Close the connection and drop what waits."""
        self._transport.abort()

    def resume_writing(self) -> None:
        self._connections.unread.remove(self)
        if self._writable is not None:
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None

    def data_received(self, data: bytes) -> None:
        turn = self._connections.turn
        if not self._unread and not turn.is_over():
            self._receive(data)
            turn.note()
        elif self._brief and not self._unread and len(data) <= _BRIEF_BYTES and turn.admits_brief():
            self._receive(data, at_once=True)
        else:
            if not self._unread:
                turn.run(self._receive_later())
            self._unread += data
            if len(self._unread) > BODY_HELD:
                self._regulate()

    def _receive_later(self) -> Pieces:
        yield from ()
        self._receive_unread()
        return 0.0

    def _receive_unread(self) -> None:
        data, self._unread = self._unread, b""
        if data:
            self._receive(data)

    def _receive(self, data: bytes, *, at_once: bool = False) -> None:
        if self._refused:
            return
        exchange = self._exchange
        if exchange is not None and not exchange.more_body:
            self._keep(data)
        else:
            self._read(data, at_once=at_once)
        self._regulate()

    def shutdown(self) -> None:
        """uvicorn: finish the request in flight, then close the connection."""
        if self._exchange is None:
            self._transport.close()
        else:
            self._exchange.keep_alive = False
            self._exchange.attend()

    # Reading

    def _keep(self, data: bytes) -> None:
        """Buffer pipelined bytes until the request before them is answered."""
        self._behind += data
        end = self._behind.find(_BLANK_LINE)
        if end >= 0 and _ASKS_FOR_WEBSOCKET.search(self._behind, 0, end):
            self._refuse(MalformedRequest())  # it is undefined which of the two owns the connection

    def _read(self, data: bytes, *, at_once: bool = False) -> None:
        """Read one request, or a part of it, and buffer what comes after it.

        Args:
            at_once: whether to answer it in this turn of the event loop.
        """
        start = 0
        while start < len(data) and not self._refused:
            exchange = self._exchange
            if exchange is not None and not exchange.more_body:
                self._keep(data[start:])
                break
            left = self._body_left
            end = self._end_of_part(data, start) if left is None else min(len(data), start + left)
            part = data if end - start == len(data) else data[start:end]
            start = end
            begins = False
            if left is None:
                self._fed = part[-3:] if len(part) >= 3 else (self._fed + part)[-3:]
                if exchange is None:
                    begins = not self._head_size
                    self._head_size += len(part)
                else:
                    self._beside_body += len(part)
            try:
                self._parser.feed_data(part)
            except httptools.HttpParserUpgrade as upgrade:
                self._after_upgrade(part[upgrade.args[0] :] + data[start:])
                return
            except httptools.HttpParserError as error:
                self._refuse(error.__context__ if isinstance(error.__context__, Problem) else MalformedRequest())
                return
            if self._exchange is None:
                if self._head_size > _HEAD_LIMIT:
                    self._refuse(HeadTooLarge(f"{_HEAD_LIMIT} bytes for the request line and the headers"))
                elif begins:
                    self._expect_within(self._connections.limits.head_seconds)
            elif self._beside_body > _BESIDE_BODY_BYTES:
                self._refuse(
                    HeadTooLarge(f"{_BESIDE_BODY_BYTES} bytes for trailers, and for the extensions of a chunk")
                )
        if self._unanswered and self._exchange is not None:
            self._unanswered = False
            if self._exchange.more_body:
                self._exchange.call(self._app)
            elif at_once:
                self._answer_now(self._exchange)
            else:  # all that can be read now is read first: answers that are written together wake the client once
                self._loop.call_soon(self._answer, self._exchange)

    def _answer(self, exchange: Exchange) -> None:
        """Answer a request that has been read completely, in this turn of the event loop or in a later one."""
        turn = self._connections.turn
        if not turn.is_over():
            turn.note(self._answer_now(exchange))
        elif self._brief and len(exchange.body) <= _BRIEF_BYTES and turn.admits_brief():
            self._answer_now(exchange)
        else:
            turn.run(self._answer_later(exchange))

    def _answer_later(self, exchange: Exchange) -> Pieces:
        yield from ()
        return self._answer_now(exchange)

    def _answer_now(self, exchange: Exchange) -> float:
        """Answer a request, or have a task answer it; return what is left to the task, in seconds."""
        if not exchange.left and exchange.run_directly(self._answer_directly):
            self._brief = exchange.answered_bytes <= _BRIEF_BYTES and exchange.method != "PATCH"
            return 0.0
        self._brief = False
        exchange.call(self._app)
        return _TASK_S

    def _end_of_part(self, data: bytes, start: int) -> int:
        """Return up to where bytes can be fed to the parser without reading beyond the current request.

        A body ends at its Content-Length; heads and chunked bodies end with a blank line.
        """
        over = len(self._fed)
        at = (self._fed + data[start : start + 3]).find(_BLANK_LINE)
        if at >= 0:
            return start + at + len(_BLANK_LINE) - over
        at = data.find(_BLANK_LINE, start)
        return len(data) if at < 0 else at + len(_BLANK_LINE)

    def _regulate(self) -> None:
        """Pause or resume reading from the socket according to the room left in the buffers."""
        exchange = self._exchange
        if (
            self._reading
            and not self._behind
            and not self._unread
            and (exchange is None or len(exchange.body) <= BODY_HELD)
        ):
            return  # the usual case
        room = len(self._behind) <= self._connections.limits.pipeline_bytes
        wanted = room and len(self._unread) <= BODY_HELD and (exchange is None or len(exchange.body) <= BODY_HELD)
        if wanted != self._reading and not self._transport.is_closing():
            self._reading = wanted
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()
        if not room and self._deadline is None and exchange is not None and not exchange.more_body:
            self._expect_within(_BEHIND_S)

    # Called by the parser

    def on_message_begin(self) -> None:
        if self._exchange is not None:
            raise httptools.HttpParserError("the end of the request before was not where it should be")
        self._url = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._exchange is not None:  # a trailer
            return
        headers = self._headers
        headers.append((name.lower(), value))
        if len(headers) > _HEADERS_LIMIT or self._head_size > _HEADERS_BYTES:
            self._require_small_headers()

    def _require_small_headers(self) -> None:
        """Check the headers of a head that is large or has many of them.

        Raises:
            HeadTooLarge
        """
        size = sum(len(name) + len(value) for name, value in self._headers)
        if len(self._headers) > _HEADERS_LIMIT or size > _HEADERS_BYTES:
            raise HeadTooLarge(f"{_HEADERS_LIMIT} headers of {_HEADERS_BYTES} bytes together")

    def on_headers_complete(self) -> None:
        if self._parser.should_upgrade():
            self._upgrading = True  # the parser has stopped, and left the body unread
            return
        path, query = self._read_target()
        text = path.decode("ascii")
        if "%" in text:
            text = urllib.parse.unquote(text)
        root_path = self._config.root_path
        version = self._parser.get_http_version()
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "server": self._server,
            "client": self._client,
            "scheme": self._scheme,
            "root_path": root_path,
            "headers": self._headers,
            "state": self._app_state.copy(),
            "method": self._parser.get_method().decode("ascii"),
            "path": root_path + text if root_path else text,
            "raw_path": root_path.encode("ascii") + path if root_path else path,
            "query_string": query,
        }
        named = named_headers(scope)
        length = named.get(b"content-length")
        expects_continue = named.get(b"expect", b"").lower() == b"100-continue" and version == "1.1"
        if named.get(b"transfer-encoding", b"chunked").lower() != b"chunked":  # the body would be taken as it is coded
            raise MalformedRequest
        self._body_left = None if length is None else int(length)
        self._beside_body = 0
        self._head_size = 0
        self._deadline = None
        self._exchange = Exchange(
            self,
            scope,
            keep_alive=version == "1.1" and self._parser.should_keep_alive(),
            expects_continue=expects_continue,
        )
        self._unanswered = True

    def on_body(self, body: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        self._beside_body = 0
        if self._body_left is not None:
            self._body_left -= len(body)
        if not exchange.complete:
            exchange.feed(body)

    def on_message_complete(self) -> None:
        if self._upgrading or self._exchange is None:
            return
        self._body_left = None
        self._exchange.finish()
        if self._exchange.complete:
            self._next()

    def _read_target(self) -> tuple[bytes, bytes]:
        """Return the path and the query. The host of an absolute target replaces `Host` (RFC 9112 §3.2.2)."""
        target = httptools.parse_url(self._url)
        if not self._url.startswith(b"/"):
            if (target.schema or b"").lower() not in (b"http", b"https") or target.userinfo or not target.host:
                raise httptools.HttpParserError("the target is not one of this server")
            authority = re.split(rb"[/?#]", self._url.partition(b"//")[2], maxsplit=1)[0]
            self._headers[:] = [(b"host", authority), *(each for each in self._headers if each[0] != b"host")]
        return target.path or b"/", target.query or b""

    # Upgrades

    def _after_upgrade(self, rest: bytes) -> None:
        """Handle an upgrade request: switch to WebSocket, or ignore any other protocol (RFC 9110 §7.8).

        The parser would treat the body of such a request as the other protocol, so the head is parsed again without the
        upgrade.
        """
        if self._transport.is_closing():
            return  # nobody would tell the other protocol that the client has left
        try:
            self._choose_protocol(rest)
        except httptools.HttpParserError:  # from its target
            self._refuse(MalformedRequest())

    def _choose_protocol(self, rest: bytes) -> None:
        self._upgrading = False
        method, url, version = self._parser.get_method(), self._url, self._parser.get_http_version().encode()
        kept = [(name, value) for name, value in self._headers if name not in (b"upgrade", b"connection")]
        options = _tokens(self._headers, b"connection")
        wanted = self._config.ws_protocol_class is not None and _is_handshake(method, version, self._headers)
        if wanted:
            offer = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")]
        else:
            others = b", ".join(option for option in options if option != b"upgrade")
            offer = [(b"connection", others)] if others else []
        if wanted and not url.startswith(b"/"):
            path, query = self._read_target()
            url = path + (b"?" + query if query else b"")
            kept = [(name, value) for name, value in self._headers if name not in (b"upgrade", b"connection")]
        lines = [b"%b: %b\r\n" % header for header in (*kept, *offer)]
        head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, url, version, b"".join(lines))
        if wanted and (len(lines) > _HANDSHAKE_HEADERS or max(len(url), *map(len, lines)) > _HANDSHAKE_LINE):
            limit = f"{_HANDSHAKE_HEADERS} headers, each of {_HANDSHAKE_LINE} bytes, as is the URL, for a WebSocket"
            self._refuse(HeadTooLarge(limit))
            return
        if wanted:
            self._become_websocket(head, rest)
            return
        if method == b"CONNECT":  # the parser treats CONNECT as an upgrade
            self._refuse(MalformedRequest())
            return
        self._parser, self._fed, self._head_size = httptools.HttpRequestParser(self), b"", 0
        self._read(head + rest)

    def _become_websocket(self, head: bytes, rest: bytes) -> None:
        self._state.connections.discard(cast(Any, self))
        self._stop_timer()
        make = cast(Callable[..., asyncio.Protocol], self._config.ws_protocol_class)
        protocol = make(config=self._config, server_state=self._state, app_state=self._app_state)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(head)
        if rest:
            protocol.data_received(rest)
        self._parser = cast(Any, None)  # a cycle

    # Called by the exchange

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        return self._state.default_headers

    def run(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = self._loop.create_task(work)
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)
        return task

    def write(self, data: bytes | memoryview) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def outlet(self) -> Outlet:
        return outlet_of(self._transport, self.write, self._is_empty)

    def _is_empty(self) -> bool:
        transport = self._transport
        return self._writable is None and not transport.is_closing() and transport.get_write_buffer_size() == 0

    def writable(self) -> asyncio.Future[None] | None:
        return self._writable

    def wants_body(self) -> None:
        self._regulate()

    def answered(self) -> None:
        self._state.total_requests += 1
        exchange = self._exchange
        if exchange is None:
            return
        if not exchange.keep_alive:
            if exchange.more_body:
                self._end_after_answer()
            else:
                self._transport.close()
        elif exchange.more_body:  # read and drop the rest of the body
            exchange.body.clear()
            self._regulate()
            self._expect_within(self._connections.limits.head_seconds)
        elif self._behind:
            self._loop.call_soon(self._next)
        else:
            self._next()

    def failed(self, problem: Problem, *, begun: bool) -> None:
        if begun:
            self._transport.close()
        else:
            self._refuse(problem)

    def _next(self) -> None:
        """Read the next pipelined request, or wait for one."""
        self._exchange = None
        if self._refused or self._transport.is_closing():
            return
        if self._behind:
            behind, self._behind = bytes(self._behind), bytearray()
            self._read(behind)
        else:
            self._expect_within(self._connections.limits.keep_alive_seconds)
        self._regulate()

    # Closing

    def _refuse(self, problem: Problem) -> None:
        """Answer the request in flight with a problem and close the connection."""
        self._connections.refused[problem.code] += 1
        _log.debug("connection refused", code=problem.code)
        exchange = self._exchange
        begun = False
        if exchange is not None:
            begun = exchange.started and not exchange.complete
            exchange.leave()
        if begun:
            self._refused = True
            self._behind.clear()
            self._transport.close()
            return
        self._transport.write(_answer(problem))
        self._end_after_answer()

    def _end_after_answer(self) -> None:
        self._refused = True
        self._behind.clear()
        self._stop_timer()
        self._regulate()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._loop.call_later(_LINGER_S, self._transport.abort)

    def _expect_within(self, seconds: float) -> None:
        """Set the deadline after which the connection is closed, replacing the previous one.

        One timer serves many requests: resetting it for each costs more than checking the deadline when it fires.
        """
        self._deadline = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= self._deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._on_time)

    def _stop_timer(self) -> None:
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        self._timer = None
        if self._deadline is None or self._refused:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._on_time)
        elif self._head_size:
            self._refuse(RequestTimeout("the head of the request did not come in time"))
        elif self._exchange is not None and len(self._behind) > self._connections.limits.pipeline_bytes:
            if self._exchange.method == "GET":
                self._refuse(Overloaded("too much was sent behind a request that is not answered yet"))
            else:  # a write ends by itself, and must not be answered before its end is known
                self._deadline = None
        else:
            self._transport.close()


def _is_handshake(method: bytes, version: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a request is a valid WebSocket handshake (RFC 6455 §4.1). A request with a body is not."""
    names = {name for name, _ in headers}
    return (
        method == b"GET"
        and version == b"1.1"
        and b"websocket" in _tokens(headers, b"upgrade")
        and b"sec-websocket-key" in names
        and b"sec-websocket-version" in names
        and b"transfer-encoding" not in names
        and all(value.strip() == b"0" for name, value in headers if name == b"content-length")
    )


def _tokens(headers: list[tuple[bytes, bytes]], wanted: bytes) -> list[bytes]:
    """Return the members of a list-valued header in lower case."""
    lines = [value for name, value in headers if name == wanted]
    return [token.strip().lower() for token in b",".join(lines).split(b",") if token.strip()]


def _address(transport: asyncio.BaseTransport, kind: str) -> tuple[str, int] | None:
    address = transport.get_extra_info(kind)
    return (str(address[0]), int(address[1])) if isinstance(address, list | tuple) else None


def _answer(problem: Problem) -> bytes:
    status, body = HTTPStatus(problem.status), problem.body()
    headers = {
        "Content-Type": "application/problem+json",
        "Content-Length": len(body),
        "Connection": "close",
        **problem.headers,
        **COMMON_HEADERS,
    }
    lines = [f"HTTP/1.1 {status} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body
