"""Fast path for the most frequent write: an update of a file that is open, taken in before the application.

It covers a PATCH without conditions whose body is here, by somebody who may write to the file. It answers with the
receipt of what was stored, or with the reason why an update that was taken in could not be stored. Every other request
is passed on.
"""

import asyncio
import functools
import time
from collections.abc import Awaitable
from typing import NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.access import OPEN, Access
from gateway.access.audit import Audit
from gateway.api.receipts import FILE_PATH, encoded_receipt, receipt_answer
from gateway.asgi.answers import BODY_IS_HERE, DirectAnswers, directly
from gateway.asgi.requests import Replay, named_headers
from gateway.files.store import Files, Written, written_by
from gateway.http.middleware import Boundary
from gateway.wire.media_types import OCTETS
from gateway.wire.values import path_fault, valid_project_id
from storage import AppendDone, Committed, StorageError, VersionConflict, resolving

_TYPES = (None, OCTETS.encode())
_PASSED_ON = frozenset(
    (
        b"content-encoding",
        b"idempotency-key",
        b"if-match",
        b"if-none-match",
        b"if-unmodified-since",
        b"x-author",
        b"x-incarnation",
    )
)
"""Headers that the handler must look at."""
_TRIED = "gateway.direct_appends.tried"
"""The scope key of an update that could not be taken in without a task: the document is not asked again."""


def may_be_appended(scope: Scope) -> bool:
    """Whether a request is one of those that `DirectAppends` answers directly if the file can take the update in."""
    if scope["method"] != "PATCH" or scope["query_string"] or scope.get("root_path"):
        return False
    named = named_headers(scope)
    return _PASSED_ON.isdisjoint(named) and named.get(b"content-type") in _TYPES


class _Target(NamedTuple):
    """What an update is for, and who sends it."""

    project: str
    path: str
    access: Access


def _open_target(location: str) -> _Target | None:
    """Return what an update at a location is for, where everybody may do everything; None: it must be passed on."""
    parts = location.split("/", 5)
    if len(parts) < 6 or parts[4] != "files" or parts[1] != "api" or parts[2] != "projects" or parts[0]:
        return None
    project, path = parts[3], parts[5]
    if not valid_project_id(project):
        return None
    if "\ufffd" in path or path_fault(path) is not None:  # U+FFFD may stand for bytes that are not UTF-8
        return None
    return _Target(project, path, OPEN)


_known_open_target = functools.lru_cache(4096)(_open_target)
_REMEMBERED_LENGTH = 300
"""The longest location that is remembered: the memory has a bound in bytes."""


def _target(scope: Scope) -> _Target | None:
    """Return what a plain update is for; None: it must be passed on."""
    location: str = scope["path"]
    target = (_known_open_target if len(location) <= _REMEMBERED_LENGTH else _open_target)(location)
    access: Access | None = scope.get("gateway.access", OPEN)
    if target is None or access is OPEN:
        return target
    view = access.view(target.project) if access is not None and access.counts else None
    if access is None or view is None or not view.may("write") or not view.sees(target.path):
        return None
    return target._replace(access=access)


class DirectAppends:
    """ASGI middleware in front of the application, of which `boundary` is the outermost part that answers a PATCH."""

    def __init__(self, app: ASGIApp, files: Files, boundary: Boundary, *, body_limit: int) -> None:
        self._app = app
        self._answer_directly = directly(app)
        self._files = files
        self._boundary = boundary
        self._body_limit = body_limit

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if BODY_IS_HERE in scope and _TRIED not in scope and may_be_appended(scope):
            target = _target(scope)
            if target is not None:
                return self._append(target, scope, receive, send)
        return self._app(scope, receive, send)

    def answer_directly(self, scope: Scope, body: bytes, server: DirectAnswers) -> bool:
        """See `AnswerDirectly`: no task waits for the commit of an update that is taken in here.

        Every PATCH that comes here is one that `may_be_appended`.
        """
        if scope["method"] != "PATCH":
            return self._answer_directly(scope, body, server)
        started = time.perf_counter()
        target = _target(scope)
        if target is None:
            return False
        done = functools.partial(self._stored, target, scope, server, started)
        try:
            if self._take_in(target, scope, body, done):
                return True
        except Exception as error:
            server.call(self._failure(started, error))
            return True
        scope[_TRIED] = True
        return False

    async def _append(self, target: _Target, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        message = await receive()
        queued: asyncio.Future[tuple[Committed, ...]] = asyncio.get_running_loop().create_future()
        taken_in = False
        if message["type"] == "http.request" and not message.get("more_body"):
            try:
                taken_in = self._take_in(target, scope, message.get("body", b""), resolving(queued))
            except Exception as error:
                await self._boundary.send_failure(scope, receive, send, started, error)
                return
        if not taken_in:
            await self._app(scope, Replay(message, receive), send)
            return
        try:
            (committed,) = await queued
        except VersionConflict:  # another gateway has stored a version meanwhile
            await self._app(scope, Replay(message, receive), send)
            return
        except (Exception, asyncio.CancelledError) as error:
            await self._boundary.send_failure(scope, receive, send, started, error)
            return
        self._note(target, scope, committed)
        await self._boundary.send_answer(scope, send, started, *receipt_answer(written_by(committed)))

    def _take_in(self, target: _Target, scope: Scope, update: bytes, done: AppendDone) -> bool:
        """Queue an update; False: the application must decide."""
        if len(update) > self._body_limit:
            return False
        scope["gateway.route"] = FILE_PATH
        return self._files.append_at_once(target.project, target.path, update, target.access.author, done)

    def _stored(
        self,
        target: _Target,
        scope: Scope,
        server: DirectAnswers,
        started: float,
        result: tuple[Committed, ...] | StorageError,
    ) -> None:
        """Answer an update that was taken on without a task, once it is durable or has failed."""
        try:
            if not isinstance(result, StorageError):
                (committed,) = result
                self._note(target, scope, committed)
                written = written_by(committed)
                if not self._boundary.answer(scope, server, started, *encoded_receipt(written)):
                    server.call(self._receipt(started, written))
            elif isinstance(result, VersionConflict):  # another gateway has stored a version meanwhile
                scope[_TRIED] = True
                server.call(self._app)
            else:
                server.call(self._failure(started, result))
        except Exception as error:  # nobody else would answer: the client would wait for ever
            server.call(self._failure(started, error))

    def _receipt(self, started: float, written: Written) -> ASGIApp:
        """Return an application that answers with a receipt."""

        def send_receipt(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            return self._boundary.send_answer(scope, send, started, *receipt_answer(written))

        return send_receipt

    def _failure(self, started: float, error: BaseException) -> ASGIApp:
        """Return an application that answers with a failure."""

        def fail(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            return self._boundary.send_failure(scope, receive, send, started, error)

        return fail

    def _note(self, target: _Target, scope: Scope, committed: Committed) -> None:
        audit: Audit | None = scope.get("gateway.audit")
        if audit is not None:
            version = committed.head.version
            audit.note("write", scope.get("gateway.access"), project=target.project, path=target.path, version=version)
