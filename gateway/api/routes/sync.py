"""Route of `POST P/sync`: push and pull many files in one round trip, as JSON or msgpack."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.operation import operation
from gateway.api.routes.files import AUTHOR, author_of
from gateway.api.routes.presence import check_presence, say_presence
from gateway.changes.sync import Sync
from gateway.http.json_bodies import json_of, msgpack_of
from gateway.http.long_answers import json_with_list, msgpack_with_list, response_of
from gateway.http.permission import note, require, view_of
from gateway.http.requests import (
    header,
    prefers,
    project_id,
    read_body,
    require_media_type,
)
from gateway.pace import with_turns
from gateway.presence.presence import Presence
from gateway.wire.changes import SyncAnswer, SyncRequest
from gateway.wire.files import Receipt
from gateway.wire.media_types import JSON, MSGPACK
from gateway.wire.problems import (
    BodyTooLarge,
    DocumentTooLarge,
    InvalidBody,
    InvalidCursor,
    InvalidParameter,
    InvalidPath,
    ProjectNotFound,
    StoredDataDamaged,
    SyncRefused,
    TooManyPaths,
    UnsupportedMediaType,
    WriteContention,
)


class SyncRoutes:
    """Handler of push and pull."""

    def __init__(self, sync: Sync, presence: Presence, *, body_limit: int) -> None:
        self._sync = sync
        self._presence = presence
        self._body_limit = body_limit

    @operation(
        "POST",
        "/api/projects/{project}/sync",
        name="sync",
        summary="Push and pull many files in one round trip.",
        scope="read",
        may_need=("write",),
        parameters=(AUTHOR,),
        body={JSON: SyncRequest, MSGPACK: SyncRequest},
        answers={200: {JSON: SyncAnswer, MSGPACK: SyncAnswer}},
        problems=(
            InvalidBody,
            InvalidPath,
            InvalidCursor,
            InvalidParameter,
            ProjectNotFound,
            SyncRefused,
            WriteContention,
            TooManyPaths,
            BodyTooLarge,
            DocumentTooLarge,
            StoredDataDamaged,
            UnsupportedMediaType,
        ),
    )
    async def exchange(self, request: Request) -> Response:
        """`POST P/sync`."""
        project = project_id(request)
        packed = (header(request, b"content-type") or JSON).startswith(MSGPACK)
        require_media_type(request, MSGPACK if packed else JSON)
        body = await read_body(request, self._body_limit)
        asked = await (msgpack_of(body, SyncRequest) if packed else json_of(body, SyncRequest))
        if asked.updates:
            require(request, "write")
        said = await check_presence(request, asked.presence)
        answer = await self._sync.exchange(project, asked, author_of(request), view_of(request).paths)
        async for path, result in with_turns(answer.results.items()):
            if isinstance(result, Receipt) and result.changed:
                note(request, "write", path=path, version=result.version)
        offers = (MSGPACK, JSON) if packed else (JSON, MSGPACK)
        packs = prefers(header(request, b"accept"), offers) == MSGPACK
        if asked.presence:
            told = await say_presence(request, self._presence, said, of_json=not packs)
            answer = msgspec.structs.replace(answer, presence=told)
        if packs:
            return response_of(await msgpack_with_list(answer, "changes"), media_type=MSGPACK)
        return response_of(await json_with_list(answer, "changes"))
