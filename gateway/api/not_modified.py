"""Fast path for what is asked again: answered from memory, before the application and without a database query.

It covers a GET of a file or a turn with the tag of the newest state, a status question whose files are all in memory at
the versions that the client has, and a GET of a whole document or of an increment that was asked for before in the same
state of the file. Every other request is passed on.
"""

import re
import time
from collections.abc import Awaitable

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.asgi.answers import DirectAnswers, encode_headers, send_whole
from gateway.asgi.requests import Replay, named_headers
from gateway.files.sent_updates import SentUpdate, SentUpdates
from gateway.http.middleware import COMPRESS_FROM_BYTES, Boundary
from gateway.http.permission import view_in
from gateway.http.request_metrics import RequestMetrics
from gateway.http.requests import accepted_form
from gateway.http.responses import COMMON, JSON_HEADERS
from gateway.watch.hub import Hub
from gateway.watch.project import KnownFile, KnownTurn, NotModified, WatchedProject
from gateway.wire.changes import StatusQuestion
from gateway.wire.headers import file_headers
from gateway.wire.media_types import OCTETS
from gateway.wire.tags import Form, entity_tag, turn_tag
from gateway.wire.values import are_paths

_PREFIX = "/api/projects/"
_FILE_ROUTE = "/api/projects/{project}/files/{path:file}"
_STATUS_ROUTE = "/api/projects/{project}/files/status"
_TURN_ROUTE = "/api/projects/{project}/sessions/{session}/turns/{turn}"
_TURN_STATUS_ROUTE = _TURN_ROUTE + "/status"
_STATUS_PATH = re.compile("/api/projects/[^/]+/files/status").fullmatch
_SINCE = b"from_version="
_VERSION = re.compile(rb"from_version=([1-9][0-9]{0,14})").fullmatch
_ASKED = "gateway.not_modified.asked"
"""The scope key of a request that could not be answered directly: memory is not asked again."""
_JSON_LINES = encode_headers(JSON_HEADERS)


def may_be_unchanged(scope: Scope) -> bool:
    """Whether a request is one of those that `NotModifiedPolls` can answer directly."""
    if scope["method"] == "GET":
        query: bytes = scope["query_string"]
        return "/files/" in scope["path"] if query.startswith(_SINCE) else not query and _is_of_a_state(scope)
    return scope["method"] == "POST" and not scope["query_string"] and _STATUS_PATH(scope["path"]) is not None


def _is_of_a_state(scope: Scope) -> bool:
    return b"if-none-match" in named_headers(scope) or "/files/" in scope["path"]


class NotModifiedPolls:
    """ASGI middleware in front of the application."""

    def __init__(
        self,
        app: ASGIApp,
        hub: Hub,
        sent: SentUpdates,
        boundary: Boundary,
        metrics: RequestMetrics,
        *,
        paths_limit: int,
    ) -> None:
        self._app = app
        self._sent = sent
        self._boundary = boundary
        self._hub = hub
        self._metrics = metrics
        self._paths_limit = paths_limit

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        method = scope.get("method")
        asks = (method == "GET" or method == "POST") and _ASKED not in scope
        if asks and scope["path"].startswith(_PREFIX) and self._hub.fresh:  # otherwise the cached state may be stale
            started = time.perf_counter()
            query: bytes = scope["query_string"]
            if method == "GET":
                unchanged = None if query else self._not_modified(scope)
                if unchanged is not None:
                    route, headers, _ = unchanged
                    return self._say_not_modified(route, headers, started, send)
                update = self._update(scope) if self._sent.size else None
                if update is not None:
                    scope["gateway.route"] = _FILE_ROUTE
                    headers = update.headers or _update_headers(update)
                    return self._boundary.send_answer(scope, send, started, 200, headers.copy(), update.update)
            elif not query and _STATUS_PATH(scope["path"]):
                return self._look_at_status(started, scope, receive, send)
        return self._app(scope, receive, send)  # may wait long: keep no frame of this module alive

    def answer_directly(self, scope: Scope, body: bytes, server: DirectAnswers) -> bool:
        """See `AnswerDirectly`: the answers to requests that `may_be_unchanged`."""
        if not scope["path"].startswith(_PREFIX) or not self._hub.fresh:
            return False
        started = time.perf_counter()
        if scope["method"] == "GET":
            unchanged = None if scope["query_string"] else self._not_modified(scope)
            if unchanged is not None and server.answer_encoded(304, unchanged[2], b""):
                self._metrics.count("GET", unchanged[0], 304, time.perf_counter() - started)
                return True
            update = self._update(scope) if self._sent.size and unchanged is None else None
            if update is not None:
                scope["gateway.route"] = _FILE_ROUTE
                lines = update.lines or _update_lines(update)
                if self._boundary.answer(scope, server, started, 200, lines, update.update):
                    return True
        else:
            answer = self._unchanged_status(scope, body)
            if answer is not None and server.answer_encoded(
                200, b"%bcontent-length: %d\r\n" % (_JSON_LINES, len(answer)), answer
            ):
                self._metrics.count("POST", _STATUS_ROUTE, 200, time.perf_counter() - started)
                return True
        scope[_ASKED] = True
        return False

    async def _say_not_modified(
        self, route: str, headers: list[tuple[bytes, bytes]], started: float, send: Send
    ) -> None:
        await send_whole(send, 304, headers, b"")
        self._metrics.count("GET", route, 304, time.perf_counter() - started)

    async def _look_at_status(self, started: float, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        complete = message["type"] == "http.request" and not message.get("more_body", False)
        answer = self._unchanged_status(scope, message["body"]) if complete else None
        if answer is None:
            await self._app(scope, Replay(message, receive), send)
            return
        await send_whole(send, 200, _json_headers(answer), answer)
        self._metrics.count("POST", _STATUS_ROUTE, 200, time.perf_counter() - started)

    def _not_modified(self, scope: Scope) -> tuple[str, list[tuple[bytes, bytes]], bytes] | None:
        """Return the route and the headers of the 304 if the request names the newest state of a file or turn: the
        headers as a list and as encoded lines."""
        named = named_headers(scope)
        tag = named.get(b"if-none-match")
        if tag is None:
            return None
        parts = scope["path"].split("/", 5)
        project = self._hub.get(parts[3]) if len(parts) == 6 else None
        view = view_in(scope, parts[3]) if project is not None else None
        if project is None or view is None:
            return None
        if parts[4] == "files":
            route, known = _FILE_ROUTE, project.files.get(parts[5])
            if known is None or known.head.deleted or not view.sees(parts[5]):
                return None
            form = accepted_form(named.get(b"accept"))
            answer = known.not_modified.get(form) or _file_not_modified(known, form)
        elif parts[4] == "sessions":
            route, turn = _known_turn(project, parts[5])
            if turn is None or not view.sees_turns:
                return None
            answer = turn.not_modified or _turn_not_modified(turn, project)
        else:
            return None
        current, headers, lines = answer
        return (route, headers, lines) if tag == current else None

    def _update(self, scope: Scope) -> SentUpdate | None:
        """Return what a plain GET of a file asks for, the document or an increment of it, if it is kept and leads to
        the newest state of the file."""
        query: bytes = scope["query_string"]
        since = _VERSION(query) if query else None
        if query and since is None:
            return None
        named = named_headers(scope)
        if not _CHANGE_THE_ANSWER.isdisjoint(named) or accepted_form(named.get(b"accept")) != "update":
            return None
        parts = scope["path"].split("/", 5)
        project = self._hub.get(parts[3]) if len(parts) == 6 and parts[4] == "files" else None
        known = None if project is None else project.files.get(parts[5])
        if known is None or known.head.deleted:
            return None
        view = view_in(scope, parts[3])
        if view is None or not view.sees(parts[5]):
            return None
        update = self._sent.get(parts[3], parts[5], known.head, int(since[1]) if since else 0)
        if update is not None and len(update.update) >= COMPRESS_FROM_BYTES and b"accept-encoding" in named:
            return None
        return update

    def _unchanged_status(self, scope: Scope, body: bytes) -> bytes | None:
        """Return the answer to a status question if nothing changed as far as memory can tell, else None.

        The answer to a body that is asked again is cached.
        """
        if not _is_json(scope):
            return None
        name = scope["path"].split("/", 4)[3]
        project, view = self._hub.get(name), view_in(scope, name)
        if project is None or view is None or not view.may("read"):
            return None
        sight = view.sight
        answer = project.answers.status(body, sight)
        if answer is None and sight is None and _nothing_new(project, body, self._paths_limit):
            answer = b'{"changes":[],"cursor":"%b"}' % project.cursor.encode()
            project.answers.keep_status_asked_twice(body, sight, answer, project.cursor)
        return answer


_CHANGE_THE_ANSWER = frozenset((b"if-modified-since", b"if-none-match"))
"""Headers with which a GET of a document may be answered by something else than an update."""


def _update_headers(update: SentUpdate) -> list[tuple[bytes, bytes]]:
    """Build and cache the headers of an answer, without those of every answer."""
    named = file_headers(update.head, update.builds_on)
    update.headers = [
        *((name.lower().encode(), value.encode()) for name, value in named.items()),
        (b"content-length", b"%d" % len(update.update)),
        (b"content-type", OCTETS.encode()),
    ]
    return update.headers


def _update_lines(update: SentUpdate) -> bytes:
    """Encode and cache the headers of an answer, without those of every answer."""
    update.lines = encode_headers(update.headers or _update_headers(update))
    return update.lines


_decode_question = msgspec.json.Decoder(StatusQuestion).decode


def _is_json(scope: Scope) -> bool:
    """Whether the headers declare a plain JSON body. The handler deals with all other types."""
    named = named_headers(scope)
    return named.get(b"content-type") == b"application/json" and b"content-encoding" not in named


def _nothing_new(project: WatchedProject, body: bytes, paths_limit: int) -> bool:
    """Whether memory alone shows that nothing changed for a status question; False if it cannot tell."""
    try:
        question = _decode_question(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    paths, versions = question.paths, question.versions
    if max(len(paths or ()), len(versions or ())) > paths_limit:
        return False
    if question.wait or (question.since is not None and question.since != project.cursor):
        return False
    if versions and not versions.items() <= project.versions.items():
        return False
    if question.since is not None:
        return paths is None or are_paths(paths)
    if paths is not None:
        return all(path in (versions or {}) for path in paths)
    return versions is not None and project.complete and len(versions) == len(project.versions)


def _known_turn(project: WatchedProject, rest: str) -> tuple[str, KnownTurn | None]:
    """Return the route of a path below a project's sessions, and the turn that it names, if in memory."""
    parts = rest.split("/")
    if len(parts) == 4 and parts[1] == "turns" and parts[3] == "status":
        return _TURN_STATUS_ROUTE, project.turns.get((parts[0], parts[2]))
    if len(parts) == 3 and parts[1] == "turns":
        return _TURN_ROUTE, project.turns.get((parts[0], parts[2]))
    return "", None


def _file_not_modified(known: KnownFile, form: Form) -> NotModified:
    """Build and cache the answer, once for each state and form."""
    answer = _not_modified(entity_tag(known.head, form), file_headers(known.head, form=form))
    known.not_modified[form] = answer
    return answer


def _turn_not_modified(known: KnownTurn, project: WatchedProject) -> NotModified:
    """Build and cache the answer, once for each state."""
    assert project.head is not None
    tag = turn_tag(project.head, known.head)
    known.not_modified = answer = _not_modified(tag, {"ETag": f'"{tag}"'})
    return answer


def _not_modified(tag: str, named: dict[str, str]) -> NotModified:
    headers = [(name.lower().encode(), value.encode()) for name, value in named.items()] + COMMON
    return f'"{tag}"'.encode(), headers, encode_headers(headers)


def _json_headers(body: bytes) -> list[tuple[bytes, bytes]]:
    return [*JSON_HEADERS, (b"content-length", b"%d" % len(body))]
