"""`WS /api/graphql`: the graphql-transport-ws protocol, as spoken by npm's graphql-ws."""

import asyncio
import json
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType
from starlette.types import Message, Receive, Scope, Send

from gateway.access.access import OPEN, Access, Check
from gateway.graphql.answers import problem_errors
from gateway.graphql.execution import Asker, Executions, Member, Payload
from gateway.graphql.question import Question
from gateway.http.json_bodies import long_json_of
from gateway.wire.problems import InvalidBody, Problem, Unauthenticated

SUBPROTOCOL = "graphql-transport-ws"
_INIT_SECONDS = 10.0
_MOST_OPERATIONS = 100
"""Concurrent operations of one connection."""
_LONGEST_REASON = 123
"""Bytes (RFC 6455 §5.5.1)."""
_BEARER = "bearer "

_BAD_REQUEST = 4400
_UNAUTHORIZED = 4401
_SUBPROTOCOL_NOT_ACCEPTABLE = 4406
_INIT_TIMEOUT = 4408
_SUBSCRIBER_EXISTS = 4409
_TOO_MANY_INITS = 4429
_TRY_LATER = 1013
_RESTART = 1012


class _Payload(Struct):
    query: str
    variables: dict[str, Any] | None = None
    operationName: str | None = None  # noqa: N815
    extensions: dict[str, Any] | None = None


class _Message(Struct):
    type: str
    id: str | UnsetType = UNSET
    payload: msgspec.Raw | UnsetType = UNSET


class _LongMessage(Struct):
    type: Literal["subscribe"]
    id: str
    payload: _Payload


_LONG = 2**17
"""A message of more characters is decoded in a worker process."""
_decoder = msgspec.json.Decoder(_Message)
_payloads = msgspec.json.Decoder(_Payload)


class _Close(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason.encode()[:_LONGEST_REASON].decode(errors="ignore")


class OverWebSocket:
    """The ASGI endpoint of WebSockets."""

    def __init__(self, executions: Executions) -> None:
        self._executions = executions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        offered = SUBPROTOCOL in scope.get("subprotocols", ())
        await send({"type": "websocket.accept", **({"subprotocol": SUBPROTOCOL} if offered else {})})
        socket = _Socket(self._executions, scope, send)
        try:
            if not offered:
                raise _Close(_SUBPROTOCOL_NOT_ACCEPTABLE, "Subprotocol not acceptable")
            await socket.serve(receive)
        except _Close as close:
            await socket.close(close.code, close.reason)
        finally:
            socket.end()


class _Socket:
    """One connection: its operations, and its caller."""

    def __init__(self, executions: Executions, scope: Scope, send: Send) -> None:
        self._executions = executions
        self._scope = scope
        self._send = send
        self._access: Access | None = scope.get("gateway.access", OPEN)
        self._asker: Asker | None = None
        self._operations: dict[str, Member] = {}
        self._closing: asyncio.Task[None] | None = None
        self._closed = False

    async def serve(self, receive: Receive) -> None:
        try:
            async with asyncio.timeout(_INIT_SECONDS) as patience:
                while (message := await receive())["type"] != "websocket.disconnect":
                    await self._take(message)
                    del message  # it may be large, and the next one may never come
                    if self._asker is not None:
                        patience.reschedule(None)
        except TimeoutError:
            raise _Close(_INIT_TIMEOUT, "Connection initialisation timeout") from None

    async def _take(self, received: Message) -> None:
        if self._closed:
            return
        text = received.get("text") or ""
        try:
            if len(text) > _LONG:
                await self._take_long(text)
                return
            message = _decoder.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise _Close(_BAD_REQUEST, f"Invalid message: {error}") from None
        match message.type:
            case "connection_init":
                await self._initialise(message)
            case "ping":
                payload = b"" if message.payload is UNSET else b',"payload":' + bytes(message.payload)
                await self.send_text('{"type":"pong"' + payload.decode() + "}")
            case "pong":
                pass
            case "subscribe":
                await self._subscribe(message)
            case "complete" if isinstance(message.id, str):
                member = self._operations.pop(message.id, None)
                if member is not None:
                    self._executions.leave(member)
            case _:
                raise _Close(_BAD_REQUEST, "Invalid message")

    async def _take_long(self, text: str) -> None:
        """Take a long message, which is decoded in a worker process. None but an operation is long."""
        asker = self._require_asker()
        try:
            message = await long_json_of(text, _LongMessage)
        except InvalidBody as problem:
            raise _Close(_BAD_REQUEST, f"Invalid message: {problem.detail}") from None
        await self._start(asker, message.id, message.payload)

    async def _initialise(self, message: _Message) -> None:
        if self._asker is not None:
            raise _Close(_TOO_MANY_INITS, "Too many initialisation requests")
        refusal: Problem | None = self._scope.get("gateway.refusal")
        try:
            if refusal is not None:
                raise refusal
            access = self._access or await self._check(message)
        except Unauthenticated as problem:
            raise _Close(_UNAUTHORIZED, problem.detail) from None
        except Problem as problem:
            raise _Close(_TRY_LATER, problem.detail) from None
        self._access = access
        named = next((value for name, value in self._scope["headers"] if name == b"x-author"), None)
        self._asker = Asker(access, True, self._scope.get("gateway.audit"), named)
        access.watch(self._expire)
        await self.send_text('{"type":"connection_ack"}')

    async def _check(self, message: _Message) -> Access:
        """Return the access for `token` or `authorization` in the client's `connectionParams`."""
        try:
            given = msgspec.json.decode(message.payload) if message.payload is not UNSET else {}
        except (msgspec.DecodeError, RecursionError):
            given = {}
        credential = None
        for name, value in given.items() if isinstance(given, dict) else ():
            if name.lower() in ("token", "authorization") and isinstance(value, str):
                credential = value[len(_BEARER) :].strip() if value[: len(_BEARER)].lower() == _BEARER else value
        check: Check | None = self._scope.get("gateway.check")
        if credential is None or check is None:
            raise Unauthenticated
        return await check(credential.encode("utf-8", "replace"), None)

    def _require_asker(self) -> Asker:
        if self._asker is None:
            raise _Close(_UNAUTHORIZED, "Unauthorized")
        return self._asker

    async def _subscribe(self, message: _Message) -> None:
        asker = self._require_asker()
        try:
            payload = _payloads.decode(message.payload if message.payload is not UNSET else b"")
        except (msgspec.DecodeError, RecursionError) as error:
            raise _Close(_BAD_REQUEST, f"Invalid message: {error}") from None
        await self._start(asker, message.id, payload)

    async def _start(self, asker: Asker, identifier: str | UnsetType, payload: _Payload) -> None:
        if not isinstance(identifier, str) or not identifier:
            raise _Close(_BAD_REQUEST, "Invalid message")
        if identifier in self._operations:
            raise _Close(_SUBSCRIBER_EXISTS, f"Subscriber for {identifier} already exists")
        if len(self._operations) >= _MOST_OPERATIONS:
            raise _Close(_BAD_REQUEST, f"more than {_MOST_OPERATIONS} operations at once")
        operation = _Operation(self, identifier)
        try:
            question = Question(payload.query, payload.variables, payload.operationName).check()
        except Problem as problem:
            await operation.send_errors(problem_errors(problem))
        else:
            self._operations[identifier] = self._executions.start(question, asker, operation)

    def forget(self, identifier: str) -> None:
        """Note that an operation has ended."""
        member = self._operations.pop(identifier, None)
        if member is not None:
            self._executions.leave(member)

    def _expire(self) -> None:
        reason = "revoked" if self._access is not None and self._access.ended == "revoked" else "expired"
        self.end()
        self.close_soon(_UNAUTHORIZED, reason)

    def close_soon(self, code: int, reason: str) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self.close(code, reason))

    async def close(self, code: int, reason: str) -> None:
        if not self._closed:
            self._closed = True
            await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def send_text(self, text: str) -> None:
        if not self._closed:
            await self._send({"type": "websocket.send", "text": text})

    def end(self) -> None:
        """Drop the operations: the connection has ended, or is about to."""
        if self._access is not None:
            self._access.unwatch(self._expire)
        for member in self._operations.values():
            self._executions.leave(member)
        self._operations.clear()


class _Operation:
    """The results of one operation, as messages."""

    __slots__ = ("_head", "_id", "_name", "_socket")

    def __init__(self, socket: _Socket, identifier: str) -> None:
        self._socket = socket
        self._name = identifier
        self._id = json.dumps(identifier)
        self._head = f'{{"id":{self._id},"type":"next","payload":'

    async def send_result(self, payload: Payload) -> None:
        tail: str | None = payload.frames.get("text")
        if tail is None:
            tail = payload.frames["text"] = payload.body.decode() + "}"
        await self._socket.send_text(self._head + tail)

    async def send_errors(self, errors: bytes) -> None:
        self._socket.forget(self._name)
        await self._socket.send_text(f'{{"id":{self._id},"type":"error","payload":{errors.decode()}}}')

    async def send_end(self, *, complete: bool) -> None:
        self._socket.forget(self._name)
        if complete:
            await self._socket.send_text(f'{{"id":{self._id},"type":"complete"}}')
        else:
            self._socket.close_soon(_RESTART, "the gateway restarts")

    async def send_heartbeat(self) -> None:
        """Do nothing: the server pings each WebSocket."""
