"""Routes of the history of a file: versions, differences and restore."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.operation import Parameter, operation
from gateway.api.routes.files import CONDITIONS, FILE_HEADERS, ROOT, author_of, receipt, root_of
from gateway.files.history import Versions
from gateway.files.store import Written
from gateway.http.json_bodies import read_json
from gateway.http.long_answers import json_with_list, response_of
from gateway.http.permission import note
from gateway.http.requests import (
    file_path,
    preconditions,
    project_id,
    require_media_type,
    whole_number,
)
from gateway.wire.files import History, Receipt, RestoreRequest, TextDifference
from gateway.wire.media_types import JSON, TEXT
from gateway.wire.problems import (
    BodyTooLarge,
    DocumentTooLarge,
    FileDeleted,
    FileNotFound,
    InvalidBody,
    InvalidParameter,
    InvalidPath,
    NestedTooDeeply,
    NotAText,
    PreconditionFailed,
    ProjectNotFound,
    StoredDataDamaged,
    TooComplex,
    UnsupportedMediaType,
    VersionNotFound,
    WriteContention,
)

_PATH = "/api/projects/{project}/history/{path:file}"
_RESTORE = _PATH + "/restore"
_LIMIT, _MOST = 100, 1000
_LONGEST_GROUP_S = 30 * 24 * 3600
_DIFF_SCHEMA = {"type": "string", "pattern": "^[1-9][0-9]*\\.\\.[1-9][0-9]*$"}


_NUMBER = {"type": "integer", "minimum": 1}


class HistoryRoutes:
    """Handlers of the history of a file."""

    def __init__(self, versions: Versions, *, body_limit: int) -> None:
        self._versions = versions
        self._body_limit = body_limit

    @operation(
        "GET",
        _PATH,
        name="history",
        summary="The versions of a file, newest first, or a difference of two.",
        scope="read",
        parameters=(
            Parameter("before", "Only versions below this one: `next` of the page before.", _NUMBER),
            Parameter("limit", f"At most so many; {_LIMIT} unless said.", {**_NUMBER, "maximum": _MOST}),
            Parameter(
                "group",
                "Join neighbours of one author that are at most so many seconds apart.",
                {"type": "integer", "minimum": 0, "maximum": _LONGEST_GROUP_S},
            ),
            Parameter("diff", "`A..B`: what changed in the text from version A to B.", _DIFF_SCHEMA),
            Parameter("format", "Of a difference.", {"enum": ["text", "json"]}),
            ROOT,
        ),
        answers={200: {JSON: (History, TextDifference), TEXT: str}},
        problems=(
            InvalidPath,
            InvalidParameter,
            ProjectNotFound,
            FileNotFound,
            FileDeleted,
            VersionNotFound,
            NestedTooDeeply,
            NotAText,
            TooComplex,
        ),
    )
    async def read(self, request: Request) -> Response:
        """`GET P/history/{path}`: a page of versions, or the difference between two."""
        project, path = project_id(request), file_path(request)
        if "diff" in request.query_params:
            return await self._difference(request, project, path)
        before = whole_number(request, "before", least=1)
        limit = whole_number(request, "limit", least=1, most=_MOST) or _LIMIT
        seconds = whole_number(request, "group", least=0, most=_LONGEST_GROUP_S)
        if seconds is None:
            history = await self._versions.list_versions(project, path, before, limit)
        else:
            history = await self._versions.list_groups(project, path, before, limit, seconds)
        return response_of(await json_with_list(history, "versions"))

    async def _difference(self, request: Request, project: str, path: str) -> Response:
        older, newer = _versions_of(request.query_params["diff"])
        wanted = request.query_params.get("format", "text")
        if wanted == "json":
            ranges = await self._versions.text_difference(project, path, older, newer, root_of(request))
            return Response(ranges, media_type=JSON)
        if wanted != "text":
            raise InvalidParameter("format", "it is text or json")
        unified = await self._versions.unified_diff(project, path, older, newer, root_of(request))
        return Response(unified, media_type=TEXT)

    @operation(
        "POST",
        _RESTORE,
        name="restore",
        summary="Make the content what it was, as a new version.",
        scope="write",
        parameters=CONDITIONS,
        headers=FILE_HEADERS,
        body={JSON: RestoreRequest},
        answers={200: {JSON: Receipt}, 201: {JSON: Receipt}},
        problems=(
            InvalidPath,
            InvalidBody,
            InvalidParameter,
            ProjectNotFound,
            FileNotFound,
            FileDeleted,
            VersionNotFound,
            NestedTooDeeply,
            PreconditionFailed,
            WriteContention,
            BodyTooLarge,
            DocumentTooLarge,
            StoredDataDamaged,
            UnsupportedMediaType,
        ),
    )
    async def restore(self, request: Request) -> Response:
        """`POST P/history/{path}/restore`."""
        project, path = project_id(request), file_path(request)
        require_media_type(request, JSON)
        wanted = await read_json(request, self._body_limit, RestoreRequest)
        conditions, author = preconditions(request), author_of(request)
        written: Written = await self._versions.restore(project, path, wanted.version, conditions, author)
        if written.changed:
            note(request, "restore", path=path, version=written.head.version, detail=f"version {wanted.version}")
        return receipt(written)


def _versions_of(text: str) -> tuple[int, int]:
    """Parse the two versions of `A..B`."""
    older, dots, newer = text.partition("..")
    numbers = [part for part in (older, newer) if part.isascii() and part.isdigit() and len(part) <= 18 and int(part)]
    if not dots or len(numbers) != 2:
        raise InvalidParameter("diff", "it is two versions, as in 3..7")
    return int(older), int(newer)
