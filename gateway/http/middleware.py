"""Middleware for every answer: compression, errors as problems, request metrics, cache and security headers."""

import time
from collections.abc import Awaitable, Callable

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette_compress import CompressMiddleware, add_compress_type

from gateway.asgi.answers import UNSENT, DirectAnswers, encode_headers, send_whole
from gateway.http.request_metrics import RequestMetrics
from gateway.http.responses import CACHE_CONTROL, SAFETY, VARY, send_problem
from gateway.http.waits import OpenStream, OpenTurnStream, WaitForChange
from gateway.pace import next_slice
from gateway.wire.problems import Overloaded, Problem, problem_from_storage
from gateway.workers.pool import client_of_request
from storage import StorageError

_log = structlog.get_logger("gateway.http")

COMPRESS_FROM_BYTES = 1025
"""Answers of at least this many bytes are compressed as the client accepts."""
_COMPRESSED_METHODS = ("GET", "POST", "HEAD")
_BUSY = 0.5
"""How full the write queue is when clients are asked to back off, from 0 to 1."""
_BACKOFF = (b"backoff", b"2")
_ADDED = [VARY, CACHE_CONTROL, *SAFETY]
_ADDED_LINES, _BACKOFF_LINES = encode_headers(_ADDED), encode_headers([_BACKOFF])
_ABANDONED = 499
"""What is counted if the client disconnected before an answer began."""
_PIECE_BYTES, _PLAIN_PIECE_BYTES = 32 * 2**10, 256 * 2**10
"""How much of an answer is compressed, or sent as it is, per slice: about a millisecond of work."""


def compressed(app: ASGIApp) -> ASGIApp:
    """Wrap `app` to compress answers as the client accepts (zstd, br, gzip), except the short receipts of writes."""
    add_compress_type("application/octet-stream")
    add_compress_type("application/problem+json")
    # Brotli of quality 4 collects many pieces and then takes 5 ms for all of them.
    compressor = CompressMiddleware(_in_pieces(app), minimum_size=COMPRESS_FROM_BYTES, zstd_level=3, brotli_quality=3)

    def choose(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        short = scope["type"] != "http" or scope["method"] not in _COMPRESSED_METHODS or _wants_events(scope)
        return (app if short else compressor)(scope, receive, send)

    return choose


def _wants_events(scope: Scope) -> bool:
    """Whether the answer may be an event stream: events are short, and a compressor per stream needs much memory."""
    return any(name == b"accept" and b"text/event-stream" in value for name, value in scope["headers"])


def _in_pieces(app: ASGIApp) -> ASGIApp:
    """Wrap `app` to send large answers in pieces, one per slice: compressing a whole one takes seconds, and copying it
    to the connection several milliseconds.

    This also limits what is buffered for a slow client to a piece instead of the whole answer.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        compresses = any(name == b"accept-encoding" and value for name, value in scope["headers"])
        piece = _PIECE_BYTES if compresses else _PLAIN_PIECE_BYTES

        async def send_in_pieces(message: Message) -> None:
            body: bytes = message.get("body", b"")
            if len(body) <= piece:
                await send(message)
                return
            behind = scope.get(UNSENT, 0)
            for start in range(0, len(body), piece):
                end = start + piece
                more = end < len(body) or message.get("more_body", False)
                scope[UNSENT] = behind + max(0, len(body) - end)
                await send({"type": "http.response.body", "body": body[start:end], "more_body": more})
                await next_slice()

        await app(scope, receive, send_in_pieces)

    return answer


class Boundary:
    """Turns every failure into a problem and counts requests.

    `load` returns how full the write queue is, from 0 to 1; above one half, answers ask clients to back off.
    """

    def __init__(self, app: ASGIApp, metrics: RequestMetrics, load: Callable[[], float]) -> None:
        self._app = app
        self._metrics = metrics
        self._load = load

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await self._run(self._app, scope, receive, send, time.perf_counter())

    async def _run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, started: float) -> None:
        status = _ABANDONED

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._complete(message)
            await send(message)

        client_of_request.set(receive)
        try:
            await app(scope, receive, send_counted)
        except ClientDisconnect:
            pass
        except (WaitForChange, OpenStream, OpenTurnStream):
            status = 0  # not answered yet
            raise
        except Exception as error:
            if status != _ABANDONED:  # the answer is partly sent: only closing the connection tells the client
                raise
            try:
                await self._send_problem(_problem(error, scope), send_counted)
            finally:
                _forget_frames(error)
        finally:
            if status:
                self._count(scope, status, started)

    async def _send_problem(self, problem: Problem, send: Send) -> None:
        self._metrics.problems[problem.code] += 1
        await send_problem(problem, send)

    async def send_answer(
        self, scope: Scope, send: Send, started: float, status: int, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> None:
        """Send a whole answer that did not come through this middleware as if it had, and count it.

        Args:
            started: when the request came, by `time.perf_counter`.
            headers: without those of every answer.
        """
        headers += _ADDED
        if self._load() > _BUSY:
            headers.append(_BACKOFF)
        try:
            await send_whole(send, status, headers, body)
        finally:
            self._count(scope, status, started)

    def answer(
        self, scope: Scope, server: DirectAnswers, started: float, status: int, lines: bytes, body: bytes
    ) -> bool:
        """Answer a request that was taken on directly as `send_answer` does; False: that must be used.

        Args:
            lines: as of `DirectAnswers.answer_encoded`, without the headers of every answer.
        """
        added = _ADDED_LINES + _BACKOFF_LINES if self._load() > _BUSY else _ADDED_LINES
        if not server.answer_encoded(status, lines + added, body):
            return False
        self._count(scope, status, started)
        return True

    async def send_failure(
        self, scope: Scope, receive: Receive, send: Send, started: float, error: BaseException
    ) -> None:
        """Answer a failure that did not come through this middleware as if it had, and count it."""

        async def fail(scope: Scope, receive: Receive, send: Send) -> None:
            raise error

        try:
            await self._run(fail, scope, receive, send, started)
        finally:
            _forget_frames(error)  # that of `fail` holds the error

    def _count(self, scope: Scope, status: int, started: float) -> None:
        route = scope.get("gateway.route", "none")
        self._metrics.count(scope["method"], route, status, time.perf_counter() - started)

    def _complete(self, message: Message) -> None:
        """Add the headers of every answer; weaken the entity tag of a compressed answer, as proxies do."""
        headers: list[tuple[bytes, bytes]] = list(message["headers"])
        names = dict(headers)
        if b"content-encoding" in names:
            headers = [(name, b"W/" + value if name == b"etag" else value) for name, value in headers]
        if b"vary" in names:  # set by the compressor, which names fewer headers
            headers = [header for header in headers if header[0] != b"vary"]
        headers.append(VARY)
        if b"cache-control" not in names:
            headers.append(CACHE_CONTROL)
        if b"x-content-type-options" not in names:
            headers += SAFETY
        if self._load() > _BUSY:
            headers.append(_BACKOFF)
        message["headers"] = headers


def _forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of an error and of those that led to it.

    A frame that holds such an error, or the future that raised it, would be kept by the error itself, and the body of
    the request with it, until the next full garbage collection.
    """
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.with_traceback(None)
            waiting += [each.__cause__, each.__context__]


def _problem(error: Exception, scope: Scope) -> Problem:
    """Return the problem that answers a failure, which is logged unless it is the client's."""
    reason = error.__cause__ if isinstance(error, Problem) else error
    if isinstance(reason, StorageError):
        _log.warning("storage failed", method=scope["method"], path=scope["path"], reason=str(reason))
        return error if isinstance(error, Problem) else problem_from_storage(reason)
    if isinstance(error, Problem):
        return error
    if isinstance(error, MemoryError):  # its traceback says nothing, and would take more
        _log.error("out of memory", method=scope["method"], path=scope["path"])
        return Overloaded("the gateway is out of memory; try again in a moment", certain=False)
    _log.error("request failed", method=scope["method"], path=scope["path"], exc_info=error)
    return Problem("the failure was logged; please report it")
