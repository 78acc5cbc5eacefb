"""`POST|GET /api/graphql`: GraphQL over HTTP, and results as server-sent events (graphql-sse, distinct connections)."""

import asyncio
from typing import Any

from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from strawberry.exceptions import MissingQueryError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType

from gateway.access.access import Access
from gateway.graphql.answers import is_request_error, problem_result, result_parts
from gateway.graphql.caller import Caller
from gateway.graphql.door import PATH
from gateway.graphql.execution import Asker, Executions, Member, Payload
from gateway.graphql.question import Question
from gateway.graphql.schema import schema
from gateway.http.json_bodies import read_json
from gateway.http.permission import access_of
from gateway.http.requests import (
    decode_json,
    header,
    header_bytes,
    prefers,
    require_media_type,
)
from gateway.pace import join_parts, next_slice
from gateway.wire.headers import SAFETY_HEADERS
from gateway.wire.media_types import EVENTS, JSON
from gateway.wire.problems import InvalidBody, InvalidParameter, MethodNotAllowed, Unauthenticated

RESULT = "application/graphql-response+json"
_OFFERS = (JSON, RESULT, EVENTS)
_READS = frozenset([OperationType.QUERY])
_ALL = frozenset([OperationType.QUERY, OperationType.MUTATION])
_CONDITIONS = (b"if-match", b"if-unmodified-since", b"x-incarnation", b"idempotency-key")
"""Headers that make a write conditional or idempotent, which mutations do not support."""
_EVENT_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    *((name.lower().encode(), value.encode()) for name, value in SAFETY_HEADERS.items()),
]


class _Body(Struct):
    """The body of a request (GraphQL over HTTP §5.4)."""

    query: str | UnsetType | None = UNSET
    variables: dict[str, Any] | UnsetType | None = UNSET
    operationName: str | UnsetType | None = UNSET  # noqa: N815
    extensions: dict[str, Any] | UnsetType | None = UNSET


class OverHttp:
    """The ASGI endpoint of HTTP requests."""

    def __init__(self, executions: Executions) -> None:
        self._executions = executions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["gateway.route"] = PATH
        access = access_of(scope)
        request = Request(scope, receive)
        question = await self._question(request)
        may_write = request.method == "POST"
        asker = Asker(access, may_write, scope.get("gateway.audit"), header_bytes(request, b"x-author"))
        accept = header(request, b"accept")
        media_type = prefers(accept, (RESULT, *_OFFERS) if RESULT in (accept or "") else _OFFERS)
        if media_type == EVENTS:
            await _EventStream(self._executions, access, send).serve(question, asker, receive)
            return
        response = await self._answer(question, asker, media_type)
        await response(scope, receive, send)

    async def _question(self, request: Request) -> Question:
        if request.method in ("GET", "HEAD"):
            body = _of_query(request)
        elif request.method == "POST":
            for name in _CONDITIONS:
                if header_bytes(request, name) is not None:
                    raise InvalidParameter(name.decode(), "GraphQL requests do not know this header")
            require_media_type(request, JSON)
            body = await read_json(request, self._executions.services.body_limit, _Body)
        else:
            raise MethodNotAllowed(request.method, ["GET", "HEAD", "POST"])
        if not isinstance(body.query, str):
            raise InvalidBody("`query` is missing")
        return Question(body.query, _given(body.variables), _given(body.operationName)).check()

    async def _answer(self, question: Question, asker: Asker, media_type: str) -> Response:
        caller = Caller(self._executions.services, asker.access, asker.audit, asker.named)
        try:
            result: ExecutionResult = await schema.execute(
                question.query,
                variable_values=question.variables,
                context_value=caller,
                operation_name=question.operation_name,
                allowed_operation_types=_ALL if asker.may_write else _READS,
            )
        except (MissingQueryError, CannotGetOperationTypeError) as error:
            detail = error.as_http_error_reason() if isinstance(error, CannotGetOperationTypeError) else "no query"
            return Response(problem_result(InvalidBody(detail)), _refused(media_type), media_type=media_type)
        except InvalidOperationTypeError as error:
            if error.operation_type is OperationType.MUTATION:
                raise MethodNotAllowed("GET", ["POST"]) from None
            raise InvalidBody("subscriptions are answered with `Accept: text/event-stream`, or by WebSocket") from None
        await next_slice()  # to encode what 10,000 objects have takes long, and so does their end
        status = _refused(media_type) if is_request_error(result) else 200
        return Response(await join_parts(result_parts(result)), status, media_type=media_type)


def _refused(media_type: str) -> int:
    """Return the status of a request error: plain `application/json` reports errors only in its content (§6.4.1)."""
    return 200 if media_type == JSON else 400


def _of_query(request: Request) -> _Body:
    given = request.query_params
    variables: Any = UNSET
    if given.get("variables"):
        variables = decode_json(given["variables"].encode("utf-8", "surrogatepass"), dict[str, Any])
    return _Body(given.get("query"), variables, given.get("operationName"))


def _given(value: Any) -> Any:
    return None if value is UNSET else value


class _EventStream:
    """The results for one client, as server-sent events."""

    def __init__(self, executions: Executions, access: Access, send: Send) -> None:
        self._executions = executions
        self._access = access
        self._send = send
        self._member: Member | None = None
        self._last: asyncio.Task[None] | None = None

    async def serve(self, question: Question, asker: Asker, receive: Receive) -> None:
        await self._send({"type": "http.response.start", "status": 200, "headers": _EVENT_HEADERS})
        await self.send_heartbeat()  # the response head is sent with the first part of the body
        self._access.watch(self._expire)
        self._member = self._executions.start(question, asker, self)
        try:
            while (await receive())["type"] != "http.disconnect":
                pass  # arrives when the client disconnects, and when the answer is complete
        finally:
            self._access.unwatch(self._expire)
            self._executions.leave(self._member)
            if self._last is not None:
                await asyncio.wait([self._last])

    def _expire(self) -> None:
        if self._member is not None and self._member.execution is not None:
            self._member.leave()
            self._last = asyncio.create_task(self._send_expired())

    async def _send_expired(self) -> None:
        problem = Unauthenticated(
            f"the credential has {'been revoked' if self._access.ended == 'revoked' else 'expired'}"
        )
        await self.send_result(Payload(problem_result(problem)))
        await self.send_end(complete=True)

    async def send_result(self, payload: Payload) -> None:
        message: Message | None = payload.frames.get("event")
        if message is None:
            body = b"event: next\ndata: %b\n\n" % payload.body
            message = payload.frames["event"] = {"type": "http.response.body", "body": body, "more_body": True}
        await self._send(message)

    async def send_errors(self, errors: bytes) -> None:
        await self.send_result(Payload(b'{"errors":%b}' % errors))
        await self.send_end(complete=True)

    async def send_end(self, *, complete: bool) -> None:
        body = b"event: complete\ndata:\n\n" if complete else b""
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def send_heartbeat(self) -> None:
        await self._send({"type": "http.response.body", "body": b":\n\n", "more_body": True})
