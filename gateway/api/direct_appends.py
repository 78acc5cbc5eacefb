"""Fast path for the most frequent write: an update of a file that is open, taken in before the application.

It covers a PATCH without conditions whose body is here, by somebody who may write to the file. It answers with the
receipt of what was stored, or with the reason why an update that was taken in could not be stored. Every other request
is passed on.
"""

import asyncio
import time
from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.audit import Audit
from gateway.access.guard import OPEN, Access
from gateway.api.receipts import FILE_PATH, receipt_answer
from gateway.asgi import BODY_IS_HERE, Replay, directly, named_headers
from gateway.files.store import Files, written_by
from gateway.http.middleware import Boundary
from gateway.wire.media_types import OCTETS
from gateway.wire.values import path_fault, valid_project_id
from storage import VersionConflict

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


class DirectAppends:
    """ASGI middleware in front of the application, of which `boundary` is the outermost part that answers a PATCH."""

    def __init__(self, app: ASGIApp, files: Files, boundary: Boundary, *, body_limit: int) -> None:
        self._app = app
        self.answer_directly = directly(app)
        """See `AnswerDirectly`: an append waits for its commit."""
        self._files = files
        self._boundary = boundary
        self._body_limit = body_limit

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope.get("method") == "PATCH" and BODY_IS_HERE in scope:
            found = self._find(scope)
            if found is not None:
                return self._append(*found, scope, receive, send)
        return self._app(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[str, str, Access] | None:
        """Return the project and the path of a plain update of a file, and whose it is; None: it must be passed on."""
        parts = scope["path"].split("/", 5)
        if len(parts) < 6 or parts[4] != "files" or parts[1] != "api" or parts[2] != "projects" or parts[0]:
            return None
        named = named_headers(scope)
        if not _PASSED_ON.isdisjoint(named) or named.get(b"content-type") not in _TYPES:
            return None
        project, path = parts[3], parts[5]
        if scope["query_string"] or scope.get("root_path") or not valid_project_id(project):
            return None
        if "\ufffd" in path or path_fault(path) is not None:  # U+FFFD may stand for bytes that are not UTF-8
            return None
        access: Access | None = scope.get("gateway.access", OPEN)
        if access is OPEN:
            return project, path, OPEN
        view = access.view(project) if access is not None and access.counts else None
        if access is None or view is None or not view.may("write") or not view.sees(path):
            return None
        return project, path, access

    async def _append(
        self, project: str, path: str, access: Access, scope: Scope, receive: Receive, send: Send
    ) -> None:
        started = time.perf_counter()
        message = await receive()
        update = message.get("body", b"")
        queued = None
        if message["type"] == "http.request" and not message.get("more_body") and len(update) <= self._body_limit:
            scope["gateway.route"] = FILE_PATH
            try:
                queued = self._files.append_at_once(project, path, update, access.author)
            except Exception as error:
                await self._boundary.send_failure(scope, receive, send, started, error)
                return
        if queued is None:
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
        head = committed.head
        audit: Audit | None = scope.get("gateway.audit")
        if audit is not None:
            audit.note("write", scope.get("gateway.access"), project=project, path=path, version=head.version)
        await self._boundary.send_answer(scope, send, started, *receipt_answer(written_by(committed)))
