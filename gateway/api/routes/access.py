"""Routes of tokens, tickets and the audit log."""

import secrets

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.audit import Audit
from gateway.access.guard import Guard
from gateway.access.records import audit_record, made_token, token_of, token_page
from gateway.access.tickets import LIFE_S, Tickets
from gateway.api.operation import Parameter, operation
from gateway.http.authentication import credential_of
from gateway.http.json_bodies import read_json
from gateway.http.long_answers import json_with_list, response_of
from gateway.http.permission import note
from gateway.http.requests import (
    json_bytes,
    project_id,
    require_media_type,
    whole_number,
)
from gateway.pace import with_turns
from gateway.wire.access import (
    AuditListing,
    MadeToken,
    NewToken,
    Ticket,
    TokenListing,
)
from gateway.wire.media_types import JSON
from gateway.wire.problems import (
    BodyTooLarge,
    InvalidBody,
    InvalidParameter,
    TokenNotFound,
    UnsupportedMediaType,
)
from gateway.wire.values import parse_rfc3339
from storage import Storage, wall_clock

_LIMIT, _MOST = 100, 1000
_NOT_STORED = {"Cache-Control": "no-store"}
_STRING = {"type": "string"}
_NUMBER = {"type": "integer", "minimum": 1}


class AccessRoutes:
    """Handlers of tokens, tickets and the audit log."""

    def __init__(self, storage: Storage, guard: Guard, tickets: Tickets, audit: Audit, *, body_limit: int) -> None:
        self._storage = storage
        self._guard = guard
        self._tickets = tickets
        self._audit = audit
        self._body_limit = body_limit

    @operation(
        "POST",
        "/api/tokens",
        name="createToken",
        summary="A new token. Its secret is in this answer and nowhere else.",
        scope="admin",
        body={JSON: NewToken},
        answers={201: {JSON: MadeToken}},
        problems=(InvalidBody, BodyTooLarge, UnsupportedMediaType),
    )
    async def create_token(self, request: Request) -> Response:
        """`POST /api/tokens`."""
        require_media_type(request, JSON)
        given = await read_json(request, self._body_limit, NewToken)
        token, text = token_of(given)
        await self._storage.add_token(token)
        note(request, "token created", detail=f"{token.id} {token.name}")
        return _json(made_token(token, text), 201)

    @operation(
        "GET",
        "/api/tokens",
        name="listTokens",
        summary="The tokens, oldest first, without their secrets; also those that were revoked or have expired.",
        scope="admin",
        parameters=(
            Parameter("after", "Only tokens newer than this id: `next` of the page before.", _STRING),
            Parameter("limit", f"At most so many; {_LIMIT} unless said.", {**_NUMBER, "maximum": _MOST}),
        ),
        answers={200: {JSON: TokenListing}},
        problems=(InvalidParameter,),
    )
    async def list_tokens(self, request: Request) -> Response:
        """`GET /api/tokens`."""
        limit = whole_number(request, "limit", least=1, most=_MOST) or _LIMIT
        await self._guard.store_uses()
        page = await token_page(self._storage, request.query_params.get("after"), limit)
        return response_of(await json_with_list(page, "tokens"), _NOT_STORED)

    @operation(
        "DELETE",
        "/api/tokens/{token}",
        name="revokeToken",
        summary="Revoke a token: whoever is connected with it is sent away.",
        scope="admin",
        answers={204: {}},
        problems=(TokenNotFound,),
    )
    async def revoke_token(self, request: Request) -> Response:
        """`DELETE /api/tokens/{id}`."""
        identifier = request.path_params["token"]
        token = await self._storage.revoke_token(identifier, wall_clock())
        if token is None:
            raise TokenNotFound
        self._guard.revoke(identifier)
        note(request, "token revoked", detail=f"{token.id} {token.name}")
        return Response(status_code=204)

    @operation(
        "POST",
        "/api/projects/{project}/tickets",
        name="createTicket",
        summary="A ticket, good for one connection to the project: `?ticket=` where no header can be sent.",
        scope="read",
        answers={201: {JSON: Ticket}},
    )
    async def create_ticket(self, request: Request) -> Response:
        """`POST P/tickets`."""
        project, credential = project_id(request), credential_of(request.scope)
        given = secrets.token_urlsafe() if credential is None else await self._tickets.give(credential, project)
        ticket = Ticket(given, LIFE_S)
        return Response(json_bytes(ticket), 201, _NOT_STORED, JSON)

    @operation(
        "GET",
        "/api/audit",
        name="audit",
        summary="Who did what, newest first.",
        scope="admin",
        parameters=(
            Parameter("since", "Only what happened at this time or later (RFC 3339).", _STRING),
            Parameter("project", "Only entries of this project.", _STRING),
            Parameter("subject", "Only entries of this subject.", _STRING),
            Parameter("before", "Only entries with a lower number: `next` of the page before.", _NUMBER),
            Parameter("limit", f"At most so many; {_LIMIT} unless said.", {**_NUMBER, "maximum": _MOST}),
        ),
        answers={200: {JSON: AuditListing}},
        problems=(InvalidParameter,),
    )
    async def audit(self, request: Request) -> Response:
        """`GET /api/audit`."""
        limit = whole_number(request, "limit", least=1, most=_MOST) or _LIMIT
        before = whole_number(request, "before", least=1, most=2**63 - 1)
        since = request.query_params.get("since")
        try:
            start = 0 if since is None else parse_rfc3339(since)
        except ValueError:
            raise InvalidParameter("since", "a time as 2026-11-29T12:00:00Z is expected") from None
        await self._audit.flush()
        project, subject = request.query_params.get("project"), request.query_params.get("subject")
        found = await self._storage.audit(since=start, project=project, subject=subject, before=before, limit=limit + 1)
        entries = [audit_record(entry) async for entry in with_turns(found[:limit])]
        listing = AuditListing(entries, entries[-1].number if len(found) > limit else None)
        return response_of(await json_with_list(listing, "entries"), _NOT_STORED)


def _json(answer: msgspec.Struct, status: int = 200) -> Response:
    return Response(json_bytes(answer), status, _NOT_STORED, JSON)
