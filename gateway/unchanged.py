"""The unchanged poll, answered before anything else is walked: from memory, without a query.

Two questions have that answer: a GET of a file with the tag of its newest state, and a status question whose files are
all in memory, at the versions that the client has. All else goes on.
"""

import time

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.conditional import CACHE_HEADERS, entity_tag, file_headers
from gateway.hub import Hub, KnownFile, WatchedProject
from gateway.metrics import RequestFigures
from gateway.wire import StatusQuestion

_PREFIX = "/api/projects/"
_FILE_ROUTE = "/api/projects/{project}/files/{path:file}"
_STATUS_ROUTE = "/api/projects/{project}/files/status"
_CACHE_HEADERS = [(name.lower().encode(), value.encode()) for name, value in CACHE_HEADERS.items()]


class UnchangedPolls:
    """ASGI in front of the application."""

    def __init__(self, app: ASGIApp, hub: Hub, figures: RequestFigures, *, paths_limit: int) -> None:
        self._app = app
        self._hub = hub
        self._figures = figures
        self._paths_limit = paths_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(_PREFIX) and not scope["query_string"]:
            started = time.perf_counter()
            method = scope["method"]
            if method == "GET":
                headers = self._not_modified(scope)
                if headers is not None:
                    await send({"type": "http.response.start", "status": 304, "headers": headers})
                    await send({"type": "http.response.body", "body": b""})
                    self._figures.count("GET", _FILE_ROUTE, 304, time.perf_counter() - started)
                    return
            elif method == "POST" and scope["path"].endswith("/files/status"):
                message = await receive()
                answer = self._unchanged_status(scope, message)
                if answer is not None:
                    await send({"type": "http.response.start", "status": 200, "headers": _json_headers(answer)})
                    await send({"type": "http.response.body", "body": answer})
                    self._figures.count("POST", _STATUS_ROUTE, 200, time.perf_counter() - started)
                    return
                receive = _Replay(message, receive)
        await self._app(scope, receive, send)

    def _not_modified(self, scope: Scope) -> list[tuple[bytes, bytes]] | None:
        """The headers of the 304, if the request names the newest state of a file."""
        tag = None
        for name, value in scope["headers"]:
            if name == b"if-none-match":
                tag = value
                break
        if tag is None:
            return None
        parts = scope["path"].split("/", 5)
        if len(parts) != 6 or parts[4] != "files":
            return None
        project = self._hub.known_project(parts[3])
        known = None if project is None else project.files.get(parts[5])
        if known is None or known.head.deleted:
            return None
        current, headers = known.not_modified or _not_modified(known)
        return headers if tag == current else None

    def _unchanged_status(self, scope: Scope, message: Message) -> bytes | None:
        """The answer to a status question, if memory tells that nothing changed. Asked again, the words are enough."""
        if message["type"] != "http.request" or message.get("more_body", False) or not _is_json(scope):
            return None
        project = self._hub.known_project(scope["path"].split("/", 4)[3])
        if project is None:
            return None
        body = message["body"]
        answer = project.answers.get(("status", body))
        if answer is None and _nothing_new(project, body, self._paths_limit):
            answer = b'{"changes":[],"cursor":"%b"}' % project.cursor.encode()
            project.remember_answer("status", body, answer, project.cursor)
        return answer


_decode_question = msgspec.json.Decoder(StatusQuestion).decode


def _is_json(scope: Scope) -> bool:
    """Whether the body is said to be plain JSON, or nothing is said of it. All other types are looked at elsewhere."""
    for name, value in scope["headers"]:
        if name == b"content-encoding" or (name == b"content-type" and value != b"application/json"):
            return False
    return True


def _nothing_new(project: WatchedProject, body: bytes, paths_limit: int) -> bool:
    """Whether memory alone tells that nothing changed for a status question; False where it does not tell."""
    try:
        question = _decode_question(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    files, paths, versions = project.files, question.paths, question.versions
    if max(len(paths or ()), len(versions or ())) > paths_limit:
        return False
    if question.wait or (question.since is not None and question.since != project.cursor):
        return False
    for path, version in (versions or {}).items():
        known = files.get(path)
        if known is None or known.head.deleted or known.head.version != version:
            return False
    if paths is not None:
        asked = files if question.since is not None else versions or {}
        return all(path in asked for path in paths)
    if question.since is not None:
        return True
    return versions is not None and project.complete and len(versions) == project.live


def _not_modified(known: KnownFile) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The tag, as sent by a client that has this state, and the headers of its 304. Made once for each state."""
    headers = [(name.lower().encode(), value.encode()) for name, value in file_headers(known.head).items()]
    known.not_modified = answer = (f'"{entity_tag(known.head)}"'.encode(), headers + _CACHE_HEADERS)
    return answer


def _json_headers(body: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *_CACHE_HEADERS,
    ]


class _Replay:
    """`receive`, with a message that was taken already first."""

    def __init__(self, message: Message, receive: Receive) -> None:
        self._message: Message | None = message
        self._receive = receive

    async def __call__(self) -> Message:
        message, self._message = self._message, None
        return message if message is not None else await self._receive()
