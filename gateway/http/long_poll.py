"""Long polls: requests with `wait=SECONDS` that wait for a change.

While a request waits, only its connection, its waiter and one object of this module are kept in memory: it has no task
if the server can hold requests. When something has changed or its time is up, the request is run through the
application again, with the remaining time, unless an identical one was just answered: then it gets the same answer.
"""

import asyncio
import random
from collections.abc import Awaitable, Coroutine
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.access.access import OPEN, Access
from gateway.access.grants import View
from gateway.asgi.answers import DirectAnswers, PreparedAnswer, holder_of, send_whole, server_of
from gateway.asgi.requests import NAMED_HEADERS
from gateway.changes.feed import Feed
from gateway.http.bodies import WAITS
from gateway.http.event_stream import EventStream, EventStreams, describe_stream, refuse_stream
from gateway.http.request_metrics import RequestMetrics
from gateway.http.responses import JSON_HEADERS, send_problem
from gateway.http.turn_stream import TurnStream, TurnStreams
from gateway.http.waits import SECONDS_LEFT, OpenStream, OpenTurnStream, WaitForChange
from gateway.presence.presence import Presence
from gateway.watch.answers import Poll, RememberedAnswers
from gateway.watch.project import Waiter
from gateway.watch.waiters import TooManyWaiters, Waiters
from gateway.wire.problems import Overloaded

_log = structlog.get_logger("gateway.http")

_FEED_ROUTE = "/api/projects/{project}/changes"

_MOST_TURNS = 3
"""How often a poll waits for the answer to an identical one before it is answered by itself."""
_FOLLOWER = "gateway.follower"
"""Key of the scope: the project and the client that follow an event stream."""
_CUT_S = 54.8
"""The longest wait in seconds. Proxies end a silent request after 60 s, and a deadline may be a tick late."""
_CUT_JITTER = 0.1


class LongPolls:
    """ASGI middleware in front of the application: handles long polls and event streams."""

    def __init__(
        self,
        app: ASGIApp,
        waiters: Waiters,
        feed: Feed,
        presence: Presence,
        metrics: RequestMetrics,
        *,
        heartbeat: float,
        turns: TurnStreams,
    ) -> None:
        self.app = app
        self.waiters = waiters
        self.metrics = metrics
        self._streams = EventStreams(waiters, feed, presence, heartbeat)
        self._turns = turns
        self._prepared = PreparedAnswer(200, [], b"")
        """The answer that was sent last to a poll that has waited."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http" or not _may_wait(scope):
            return self.app(scope, receive, send)
        return self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        pending = await self._ask(scope, receive, send)
        if pending is None:
            return
        if (waits := scope.get(WAITS)) is not None:
            waits()
        name, client = scope.pop(_FOLLOWER, ("", None))
        try:
            with self.waiters.connected.held(name, client):
                while (await receive())["type"] != "http.disconnect":
                    pass  # `http.disconnect` arrives when the client disconnects or the answer is complete
        finally:
            self.waiters.leave(pending.project, pending.question_bytes)
            await pending.end()

    async def _ask(
        self, scope: Scope, receive: Receive, send: Send
    ) -> "_PendingRequest | EventStream | TurnStream | None":
        """Run a request through the application.

        Returns:
            The pending request, which has been counted as a waiter, or None if the request was answered or is held by
            the server.
        """
        try:
            await self.app(scope, receive, send)
            return None
        except (WaitForChange, OpenStream, OpenTurnStream) as raised:
            asked = raised.with_traceback(None)  # the traceback would keep the handlers alive while the request waits
        if not isinstance(asked, WaitForChange) and scope["method"] == "HEAD":
            await describe_stream(send, asked.events.headers if isinstance(asked, OpenTurnStream) else ())
            return None
        try:
            self.waiters.enter(asked.project, len(asked.body) if isinstance(asked, WaitForChange) else 0)
        except TooManyWaiters:
            await self._refuse(asked, scope, send)
            return None
        scope.pop("path_params", None)  # restore the original scope; the router sets them again
        scope.pop(NAMED_HEADERS, None)
        if isinstance(asked, WaitForChange):
            server = holder_of(receive, send)
            pending = _PendingRequest(self, asked, scope, send, server)
            return None if server is not None and server.hold(pending.release) else pending
        if isinstance(asked, OpenTurnStream):
            holder = asyncio.current_task()
            assert holder is not None
            return TurnStream(self._turns, asked, scope.get("gateway.access", OPEN), send, holder)
        scope[_FOLLOWER] = asked.project_name, asked.client
        return EventStream(self._streams, asked, scope.get("gateway.access", OPEN), send)

    async def _refuse(self, asked: WaitForChange | OpenStream | OpenTurnStream, scope: Scope, send: Send) -> None:
        if isinstance(asked, OpenStream) or (isinstance(asked, OpenTurnStream) and asked.events.ends_early):
            await refuse_stream(send)
            return
        problem = Overloaded("too many requests are waiting; poll, or try again in a moment")
        await send_problem(problem, send)
        self.metrics.count_problem(scope["method"], scope["gateway.route"], problem)

    def prepared(self, answer: bytes, cursor: str) -> PreparedAnswer:
        """Return a cached answer of a project with this cursor, as all polls that get it are sent it."""
        if self._prepared.body is not answer:
            length = (b"content-length", b"%d" % len(answer))
            headers = [*JSON_HEADERS, length, (b"etag", b'"%b"' % cursor.encode())]
            self._prepared = PreparedAnswer(200, headers, answer)
        return self._prepared


def _may_wait(scope: Scope) -> bool:
    """Whether a request can wait. A request with an agent's output cannot, since its body is unbounded."""
    method = scope["method"]
    return method in ("GET", "HEAD") or (method == "POST" and not scope["path"].endswith("/output"))


def _cut(seconds: float) -> float:
    """Return how long a request actually waits, in seconds: capped, with jitter."""
    return min(seconds, _CUT_S * (1 - random.random() * _CUT_JITTER))


class _Receiver:
    """The ASGI `receive` of one run through the application: the body, then only the client's disconnection."""

    __slots__ = ("_asked", "_pending")

    def __init__(self, pending: "_PendingRequest") -> None:
        self._pending = pending
        self._asked = False

    async def __call__(self) -> Message:
        if not self._asked:
            self._asked = True
            return self._pending.request()
        await self._pending.left()
        return {"type": "http.disconnect"}


class _PendingRequest:
    """A request while it waits, and then while it is answered."""

    __slots__ = (
        "_access",
        "_ahead_in",
        "_answer",
        "_body",
        "_deadline",
        "_ended",
        "_holder",
        "_left",
        "_poll",
        "_polls",
        "_scope",
        "_send",
        "_server",
        "_turns",
        "_waiter",
        "project",
    )

    def __init__(
        self, polls: LongPolls, asked: WaitForChange, scope: Scope, send: Send, server: DirectAnswers | None
    ) -> None:
        self._polls = polls
        self._server = server
        self._holder = None if server is not None else asyncio.current_task()
        """The task of the request, where the server does not hold the request."""
        self.project = asked.project
        """The project in which the request is counted as a waiter."""
        self._scope = scope
        self._poll = _poll_of(scope)
        self._body = asked.body
        self._send = send
        self._waiter: Waiter | None = None
        self._answer: asyncio.Task[None] | None = None
        self._ended = False
        self._ahead_in: RememberedAnswers | None = None
        """While identical requests wait for its answer: where they do."""
        self._turns = 0
        """How often it has waited for the answer to an identical poll."""
        self._left: asyncio.Event | None = None
        """Set when the client has disconnected."""
        self._access: Access = scope.get("gateway.access", OPEN)
        self._access.watch(self._expire)
        self._deadline = asyncio.get_running_loop().time() + _cut(asked.seconds)
        self._wait(asked)

    @property
    def question_bytes(self) -> int:
        """The number of bytes kept of the body."""
        return len(self._body)

    def _wait(self, asked: WaitForChange) -> None:
        """Wait from the position at which the handler looked."""
        if asked.project is not self.project:
            self._polls.waiters.change_place(self.project, asked.project)
            self.project = asked.project
        # Stale: something changed while the handler looked.
        stale = asked.project.forgotten or asked.project.head is not asked.as_of or asked.moved()
        if stale or not self._access.counts:
            self._wake()
            return
        self._turns = 0
        left = self._deadline - asyncio.get_running_loop().time()
        self._waiter = self._polls.waiters.add(asked.project, asked.filter, left, self._wake)

    def _expire(self) -> None:
        """Wake the request so that the application refuses it: its credential is no longer valid."""
        if self._waiter is not None:
            self._polls.waiters.forget(self._waiter)
            self._wake()

    def _wake(self) -> None:
        self._waiter = None
        if self._ended or self._answer_at_once():
            return
        answers, poll = self.project.answers, self._poll
        if poll is not None and self._turns < _MOST_TURNS and self._left_seconds() > 0 and self._access.counts:
            if not answers.begin_poll(poll):
                self._turns += 1
                answers.after_poll(poll, self._wake)
                return
            self._ahead_in = answers
        self._answer = self._start(self._walk())
        self._answer.add_done_callback(self._let_others_follow)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(work) if self._server is None else self._server.start(work)

    def _let_others_follow(self, _: object = None) -> None:
        """Wake the identical requests that wait for the answer of this one."""
        answers, self._ahead_in = self._ahead_in, None
        if answers is not None and self._poll is not None:
            self._polls.waiters.wake_later(self.project, answers.end_poll(self._poll))

    async def _send_ahead(self, message: Message) -> None:
        """The ASGI `send` while others wait for the answer, which is made now: they do not wait until it is sent."""
        self._let_others_follow()
        await self._send(message)

    def _left_seconds(self) -> float:
        """Return for how long the request may still wait."""
        return 0.0 if self._polls.waiters.draining else self._deadline - asyncio.get_running_loop().time()

    async def _walk(self) -> None:
        """Run the request through the application, which answers it or lets it wait again."""
        if self._access.counts and await self._send_remembered():
            return
        scope = {**self._scope, SECONDS_LEFT: self._left_seconds()}
        try:
            await self._polls.app(scope, _Receiver(self), self._send if self._ahead_in is None else self._send_ahead)
        except WaitForChange as asked:
            if not self._ended:
                self._wait(asked)
        except OSError:
            _log.debug("a client left while it was answered", path=self._scope["path"])
        except Exception:
            if self._holder is not None:
                self._holder.cancel()  # the answer is partly sent: `end` re-raises, which closes the connection
            raise

    def request(self) -> Message:
        """Return the body as an ASGI message."""
        return {"type": "http.request", "body": self._body}

    async def left(self) -> None:
        """Wait until the client has disconnected."""
        if not self._ended:
            self._left = self._left or asyncio.Event()
            await self._left.wait()

    def _answer_at_once(self) -> bool:
        """Answer as an identical request just was, without a task. Return False if that is not possible."""
        server = self._server or server_of(self._send)
        answer = self._remembered() if server is not None and self._access.counts else None
        if server is None or answer is None or not server.answer_prepared(answer):
            return False
        self._polls.metrics.count("GET", _FEED_ROUTE, 200, 0.0)
        return True

    async def _send_remembered(self) -> bool:
        """Send the answer that an identical request just got. Return False if there is none."""
        answer = self._remembered()
        if answer is None:
            return False
        await send_whole(self._send, answer.status, answer.headers, answer.body)
        self._polls.metrics.count("GET", _FEED_ROUTE, 200, 0.0)
        return True

    def _remembered(self) -> PreparedAnswer | None:
        """Return the answer that an identical request just got, if there was one."""
        answers = self.project.answers
        answer = None if self._poll is None else answers.poll(self._poll)
        return None if answer is None else self._polls.prepared(answer, answers.cursor)

    def release(self) -> None:
        """Release a request that the server holds, after it was answered or the client disconnected."""
        self._polls.waiters.leave(self.project, self.question_bytes)
        self._finish()

    async def end(self) -> None:
        """Release the request after it was answered or the client disconnected, and wait for the end of its walk."""
        self._finish()
        if self._answer is not None:
            await self._answer

    def _finish(self) -> None:
        self._ended = True
        if self._left is not None:
            self._left.set()
        self._access.unwatch(self._expire)
        waiter, self._waiter = self._waiter, None  # breaks a reference cycle that would outlive the connection
        if waiter is not None:
            self._polls.waiters.forget(waiter)


def _poll_of(scope: Scope) -> Poll | None:
    """Return the question of a poll of the feed, to which identical ones get the same answer; None for others."""
    if scope.get("gateway.route") != _FEED_ROUTE or any(name == b"if-none-match" for name, _ in scope["headers"]):
        return None
    view: View = scope["gateway.view"]
    return Poll(scope["query_string"], view.sight)
