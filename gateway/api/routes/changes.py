"""Routes of many files: the listing, the status question and the change feed."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.operation import WAIT_SCHEMA, Parameter, operation
from gateway.api.routes.files import root_of
from gateway.changes.cursors import parse_cursor
from gateway.changes.feed import Feed
from gateway.changes.status import Changes
from gateway.http.json_bodies import json_of
from gateway.http.long_answers import json_with_list, response_of
from gateway.http.permission import access_of, view_of
from gateway.http.requests import (
    checked_path,
    header,
    if_none_match,
    json_bytes,
    prefers,
    project_id,
    read_body,
    require_media_type,
    whole_number,
)
from gateway.http.waits import OpenStream, check_wait, empty_after_wait, parse_wait, wait_for_change
from gateway.watch.answers import Poll
from gateway.watch.filter import ChangeFilter
from gateway.watch.hub import Hub
from gateway.wire.changes import FeedAnswer, StatusAnswer, StatusQuestion
from gateway.wire.files import DeletedListing, FileListing
from gateway.wire.media_types import EVENTS, JSON
from gateway.wire.problems import (
    BodyTooLarge,
    InvalidBody,
    InvalidCursor,
    InvalidParameter,
    InvalidPath,
    Overloaded,
    ProjectNotFound,
    TooManyPaths,
    UnsupportedMediaType,
)

_LIMIT = 1000
_MOST = 10_000
_KINDS = ("file", "turn")
"""The kinds that the feed reports by default."""
_PRESENCE = "presence"
_STRING = {"type": "string"}
_DIFFS, _MOST_DIFFS = 100, 1000
"""The default and the maximum number of entries in an answer with diffs."""
_DIFF_BYTES, _MOST_DIFF_BYTES = 256 * 1024, 4 * 2**20
_DIFF = {"enum": ["text"]}
_INCLUDE = {"enum": ["update"]}
_BYTES_SCHEMA = {"type": "integer", "minimum": 0, "maximum": _MOST_DIFF_BYTES}
_LIMIT_SCHEMA = {"type": "integer", "minimum": 1, "maximum": _MOST}


class ChangeRoutes:
    """Handlers of the listing, the status question and the change feed."""

    def __init__(self, changes: Changes, feed: Feed, hub: Hub, *, body_limit: int) -> None:
        self._changes = changes
        self._feed = feed
        self._hub = hub
        self._body_limit = body_limit

    @operation(
        "GET",
        "/api/projects/{project}/files",
        name="listFiles",
        summary="The files that exist, or were deleted, by path.",
        scope="read",
        parameters=(
            Parameter("prefix", "Only paths that begin so.", _STRING),
            Parameter("after", "Only paths after this one: `next` of the page before.", _STRING),
            Parameter("limit", f"At most so many; {_LIMIT} unless said.", _LIMIT_SCHEMA),
            Parameter("deleted", "List those that were deleted instead.", {"type": "boolean"}),
            Parameter("If-None-Match", "The tag of a listing that is known.", _STRING, "header"),
        ),
        answers={200: {JSON: (FileListing, DeletedListing)}, 304: {}},
        headers=("ETag", "X-View"),
        problems=(InvalidParameter, ProjectNotFound),
    )
    async def list_files(self, request: Request) -> Response:
        """`GET P/files`."""
        project = project_id(request)
        limit = whole_number(request, "limit", least=1, most=_MOST) or _LIMIT
        deleted = _wants_deleted(request)
        tags = if_none_match(request)
        watched = await self._hub.require_as_of(project, tags)
        if tags is not None and tags.match(watched.cursor):
            return Response(status_code=304, headers={"ETag": f'"{watched.cursor}"'})
        prefix, after = request.query_params.get("prefix", ""), request.query_params.get("after", "")
        listing: FileListing | DeletedListing
        if deleted:
            listing = await self._changes.list_deleted(project, prefix, after, limit, view_of(request).paths)
        else:
            listing = await self._changes.list_files(project, prefix, after, limit, view_of(request).paths)
        headers = {"ETag": f'"{listing.cursor}"', "X-View": access_of(request.scope).identity(project)}
        return response_of(await json_with_list(listing, "files"), headers)

    @operation(
        "POST",
        "/api/projects/{project}/files/status",
        name="fileStatus",
        summary="Which of many files changed since the client last looked.",
        scope="read",
        body={JSON: StatusQuestion},
        answers={200: {JSON: StatusAnswer}},
        problems=(
            InvalidBody,
            InvalidPath,
            InvalidCursor,
            InvalidParameter,
            ProjectNotFound,
            TooManyPaths,
            BodyTooLarge,
            UnsupportedMediaType,
        ),
    )
    async def status(self, request: Request) -> Response:
        """`POST P/files/status`."""
        project = project_id(request)
        require_media_type(request, JSON)
        body = await read_body(request, self._body_limit)
        question = await json_of(body or b"{}", StatusQuestion)
        wait = check_wait(question.wait)
        watched = await self._hub.require(project)
        as_of = watched.head
        view = view_of(request)
        answer = await self._changes.status(project, question, view.paths)
        if answer.changes or answer.reset:
            return response_of(await json_with_list(answer, "changes"))
        paths = None if question.paths is None else frozenset(question.paths)
        wait_for_change(request, wait, watched, as_of, ChangeFilter(turns=False, paths=paths).seen_by(view), question)
        encoded = json_bytes(answer)
        if not wait:
            watched.answers.keep_status(body, view.sight, encoded, answer.cursor)
        return Response(encoded, headers=empty_after_wait(request), media_type=JSON)

    @operation(
        "GET",
        "/api/projects/{project}/changes",
        name="changeFeed",
        summary="The change feed: a poll, a long poll (`wait`), or server-sent events (`Accept: text/event-stream`).",
        scope="read",
        parameters=(
            Parameter("since", "The cursor that was followed so far; left out: from the start.", _STRING),
            Parameter("limit", f"At most so many; {_LIMIT} unless said.", _LIMIT_SCHEMA),
            Parameter("wait", "Seconds to wait for a change where there is none.", WAIT_SCHEMA),
            Parameter("kinds", "`file`, `turn` or both, separated by a comma; in a stream `presence`, too.", _STRING),
            Parameter("prefix", "Only files whose path begins so.", _STRING),
            Parameter("path", "Only this file; may be repeated.", {"type": "array", "items": _STRING}),
            Parameter("If-None-Match", "The cursor that is known, as a tag.", _STRING, "header"),
            Parameter("diff", "`text`: each file with what changed in its text, each turn with its prompt.", _DIFF),
            Parameter("root", "With `diff`: the name of the text; `content` unless said.", _STRING),
            Parameter(
                "max_bytes", f"With `diff`: of all differences together; {_DIFF_BYTES} unless said.", _BYTES_SCHEMA
            ),
            Parameter("include", "`update`: small updates of modified files are part of their entries.", _INCLUDE),
            Parameter("client", "Of a stream: who follows, and needs no push messages meanwhile.", _STRING),
            Parameter("ticket", "Stands for the credential where no header can be sent.", _STRING),
            Parameter("Last-Event-ID", "Where a stream goes on; beats `since`.", _STRING, "header"),
        ),
        answers={200: {JSON: FeedAnswer, EVENTS: str}, 304: {}},
        problems=(InvalidParameter, InvalidPath, InvalidCursor, ProjectNotFound, Overloaded),
    )
    async def feed(self, request: Request) -> Response:
        """`GET P/changes`: a poll, a long poll, or an event stream."""
        project = project_id(request)
        wait, since = parse_wait(request), request.query_params.get("since")
        as_text = _as_text(request)
        most, usual = (_MOST, _LIMIT) if as_text is None else (_MOST_DIFFS, _DIFFS)
        limit = whole_number(request, "limit", least=1, most=most) or usual
        view = view_of(request)
        filter_ = _filter_of(request).seen_by(view)
        tags = if_none_match(request)
        watched = await self._hub.require_as_of(project, tags)
        if prefers(header(request, b"accept"), (JSON, EVENTS)) == EVENTS:
            client = request.query_params.get("client")
            if as_text is not None:
                raise InvalidParameter("diff", "a stream has no differences: poll, or wait")
            raise OpenStream(project, watched, filter_, _resumed(header(request, b"last-event-id") or since), client)
        if as_text is not None and filter_.updates:
            raise InvalidParameter("include", "an answer has differences or updates")
        as_of = watched.head
        if tags is not None and tags.match(watched.cursor):
            wait_for_change(request, wait, watched, as_of, filter_)
            return Response(status_code=304, headers={"ETag": f'"{watched.cursor}"', **empty_after_wait(request)})
        if as_text is None:
            answer = await self._feed.read(project, filter_, since, limit)
        else:
            root, most_bytes = as_text
            answer = await self._feed.read_text(project, filter_, since, limit, most_bytes=most_bytes, root=root)
        news = bool(answer.changes or answer.reset or answer.more)
        if not news:
            wait_for_change(request, wait, watched, as_of, filter_)
        encoded = await json_with_list(answer, "changes")
        if news and not answer.more and isinstance(encoded, bytes):
            watched.answers.keep_poll(Poll(request.scope["query_string"], view.sight), encoded, answer.cursor)
        headers = {"ETag": f'"{answer.cursor}"', **({} if news else empty_after_wait(request))}
        return response_of(encoded, headers)


_OF_NO_EPOCH = "0.0"


def _resumed(since: str | None) -> str | None:
    """Return the cursor from which a stream resumes.

    An invalid cursor becomes one of no existing epoch, so the client is told to start over (event `reset`):
    `EventSource` never retries after a 400.
    """
    if since is None:
        return None
    try:
        return str(parse_cursor(since))
    except InvalidCursor:
        return _OF_NO_EPOCH


_EVERYTHING = ChangeFilter()
"""The most common filter, shared by all its waiters, of which there may be ten thousand."""


def _wants_deleted(request: Request) -> bool:
    wanted = request.query_params.get("deleted", "false")
    if wanted not in ("true", "false"):
        raise InvalidParameter("deleted", "it is true or false")
    return wanted == "true"


def _as_text(request: Request) -> tuple[str, int] | None:
    """Return the root to diff and the maximum bytes of all diffs; None if the request asks for no diffs."""
    wanted = request.query_params.get("diff")
    if wanted is None:
        return None
    if wanted != "text":
        raise InvalidParameter("diff", "it is text")
    most_bytes = whole_number(request, "max_bytes", least=0, most=_MOST_DIFF_BYTES)
    return root_of(request), _DIFF_BYTES if most_bytes is None else most_bytes


def _includes_updates(request: Request) -> bool:
    wanted = request.query_params.get("include")
    if wanted not in (None, "update"):
        raise InvalidParameter("include", "it is update")
    return wanted is not None


def _filter_of(request: Request) -> ChangeFilter:
    kinds = request.query_params.get("kinds", ",".join(_KINDS)).split(",")
    if not set(kinds) <= {*_KINDS, _PRESENCE}:
        raise InvalidParameter("kinds", f"they are {', '.join(_KINDS)} and {_PRESENCE}, separated by a comma")
    paths = request.query_params.getlist("path")
    filter_ = ChangeFilter(
        files="file" in kinds,
        turns="turn" in kinds,
        presence=_PRESENCE in kinds,
        prefix=request.query_params.get("prefix", ""),
        paths=frozenset(map(checked_path, paths)) if paths else None,
        updates=_includes_updates(request),
    )
    return _EVERYTHING if filter_ == _EVERYTHING else filter_
