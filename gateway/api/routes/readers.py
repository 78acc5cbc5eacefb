"""Routes of webhooks and Web Push subscriptions."""

import re

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.operation import Parameter, operation
from gateway.http.json_bodies import read_json
from gateway.http.long_answers import json_with_list, response_of
from gateway.http.permission import access_of, note, view_of
from gateway.http.requests import (
    json_bytes,
    project_id,
    require_media_type,
    whole_number,
)
from gateway.readers.registry import Registry
from gateway.readers.vapid import OwnKey
from gateway.wire.media_types import JSON
from gateway.wire.problems import (
    BodyTooLarge,
    HookNotFound,
    InvalidBody,
    InvalidCursor,
    InvalidParameter,
    InvalidPath,
    ProjectNotFound,
    QuotaExceeded,
    UnsupportedMediaType,
)
from gateway.wire.readers import Hook, HookListing, HookRequest, PushKey, PushRequest, PushState, ReplayRequest

_HOOK = "/api/projects/{project}/hooks/{hook}"
_PUSH = "/api/projects/{project}/push/{client}"
_LIMIT, _MOST = 100, 1000
_NAME = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_PUT_PROBLEMS = (
    InvalidBody,
    InvalidParameter,
    InvalidPath,
    InvalidCursor,
    ProjectNotFound,
    QuotaExceeded,
    BodyTooLarge,
    UnsupportedMediaType,
)


class ReaderRoutes:
    """Handlers of the readers whose position the gateway stores."""

    def __init__(self, registry: Registry, push_key: OwnKey, *, body_limit: int) -> None:
        self._registry = registry
        self._push_key = push_key
        self._body_limit = body_limit

    @operation(
        "PUT",
        _HOOK,
        name="putHook",
        summary="Make a webhook, or change one. Its secret is in the answer that makes it and nowhere else.",
        scope="admin",
        body={JSON: HookRequest},
        answers={200: {JSON: Hook}, 201: {JSON: Hook}},
        problems=_PUT_PROBLEMS,
    )
    async def put_hook(self, request: Request) -> Response:
        """`PUT P/hooks/{id}`."""
        project, name = project_id(request), _name(request, "hook")
        require_media_type(request, JSON)
        wanted = await read_json(request, self._body_limit, HookRequest)
        hook, new = await self._registry.put_hook(project, name, wanted, access_of(request.scope), view_of(request))
        note(request, "hook put", detail=f"{name} {wanted.url}"[:1000])
        return Response(json_bytes(hook), 201 if new else 200, {"Cache-Control": "no-store"}, JSON)

    @operation(
        "GET",
        _HOOK,
        name="readHook",
        summary="A webhook, how far it is, and what came of the last attempt.",
        scope="admin",
        answers={200: {JSON: Hook}},
        problems=(InvalidParameter, ProjectNotFound, HookNotFound),
    )
    async def read_hook(self, request: Request) -> Response:
        """`GET P/hooks/{id}`."""
        hook = await self._registry.hook(project_id(request), _name(request, "hook"))
        return Response(json_bytes(hook), 200, {"Cache-Control": "no-store"}, JSON)

    @operation(
        "GET",
        "/api/projects/{project}/hooks",
        name="listHooks",
        summary="The webhooks of the project, by id.",
        scope="admin",
        parameters=(
            Parameter("after", "Only ids after this one: `next` of the page before.", {"type": "string"}),
            Parameter(
                "limit",
                f"At most so many; {_LIMIT} unless said.",
                {"type": "integer", "minimum": 1, "maximum": _MOST},
            ),
        ),
        answers={200: {JSON: HookListing}},
        problems=(InvalidParameter, ProjectNotFound),
    )
    async def list_hooks(self, request: Request) -> Response:
        """`GET P/hooks`."""
        limit = whole_number(request, "limit", least=1, most=_MOST) or _LIMIT
        listing = await self._registry.list_hooks(project_id(request), request.query_params.get("after", ""), limit)
        return response_of(await json_with_list(listing, "hooks"), {"Cache-Control": "no-store"})

    @operation(
        "POST",
        _HOOK + "/replay",
        name="replayHook",
        summary="Deliver everything after a cursor once more.",
        scope="admin",
        body={JSON: ReplayRequest},
        answers={200: {JSON: Hook}},
        problems=(
            InvalidBody,
            InvalidParameter,
            InvalidCursor,
            ProjectNotFound,
            HookNotFound,
            BodyTooLarge,
            UnsupportedMediaType,
        ),
    )
    async def replay(self, request: Request) -> Response:
        """`POST P/hooks/{id}/replay`."""
        project, name = project_id(request), _name(request, "hook")
        require_media_type(request, JSON)
        wanted = await read_json(request, self._body_limit, ReplayRequest)
        hook = await self._registry.replay(project, name, wanted.since)
        note(request, "hook replayed", detail=f"{name} from {wanted.since}")
        return Response(json_bytes(hook), 200, {"Cache-Control": "no-store"}, JSON)

    @operation(
        "DELETE",
        _HOOK,
        name="deleteHook",
        summary="Forget a webhook.",
        scope="admin",
        answers={204: {}},
        problems=(InvalidParameter, ProjectNotFound, HookNotFound),
    )
    async def delete_hook(self, request: Request) -> Response:
        """`DELETE P/hooks/{id}`."""
        name = _name(request, "hook")
        await self._registry.delete_hook(project_id(request), name)
        note(request, "hook deleted", detail=name)
        return Response(status_code=204)

    @operation(
        "GET",
        "/api/push/key",
        name="pushKey",
        summary="The public key of the gateway for subscriptions of Web Push (VAPID).",
        answers={200: {JSON: PushKey}},
    )
    async def push_key(self, request: Request) -> Response:
        """`GET /api/push/key`."""
        return Response(json_bytes(PushKey((await self._push_key.open()).public)), media_type=JSON)

    @operation(
        "PUT",
        _PUSH,
        name="putPush",
        summary="Subscribe a browser to push messages, or renew its subscription.",
        scope="read",
        body={JSON: PushRequest},
        answers={200: {JSON: PushState}},
        problems=_PUT_PROBLEMS,
    )
    async def put_push(self, request: Request) -> Response:
        """`PUT P/push/{client}`."""
        project, name = project_id(request), _name(request, "client")
        require_media_type(request, JSON)
        wanted = await read_json(request, self._body_limit, PushRequest)
        state = await self._registry.put_push(project, name, wanted, access_of(request.scope), view_of(request))
        return Response(json_bytes(state), 200, {"Cache-Control": "no-store"}, JSON)

    @operation(
        "DELETE",
        _PUSH,
        name="deletePush",
        summary="End a subscription.",
        scope="read",
        answers={204: {}},
        problems=(InvalidParameter, ProjectNotFound),
    )
    async def delete_push(self, request: Request) -> Response:
        """`DELETE P/push/{client}`."""
        await self._registry.delete_push(project_id(request), _name(request, "client"), access_of(request.scope))
        return Response(status_code=204)


def _name(request: Request, parameter: str) -> str:
    name: str = request.path_params[parameter]
    if _NAME.fullmatch(name) is None:
        raise InvalidParameter(parameter, "1 to 128 letters, digits and any of . _ ~ - are expected")
    return name
