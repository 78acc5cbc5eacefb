"""Many files at once: which are there, and which have changed."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.changes import Changes
from gateway.problems import (
    BodyTooLarge,
    InvalidBody,
    InvalidCursor,
    InvalidParameter,
    InvalidPath,
    ProjectNotFound,
    TooManyPaths,
    UnsupportedMediaType,
)
from gateway.routes.operation import JSON, Operation, Parameter
from gateway.routes.parsing import (
    decode_json,
    if_none_match,
    json_bytes,
    project_id,
    read_body,
    require_media_type,
    whole_number,
)
from gateway.wire import FileListing, StatusAnswer, StatusQuestion

_LIMIT = 1000
_MOST = 10_000
_LIMIT_SCHEMA = {"type": "integer", "minimum": 1, "maximum": _MOST}


class ChangeRoutes:
    """Listing and status."""

    def __init__(self, changes: Changes, *, body_limit: int) -> None:
        self._changes = changes
        self._body_limit = body_limit

    async def list_files(self, request: Request) -> Response:
        """`GET P/files`."""
        project = project_id(request)
        limit = whole_number(request, "limit", least=1, most=_MOST) or _LIMIT
        tags = if_none_match(request)
        watched = await self._changes.watched(project)
        if tags is not None and tags.match(watched.cursor):
            return Response(status_code=304, headers={"ETag": f'"{watched.cursor}"'})
        prefix, after = request.query_params.get("prefix", ""), request.query_params.get("after", "")
        listing = await self._changes.list_files(project, prefix, after, limit)
        return Response(json_bytes(listing), headers={"ETag": f'"{listing.cursor}"'}, media_type=JSON)

    async def status(self, request: Request) -> Response:
        """`POST P/files/status`."""
        project = project_id(request)
        require_media_type(request, JSON)
        body = await read_body(request, self._body_limit)
        answer = await self._changes.status(project, decode_json(body or b"{}", StatusQuestion))
        encoded = json_bytes(answer)
        if not answer.changes:
            (await self._changes.watched(project)).remember_answer("status", body, encoded, answer.cursor)
        return Response(encoded, media_type=JSON)

    def operations(self) -> list[Operation]:
        return [
            Operation(
                "POST", "/api/projects/{project}/files/status", "fileStatus", self.status,
                "Which of many files changed since the client last looked.",
                body={JSON: StatusQuestion}, answers={200: {JSON: StatusAnswer}},
                problems=(
                    InvalidBody, InvalidPath, InvalidCursor, InvalidParameter, ProjectNotFound, TooManyPaths,
                    BodyTooLarge, UnsupportedMediaType,
                ),
            ),
            Operation(
                "GET", "/api/projects/{project}/files", "listFiles", self.list_files, "The files that exist, by path.",
                parameters=(
                    Parameter("prefix", "Only paths that begin so.", {"type": "string"}),
                    Parameter("after", "Only paths after this one: `next` of the page before.", {"type": "string"}),
                    Parameter("limit", f"At most so many; {_LIMIT} unless said.", _LIMIT_SCHEMA),
                    Parameter("If-None-Match", "The tag of a listing that is known.", {"type": "string"}, "header"),
                ),
                answers={200: {JSON: FileListing}, 304: {}}, problems=(InvalidParameter, ProjectNotFound),
            ),
        ]  # fmt: skip
