"""Routes of presence: read who is in a file, wait for changes, announce or withdraw a client."""

import contextlib
from collections.abc import Mapping

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.operation import WAIT_SCHEMA, Parameter, operation
from gateway.http.json_bodies import read_json
from gateway.http.permission import access_of, view_of
from gateway.http.requests import (
    checked_path,
    file_path,
    if_none_match,
    json_bytes,
    project_id,
    require_media_type,
)
from gateway.http.waits import empty_after_wait, parse_wait, wait_for_change
from gateway.pace import with_turns
from gateway.presence.presence import LONGEST_STATE, Presence, encode_state
from gateway.watch.filter import ChangeFilter
from gateway.watch.hub import Hub
from gateway.wire.media_types import JSON
from gateway.wire.presence import LARGEST_CLIENT, PresenceAnswer, PresenceQuestion, PresenceState
from gateway.wire.problems import (
    BodyTooLarge,
    FileNotFound,
    InvalidBody,
    InvalidParameter,
    InvalidPath,
    Overloaded,
    ProjectNotFound,
    UnsupportedMediaType,
)

_FILE = "/api/projects/{project}/presence/{path:file}"
_CLIENT = "/api/projects/{project}/presence/{path:file}/{client_id}"
_STATES_LIMIT = 2 * LONGEST_STATE
"""The limit on a body, in bytes: escapes and spaces may make a state longer than its stored form."""

_TOLD_BYTES = 4 * 2**20
"""How many bytes of states an answer to an exchange has, and those of one more file."""


class PresenceRoutes:
    """Handlers of presence."""

    def __init__(self, presence: Presence, hub: Hub) -> None:
        self._presence = presence
        self._hub = hub

    @operation(
        "GET",
        _FILE,
        name="readPresence",
        summary="Who is in a file.",
        scope="read",
        parameters=(
            Parameter("wait", "Seconds to wait for another answer than the one of `If-None-Match`.", WAIT_SCHEMA),
            Parameter("If-None-Match", "The tag of the last answer.", {"type": "string"}, "header"),
        ),
        headers=("ETag",),
        answers={200: {JSON: PresenceAnswer}, 304: {}},
        problems=(InvalidParameter, InvalidPath, ProjectNotFound, FileNotFound, Overloaded),
    )
    async def read(self, request: Request) -> Response:
        """`GET P/presence/{path}`."""
        project, path = project_id(request), file_path(request)
        wait, tags = parse_wait(request), if_none_match(request)
        watched = await self._hub.require(project)
        answer = await self._presence.answer(project, path)
        headers = {"ETag": f'"{answer.version}"'}
        if tags is None or not tags.match(answer.version):
            return Response(json_bytes(answer), headers=headers, media_type=JSON)
        wait_for_change(
            request,
            wait,
            watched,
            watched.head,
            ChangeFilter(files=False, turns=False, presence=True, paths=frozenset([path])),
            moved=lambda: self._presence.version_of(project, path) != answer.version,
        )
        return Response(status_code=304, headers={**headers, **empty_after_wait(request)})

    @operation(
        "PUT",
        _CLIENT,
        name="putPresence",
        summary="Say that a client is in a file, for some seconds; the answer is everybody who is.",
        scope="read",
        body={JSON: PresenceState},
        headers=("ETag",),
        answers={200: {JSON: PresenceAnswer}},
        problems=(
            InvalidParameter,
            InvalidPath,
            InvalidBody,
            ProjectNotFound,
            FileNotFound,
            BodyTooLarge,
            UnsupportedMediaType,
            Overloaded,
        ),
    )
    async def put(self, request: Request) -> Response:
        """`PUT P/presence/{path}/{client_id}`."""
        project, path, client = project_id(request), file_path(request), _client(request)
        require_media_type(request, JSON)
        said = await read_json(request, _STATES_LIMIT, PresenceState)
        await self._hub.require(project)
        _require_own(request, self._presence, project, path, client)
        subject = access_of(request.scope).subject
        self._presence.say(project, path, client, said.state, seconds=said.ttl, clock=said.clock, subject=subject)
        answer = await self._presence.answer(project, path)
        return Response(json_bytes(answer), headers={"ETag": f'"{answer.version}"'}, media_type=JSON)

    @operation(
        "DELETE",
        _CLIENT,
        name="deletePresence",
        summary="Say that a client is not in a file any more.",
        scope="read",
        answers={204: {}},
        problems=(InvalidParameter, InvalidPath, ProjectNotFound, FileNotFound),
    )
    async def delete(self, request: Request) -> Response:
        """`DELETE P/presence/{path}/{client_id}`."""
        project, path, client = project_id(request), file_path(request), _client(request)
        await self._hub.require(project)
        _require_own(request, self._presence, project, path, client)
        self._presence.leave(project, path, client)
        return Response(status_code=204)


def _client(request: Request) -> int:
    text: str = request.path_params["client_id"]
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= LARGEST_CLIENT):
        raise InvalidParameter("client_id", f"it is a whole number from 0 to {LARGEST_CLIENT}: that of the Y.Doc")
    return int(text)


def _require_own(request: Request, presence: Presence, project: str, path: str, client: int) -> None:
    """Require that no other subject speaks for the client.

    Raises:
        InvalidParameter
    """
    speaker = presence.speaker(project, path, client)
    if speaker is not None and speaker != access_of(request.scope).subject:
        raise InvalidParameter("client_id", f"another subject speaks for the client {client}")


async def check_presence(request: Request, asked: Mapping[str, PresenceQuestion]) -> dict[str, PresenceQuestion]:
    """Return the presence questions of a request, without files that its credential may not see.

    Raises:
        InvalidPath, BodyTooLarge
    """
    async for question in with_turns(asked.values()):
        if question.state is not None:
            encode_state(question.state)
    return {path: question for path, question in asked.items() if view_of(request).sees(checked_path(path))}


async def say_presence(
    request: Request, presence: Presence, said: Mapping[str, PresenceQuestion], *, of_json: bool
) -> dict[str, PresenceAnswer]:
    """Apply the presence that a request announces, if there is room and no other subject speaks for the client.

    Args:
        of_json: as of `Presence.answer`.

    Returns:
        By file: who is there, except where the client already has the current state, and beyond 4 MiB of states, which
        it is told the next time it asks.
    """
    project, subject = project_id(request), access_of(request.scope).subject
    answers = {}
    size = 0
    async for path, question in with_turns(said.items()):
        client = question.client_id
        if client is not UNSET and presence.speaker(project, path, client) in (None, subject):
            if question.state is None:
                presence.leave(project, path, client)
            else:
                with contextlib.suppress(Overloaded):
                    ttl, clock = question.ttl, question.clock
                    presence.say(project, path, client, question.state, seconds=ttl, clock=clock, subject=subject)
        if size <= _TOLD_BYTES and presence.version_now(project, path) != question.version:
            answer = await presence.answer(project, path, of_json=of_json)
            answers[path] = answer
            size += sum(memoryview(each.state).nbytes for each in answer.clients)
    return answers
