"""Routes of sessions and turns: the work of a coding agent."""

from typing import get_args

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gateway.api.operation import WAIT_SCHEMA, Parameter, operation
from gateway.http.json_bodies import json_of, read_json
from gateway.http.long_answers import PLACE, json_with_list, response_of
from gateway.http.permission import access_of
from gateway.http.requests import (
    header,
    if_none_match,
    json_bytes,
    once,
    project_id,
    read_body,
    require_media_type,
    whole_number,
)
from gateway.http.waits import SECONDS_LEFT, OpenTurnStream, empty_after_wait, parse_wait, wait_for_change
from gateway.pace import with_turns
from gateway.turns.dialects import DialectName
from gateway.turns.events import AgUiEvents, AiSdkEvents, BlockEvents, EventFormat, end_cursor, position_of
from gateway.turns.given_blocks import blocks_of, given_blocks, given_slices
from gateway.turns.output import OutputOptions
from gateway.turns.store import Turns
from gateway.watch.filter import ChangeFilter
from gateway.watch.hub import Hub
from gateway.watch.project import WatchedProject
from gateway.wire.media_types import EVENTS, JSON, NDJSON
from gateway.wire.problems import (
    BlockConflict,
    BodyTooLarge,
    IllegalTransition,
    InvalidBody,
    InvalidParameter,
    KeyReused,
    OutputConflict,
    Overloaded,
    ProjectNotFound,
    PromptTooLarge,
    SessionNotFound,
    TurnFinished,
    TurnNotFound,
    Unauthenticated,
    UnsupportedMediaType,
    WriteContention,
)
from gateway.wire.tags import turn_tag
from gateway.wire.turns import (
    Block,
    BlockBatch,
    BlocksReceipt,
    NewSession,
    NewTurn,
    OutputReceipt,
    RunAgentInput,
    Session,
    SessionListing,
    Turn,
    TurnListing,
    TurnPatch,
    TurnState,
    TurnSummary,
)
from gateway.wire.values import rfc3339
from gateway.workers.pool import client_of_request, run_in_worker
from storage import FINISHED, SessionHead, StoredBlock, StoredTurn, TurnHead

_SESSIONS = "/api/projects/{project}/sessions"
_SESSION = _SESSIONS + "/{session}"
_TURNS = _SESSION + "/turns"
_TURN = _TURNS + "/{turn}"
_LIMIT, _MOST = 100, 1000
_PAGE_LENGTH = 2**20
"""The approximate maximum of characters in a list of turns."""
_DIALECTS = get_args(DialectName)
_FORMATS = get_args(EventFormat)
_STRING = {"type": "string"}
_LIGHT_BATCH = 128 * 1024
"""Batches up to this many bytes are parsed in the event loop: a few milliseconds, even for nothing but empty lists."""
_LONG_CONTENT = 64 * 1024
"""The content of a block of more than so many bytes is not copied into the answer."""
_LATENESS = 5.0
"""How many seconds the end of a grace period may be late before a reader is answered without it."""

_PAGE = (
    Parameter("limit", f"At most so many; {_LIMIT} unless said.", {"type": "integer", "minimum": 1, "maximum": _MOST}),
    Parameter("after", "Only older ones than this: `next` of the page before.", {"type": "string"}),
)
_READ = (
    Parameter("wait", "Seconds to wait for a change where there is none.", WAIT_SCHEMA),
    Parameter("If-None-Match", "The tag of the state that is known.", {"type": "string"}, "header"),
)
_KEY = Parameter(
    "Idempotency-Key",
    "A repetition with the same key is answered as the first time, for 24 hours.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "header",
)
_COUNT = {"type": "integer", "minimum": 0}


_MISSING = (ProjectNotFound, SessionNotFound, TurnNotFound)
_GIVEN = (InvalidBody, BodyTooLarge, UnsupportedMediaType)


class TurnRoutes:
    """Handlers of sessions, turns and blocks."""

    def __init__(self, turns: Turns, hub: Hub, *, body_limit: int, prompt_limit: int, answer_limit: int) -> None:
        self._turns = turns
        self._hub = hub
        self._body_limit = body_limit
        self._prompt_limit = prompt_limit
        self._answer_limit = answer_limit

    # Sessions

    @operation(
        "POST",
        _SESSIONS,
        name="createSession",
        summary="A new session.",
        scope="turns",
        parameters=(_KEY,),
        body={JSON: NewSession},
        answers={201: {JSON: Session}},
        problems=(KeyReused, *_GIVEN),
    )
    async def create_session(self, request: Request) -> Response:
        """`POST P/sessions`."""
        project = project_id(request)
        require_media_type(request, JSON)
        body = await read_body(request, self._body_limit)
        given = await json_of(body or b"{}", NewSession)
        return _json(_session(await self._turns.create_session(project, given.title, await once(request, body))), 201)

    @operation(
        "GET",
        _SESSIONS,
        name="listSessions",
        summary="The sessions of a project, newest first.",
        scope="read turns",
        parameters=_PAGE,
        answers={200: {JSON: SessionListing}},
        problems=(InvalidParameter, ProjectNotFound),
    )
    async def list_sessions(self, request: Request) -> Response:
        """`GET P/sessions`."""
        project, (after, limit) = project_id(request), _page(request)
        found = await self._turns.sessions(project, after, limit + 1)
        sessions = [_session(session) async for session in with_turns(found[:limit])]
        listing = SessionListing(sessions, sessions[-1].id if len(found) > limit else None)
        return response_of(await json_with_list(listing, "sessions"))

    @operation(
        "GET",
        _SESSION,
        name="readSession",
        summary="A session.",
        scope="read turns",
        answers={200: {JSON: Session}},
        problems=(ProjectNotFound, SessionNotFound),
    )
    async def read_session(self, request: Request) -> Response:
        """`GET S`."""
        project = project_id(request)
        return _json(_session(await self._turns.session(project, request.path_params["session"])))

    # Turns

    @operation(
        "POST",
        _TURNS,
        name="createTurn",
        summary="A new turn, pending.",
        scope="turns",
        parameters=(_KEY,),
        body={JSON: NewTurn},
        answers={201: {JSON: Turn}},
        problems=(KeyReused, PromptTooLarge, ProjectNotFound, SessionNotFound, *_GIVEN),
    )
    async def create(self, request: Request) -> Response:
        """`POST S/turns`."""
        project = project_id(request)
        require_media_type(request, JSON)
        body = await read_body(request, self._body_limit)
        given = await json_of(body, NewTurn)
        if len(given.prompt) > self._prompt_limit or len(given.prompt.encode()) > self._prompt_limit:
            raise PromptTooLarge(self._prompt_limit)
        head = await self._turns.create(
            project, request.path_params["session"], given.prompt, await once(request, body)
        )
        answer, _ = await _turn(StoredTurn(head, given.prompt))
        return _json(answer, 201)

    @operation(
        "GET",
        _TURNS,
        name="listTurns",
        summary="The turns of a session, newest first.",
        scope="read turns",
        parameters=_PAGE,
        answers={200: {JSON: TurnListing}},
        problems=(InvalidParameter, ProjectNotFound, SessionNotFound),
    )
    async def list_turns(self, request: Request) -> Response:
        """`GET S/turns`."""
        project, (after, limit) = project_id(request), _page(request)
        found = await self._turns.turns(project, request.path_params["session"], after, limit + 1)
        turns = [_summary(turn) async for turn in with_turns(_within(found[:limit], _PAGE_LENGTH))]
        listing = TurnListing(turns, turns[-1].id if len(found) > len(turns) else None)
        return response_of(await json_with_list(listing, "turns"))

    @operation(
        "GET",
        _TURN,
        name="readTurn",
        summary="A turn with its blocks, or with those that the client lacks.",
        scope="read turns",
        parameters=(Parameter("after_block", "Leave out the first so many blocks.", _COUNT), *_READ),
        answers={200: {JSON: Turn}, 304: {}},
        problems=(InvalidParameter, Overloaded, *_MISSING),
    )
    async def read(self, request: Request) -> Response:
        """`GET S/turns/{turn_id}`."""
        project, session, turn = _turn_of(request)
        wait, after_block = parse_wait(request), whole_number(request, "after_block", least=0)
        tags = if_none_match(request)
        watched = await self._hub.require_as_of(project, tags)
        as_of = watched.head
        head = await self._turns.head(project, session, turn)
        if tags is not None and tags.match(_tag(watched, head)):
            wait_for_change(request, wait, watched, as_of, _filter_of(head))
            return _unchanged(request, watched, head)
        if tags is None and after_block is not None and _nothing_after(request, head, after_block):
            wait_for_change(request, wait, watched, as_of, _filter_of(head))
        if tags is None and after_block is None and head.settling:
            # A client that reads the turn only once, after its result, learns how the turn has ended.
            wait_for_change(request, self._turns.grace + _LATENESS, watched, as_of, _filter_of(head))
        stored = await self._turns.read(project, session, turn, after_block or 0, self._answer_limit)
        answer, apart = await _turn(stored)
        tag: str | None = _tag(watched, stored.head)
        if stored.blocks and stored.blocks[-1].index + 1 < stored.head.block_count:
            answer, tag = msgspec.structs.replace(answer, more=True), None  # no tag: the answer is incomplete
        return response_of(await json_with_list(answer, "blocks", apart), _headers(tag))

    @operation(
        "GET",
        _TURN + "/status",
        name="turnStatus",
        summary="The least that tells whether a turn has changed.",
        scope="read turns",
        parameters=_READ,
        answers={200: {JSON: TurnState}, 304: {}},
        problems=(InvalidParameter, Overloaded, *_MISSING),
    )
    async def status(self, request: Request) -> Response:
        """`GET S/turns/{turn_id}/status`."""
        project, session, turn = _turn_of(request)
        wait = parse_wait(request)
        tags = if_none_match(request)
        watched = await self._hub.require_as_of(project, tags)
        as_of = watched.head
        head = await self._turns.head(project, session, turn)
        if tags is not None and tags.match(_tag(watched, head)):
            wait_for_change(request, wait, watched, as_of, _filter_of(head))
            return _unchanged(request, watched, head)
        state = TurnState(head.status, head.block_count, rfc3339(head.last_updated))
        return _json(state, 200, _tag(watched, head))

    @operation(
        "PATCH",
        _TURN,
        name="setTurnStatus",
        summary="One step of the turn's life.",
        scope="turns",
        body={JSON: TurnPatch},
        answers={200: {JSON: TurnSummary}},
        problems=(InvalidParameter, TurnFinished, IllegalTransition, WriteContention, *_MISSING, *_GIVEN),
    )
    async def set_status(self, request: Request) -> Response:
        """`PATCH S/turns/{turn_id}`."""
        project, session, turn = _turn_of(request)
        require_media_type(request, JSON)
        patch = await read_json(request, self._body_limit, TurnPatch)
        if patch.error is not None and patch.status not in ("failed", "cancelled"):
            raise InvalidParameter("error", "only a turn that becomes failed or cancelled has one")
        return _json(_summary(await self._turns.set_status(project, session, turn, patch.status, patch.error)))

    @operation(
        "POST",
        _TURN + "/blocks",
        name="appendBlocks",
        summary="Add blocks; the first starts the turn.",
        scope="turns",
        parameters=(_KEY,),
        body={JSON: BlockBatch},
        answers={200: {JSON: BlocksReceipt}},
        problems=(InvalidParameter, KeyReused, TurnFinished, BlockConflict, WriteContention, *_MISSING, *_GIVEN),
    )
    async def append_blocks(self, request: Request) -> Response:
        """`POST S/turns/{turn_id}/blocks`."""
        project, session, turn = _turn_of(request)
        require_media_type(request, JSON)
        body = await read_body(request, self._body_limit)
        if len(body) <= _LIGHT_BATCH:
            first_index, blocks = given_blocks(body)
        else:
            first_index, slices = await run_in_worker(given_slices, body)
            blocks = tuple([block async for each in with_turns(slices, 1) for block in blocks_of(each)])
        added = await self._turns.append_blocks(project, session, turn, blocks, first_index, await once(request, body))
        return _json(BlocksReceipt(added.first_index, "running", added.block_count, rfc3339(added.last_updated)))

    @operation(
        "POST",
        _TURN + "/output",
        name="appendOutput",
        summary="What the agent prints, as it prints it, streamed or in pieces. An empty piece renews the lease.",
        scope="turns",
        parameters=(
            Parameter("offset", "Where the piece begins, in bytes of all output; a retry is harmless.", _COUNT),
            Parameter(
                "dialect",
                "How the agent tells what it does; `auto` unless said: the first line decides.",
                {"type": "string", "enum": list(_DIALECTS)},
            ),
            Parameter(
                "final",
                "`true`: the output ends with this piece; `false`: more comes. Left out, a result ends"
                " the turn after a grace.",
                {"type": "boolean"},
            ),
        ),
        body={NDJSON: bytes},
        answers={200: {JSON: OutputReceipt}},
        problems=(
            InvalidParameter,
            TurnFinished,
            OutputConflict,
            WriteContention,
            UnsupportedMediaType,
            Overloaded,
            *_MISSING,
        ),
    )
    async def output(self, request: Request) -> Response:
        """`POST S/turns/{turn_id}/output`: store the agent's output as it arrives."""
        project, session, turn = _turn_of(request)
        require_media_type(request, NDJSON)
        offset = whole_number(request, "offset", least=0)
        options = OutputOptions(_dialect(request), _truth(request, "final"))
        client_of_request.set(None)  # a worker's job would take the rest of the body for a sign of the client's life
        piece = await self._turns.open_output(project, session, turn, offset, options)
        try:
            try:
                async for chunk in request.stream():
                    access_of(request.scope)
                    await piece.feed(chunk)
            except (ClientDisconnect, Unauthenticated, Overloaded):
                await piece.keep()
                raise
            head = await piece.end()
        finally:
            piece.release()
        lease, time = self._turns.lease, rfc3339(head.last_updated)
        result = msgspec.UNSET if head.result_status is None else head.result_status
        return _json(OutputReceipt(head.status, head.block_count, time, head.output_offset, lease, result))

    @operation(
        "GET",
        _TURN + "/events",
        name="turnEvents",
        summary="A turn as server-sent events, from its first block to its end, in the format of the client's toolkit.",
        scope="read turns",
        parameters=(
            Parameter(
                "format",
                "`blocks` unless said: events `block`, `delta` and `status`; `ai-sdk`: the AI SDK's UI message stream;"
                " `ag-ui`: the events of AG-UI.",
                {"type": "string", "enum": list(_FORMATS)},
            ),
            Parameter("after_block", "With `blocks`: leave out the first so many blocks.", _COUNT),
            Parameter("replay", "With `ai-sdk`: send a turn that has ended, too.", {"type": "boolean"}),
            Parameter("ticket", "Stands for the credential where no header can be sent.", {"type": "string"}),
            Parameter("Last-Event-ID", "With `blocks`: where to go on; beats `after_block`.", _STRING, "header"),
        ),
        answers={200: {EVENTS: str}, 204: {}},
        problems=(InvalidParameter, Overloaded, *_MISSING),
    )
    async def events(self, request: Request) -> Response:
        """`GET S/turns/{turn_id}/events`."""
        project, session, turn = _turn_of(request)
        form = request.query_params.get("format", "blocks")
        after_block, replay = whole_number(request, "after_block", least=0), _truth(request, "replay")
        watched = await self._hub.require(project)
        head = await self._turns.head(project, session, turn)
        if form == "blocks":
            last_id = header(request, b"last-event-id")
            if last_id == end_cursor(head) and head.status in FINISHED:
                return Response(status_code=204)  # an `EventSource` does not ask again after it
            position, reset = min(after_block or 0, head.block_count), False
            if last_id is not None:
                # A strange cursor is told by `reset`: `EventSource` never retries after an error.
                known = position_of(last_id, head)
                position, reset = known or 0, known is None
            raise OpenTurnStream(project, watched, BlockEvents(session, turn, reset=reset), position)
        if form == "ai-sdk":
            if head.status in FINISHED and not replay:
                return Response(status_code=204)
            raise OpenTurnStream(project, watched, AiSdkEvents(session, turn), 0)
        if form == "ag-ui":
            raise OpenTurnStream(project, watched, AgUiEvents(session, turn), 0)
        raise InvalidParameter("format", f"one of {', '.join(_FORMATS)} is expected")

    @operation(
        "POST",
        _TURN + "/events",
        name="runTurnEvents",
        summary="The same in AG-UI, as its clients ask: the body names what they call the session and the turn.",
        scope="read turns",
        parameters=(Parameter("format", "`ag-ui`, also where it is left out.", {"type": "string", "enum": ["ag-ui"]}),),
        body={JSON: RunAgentInput},
        answers={200: {EVENTS: str}},
        problems=(InvalidParameter, Overloaded, *_MISSING, *_GIVEN),
    )
    async def run_events(self, request: Request) -> Response:
        """`POST S/turns/{turn_id}/events`: writes nothing."""
        project, session, turn = _turn_of(request)
        require_media_type(request, JSON)
        if request.query_params.get("format", "ag-ui") != "ag-ui":
            raise InvalidParameter("format", "`ag-ui` is expected")
        given = await read_json(request, self._body_limit, RunAgentInput)
        watched = await self._hub.require(project)
        await self._turns.head(project, session, turn)
        events = AgUiEvents(session, turn, thread_id=given.threadId, run_id=given.runId)
        raise OpenTurnStream(project, watched, events, 0)


def _turn_of(request: Request) -> tuple[str, str, str]:
    return project_id(request), request.path_params["session"], request.path_params["turn"]


def _page(request: Request) -> tuple[str | None, int]:
    return request.query_params.get("after"), whole_number(request, "limit", least=1, most=_MOST) or _LIMIT


def _tag(watched: WatchedProject, head: TurnHead) -> str:
    assert watched.head is not None
    return turn_tag(watched.head, head)


def _filter_of(head: TurnHead) -> ChangeFilter:
    return ChangeFilter(files=False, turn=(head.session_id, head.turn_id))


def _within(turns: list[StoredTurn], length: int) -> list[StoredTurn]:
    """Return the first turns whose prompts and errors fit in `length` characters, but at least one."""
    for number, turn in enumerate(turns):
        length -= len(turn.prompt) + len(turn.head.error or "")
        if length < 0 < number:
            return turns[:number]
    return turns


def _nothing_after(request: Request, head: TurnHead, after_block: int) -> bool:
    """Whether a client with `after_block` blocks and no tag is up to date, as far as can be determined."""
    if head.grown and SECONDS_LEFT in request.scope:
        return False  # the turn changed while the client waited, and its last block may have grown
    return head.block_count <= after_block and head.status not in FINISHED


def _dialect(request: Request) -> DialectName:
    given = request.query_params.get("dialect", "auto")
    if given not in _DIALECTS:
        raise InvalidParameter("dialect", f"one of {', '.join(_DIALECTS)} is expected")
    return given  # type: ignore[return-value]


def _truth(request: Request, name: str) -> bool | None:
    given = request.query_params.get(name)
    if given not in (None, "true", "false"):
        raise InvalidParameter(name, "`true` or `false` is expected")
    return None if given is None else given == "true"


def _unchanged(request: Request, watched: WatchedProject, head: TurnHead) -> Response:
    return Response(status_code=304, headers={"ETag": f'"{_tag(watched, head)}"', **empty_after_wait(request)})


def _json(answer: msgspec.Struct, status_code: int = 200, tag: str | None = None) -> Response:
    return Response(json_bytes(answer), status_code=status_code, headers=_headers(tag), media_type=JSON)


def _headers(tag: str | None) -> dict[str, str] | None:
    return None if tag is None else {"ETag": f'"{tag}"'}


def _session(head: SessionHead) -> Session:
    return Session(head.session_id, head.title, rfc3339(head.created_at))


def _summary(turn: StoredTurn) -> TurnSummary:
    head = turn.head
    return TurnSummary(
        id=head.turn_id,
        session_id=head.session_id,
        prompt=turn.prompt,
        status=head.status,
        block_count=head.block_count,
        error=head.error,
        created_at=rfc3339(head.created_at),
        started_at=_time(head.started_at),
        completed_at=_time(head.completed_at),
        last_updated=rfc3339(head.last_updated),
        prompt_cut=True if turn.prompt_cut else msgspec.UNSET,
    )


async def _turn(turn: StoredTurn) -> tuple[Turn, dict[int, bytes]]:
    """Return a turn, and for `json_with_list` the long contents of its blocks, which are not in it."""
    blocks = [_block(turn.head.turn_id, block) async for block in with_turns(turn.blocks)]
    apart = {place: block.content for place, block in enumerate(turn.blocks) if _is_long(block)}
    return Turn(blocks=blocks, **msgspec.structs.asdict(_summary(turn))), apart


def _is_long(block: StoredBlock) -> bool:
    return len(block.content) > _LONG_CONTENT


def _block(turn_id: str, block: StoredBlock) -> Block:
    content = msgspec.Raw(PLACE if _is_long(block) else block.content)
    return Block(f"{turn_id}.{block.index}", block.index, block.type, content, rfc3339(block.created_at))


def _time(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else rfc3339(milliseconds)
