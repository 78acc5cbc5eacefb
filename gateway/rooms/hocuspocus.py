"""`WS P/hocuspocus`: Hocuspocus' protocol, with many documents on one socket, each a member of its room."""

import asyncio
import contextlib
import time
from collections.abc import Callable

from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

from gateway.access.access import OPEN, Access, Check
from gateway.access.audit import Audit
from gateway.access.sessions import Question
from gateway.asgi.frames import frame_writer, take_at_once
from gateway.rooms.close_codes import (
    FILE_DELETED,
    FORBIDDEN,
    INVALID_PATH,
    INVALID_UPDATE,
    RESTART,
    TOO_LARGE,
    TRY_LATER,
    UNAUTHENTICATED,
)
from gateway.rooms.connection import Connection
from gateway.rooms.endpoint import SUBPROTOCOL, Work, author_of, closing_on_problems, heed, heed_at_once
from gateway.rooms.member import Member
from gateway.rooms.room import Room
from gateway.rooms.rooms import Rooms
from gateway.watch.connected import Connected
from gateway.wire.problems import Forbidden, Problem, Unauthenticated
from gateway.wire.values import path_fault, valid_project_id
from gateway.yjs.awareness import TooMuchAwareness
from gateway.yjs.hocuspocus import (
    CloseMessage,
    StatelessMessage,
    TokenMessage,
    addressed,
    authenticated,
    parse,
    path_of,
    permission_denied,
    split_frame,
    stateless,
    sync_status,
    token_request,
)
from gateway.yjs.hocuspocus import close as close_message
from gateway.yjs.messages import (
    MalformedMessage,
    MalformedStateVector,
    RoomMessage,
    SyncMessage,
    UnknownMessage,
)
from storage import Author

_MOST_DOCUMENTS = 1000
"""On one socket."""
_RENEW_S = 15.0
"""How many seconds before its credential expires a client is asked for a new one."""
_REASONS = {
    UNAUTHENTICATED: "there is no credential that counts",
    FORBIDDEN: "the credential does not reach that far",
    FILE_DELETED: "the file was deleted",
    TOO_LARGE: "the document would be too large",
    INVALID_UPDATE: "the update is invalid",
}


class HocuspocusDocument(Member):
    """One document on a socket: a client of the document's room.

    A provider counts its changes that are sent but not stored. Connecting, or a forced sync, sets the count to 1, for
    the sync step 2 that answers the gateway's step 1; each update adds 1; each `SyncStatus` subtracts 1. So each of
    these is acknowledged once, after the commit; a sync step 2 that the gateway asks for in addition is not.
    """

    __slots__ = (
        "_access",
        "_address",
        "_answered",
        "_asked",
        "_closing",
        "_due",
        "_left",
        "_renewal",
        "_round",
        "_socket",
        "_unpaid",
        "held",
        "room",
    )

    def __init__(self, name: str, socket: Connection, limit: int, left: Callable[["HocuspocusDocument"], None]) -> None:
        self._begin(limit)
        self._address = addressed(name)
        self._socket = socket
        self._left = left
        self.held = contextlib.ExitStack()
        """Closed when the document ends."""
        self._access: Access | None = None
        self._renewal: asyncio.TimerHandle | None = None
        self._closing = 0
        self._round = 1
        """How often the provider has reset its count."""
        self._asked = self._answered = 0
        """Sync steps 1 sent, and sync steps 2 received as answers."""
        self._due = 0
        """The number of the answer that the provider counts."""
        self._unpaid = 0
        """Updates that are stored in part, until the client has answered with the rest."""
        self.room: Room | None = None

    # What the client may do

    def allow(self, access: Access, *, author: Author, read_only: bool, note: Callable[[int], None]) -> None:
        """Start, or continue, with a credential."""
        renewed = access is not self._access
        if renewed:
            self._forget_access()
            self._access = access
        self.author, self.subject, self.read_only, self.note = author, access.subject, read_only, note
        self._send(authenticated(read_only=read_only))
        if not renewed:
            return
        access.watch(self._end_access)
        if access.expires is not None and access.credential is not None:
            left = access.expires - time.time()
            loop = asyncio.get_running_loop()
            self._renewal = loop.call_later(max(left / 2, left - _RENEW_S, 0.0), self._ask_for_token)

    @property
    def counts(self) -> bool:
        """Whether the credential is still valid."""
        return self._access is not None and self._access.counts

    def _ask_for_token(self) -> None:
        self._send(token_request())

    def _end_access(self) -> None:
        assert self._access is not None
        self.close(UNAUTHENTICATED, f"the credential has {'expired' if self._access.ended == 'expired' else 'ended'}")

    def _forget_access(self) -> None:
        if self._access is not None:
            self._access.unwatch(self._end_access)
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None

    def end(self) -> None:
        """Clean up: the document has left its room, or is about to."""
        self._closing = self._closing or RESTART
        self.held.close()
        self._forget_access()
        self._forget_versions()
        self._ask_nothing_more()

    # As a member of its room

    @property
    def closing(self) -> bool:
        return self._closing != 0 or self._socket.closing

    def enqueue(self, message: bytes, frame: bytes | None = None) -> None:
        """See `Member.enqueue`; `frame` encodes the message without a document name, and is not used here."""
        self._send(message)

    def _send(self, message: bytes) -> None:
        if not self._closing:
            self._socket.enqueue(self._address + message)

    def close(self, code: int, reason: str = "", last: bytes = b"") -> None:
        """End the document for good; or, if the client is to reconnect, the socket with all its documents: only then
        does a provider reconnect by itself."""
        if self._closing:
            return
        if code in (RESTART, TRY_LATER):
            self._socket.close(code, reason)
            return
        told = f"{code}: {reason or _REASONS[code]}"
        if code in (UNAUTHENTICATED, FORBIDDEN):
            self._send(permission_denied(told))
        self._send(close_message(told))
        self._closing = code
        self._forget_versions()
        asyncio.get_running_loop().call_soon(self._left, self)  # the room may be iterating over its clients

    def refuse_addition(self, reason: str) -> None:
        """Report that the update is not stored: the provider's count stays, and the document stays readable."""
        self._send(sync_status(saved=False))

    def tell_stateless(self, payload: str) -> None:
        self._send(stateless(payload))

    # What is stored

    def ask(self, state_vector: bytes) -> None:
        self._asked += 1
        super().ask(state_vector)

    def begin_round(self) -> None:
        """Note that the provider has sent its sync step 1, and counts from 1."""
        self._round += 1
        self._unpaid = 0
        self._due = 0

    def ask_for_all(self) -> None:
        """Note that the provider counts the answer to the next sync step 1."""
        self._due = self._asked + 1

    def received(self, *, is_step_2: bool) -> int:
        if is_step_2:
            self._answered += 1
            return self._round if self._answered == self._due else 0
        return self._round

    def stored(self, receipt: int, *, whole: bool, is_step_2: bool) -> None:
        paid = 0
        if receipt and receipt == self._round:
            if whole:
                paid = 1
            else:
                self._unpaid += 1
        if whole and is_step_2:
            paid, self._unpaid = paid + self._unpaid, 0
        for _ in range(paid):
            self._send(sync_status(saved=True))


class HocuspocusEndpoint:
    """The ASGI endpoint of Hocuspocus' protocol."""

    def __init__(self, rooms: Rooms, connected: Connected) -> None:
        self._rooms = rooms
        self._connected = connected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        chosen = {"subprotocol": SUBPROTOCOL} if SUBPROTOCOL in scope.get("subprotocols", ()) else {}
        await send({"type": "websocket.accept", **chosen})
        socket = Connection(send, self._rooms.queue_limit, write_frame=frame_writer(scope))
        client = _Client(self._rooms, self._connected, socket, scope)
        take_at_once(scope, client.take_at_once)
        try:
            await client.serve(receive)
        except asyncio.CancelledError:
            if not socket.closing:
                raise  # the server is stopping; the connection did not cancel itself
        finally:
            client.leave_all()
            self._rooms.closes[socket.close_code] += 1
            await socket.end()


class _Client:
    """One socket, and the documents that are open on it."""

    def __init__(self, rooms: Rooms, connected: Connected, socket: Connection, scope: Scope) -> None:
        self._rooms = rooms
        self._connected = connected
        self._name = QueryParams(scope["query_string"]).get("client")
        """The name under which push messages are sent to the client."""
        self._socket = socket
        self._scope = scope
        self._project: str = scope["path_params"]["project"]
        self._documents: dict[str, HocuspocusDocument] = {}

    async def serve(self, receive: Receive) -> None:
        work, turn = Work(), self._rooms.turn
        while (message := await receive())["type"] != "websocket.disconnect":
            await turn.take()
            frame, sent = message.get("bytes") or b"", self._socket.sent
            listeners = await self._take(frame) if self._socket.accepts_updates else 0
            turn.note()
            size = len(frame)
            del message, frame  # it may be large, and the next one may never come
            await work.done(size + self._socket.sent - sent, listeners)
        await turn.take()

    def leave_all(self) -> None:
        for name in list(self._documents):
            self._leave(name)

    async def _take(self, frame: bytes) -> int:
        """Handle a frame; return how many clients listen to its document. Messages that are not of the protocol are
        ignored, as are those for a document that is not open: a provider repeats them in its sync once it is open."""
        try:
            name, message = split_frame(frame)
            document = self._documents.get(name)
            if document is not None and document.closing and not self._socket.closing:
                self._leave(name)
                document = None
            if document is None or document.room is None:
                await self._begin(name, message)
                return 0
            with closing_on_problems(document):
                await self._heed(name, document, document.room, message)
            return len(document.room.connections)
        except (UnknownMessage, MalformedMessage, MalformedStateVector, TooMuchAwareness):
            self._rooms.ignored += 1
            return 0

    def take_at_once(self, frame: bytes) -> bool:
        """Handle a frame where it is read, if its document is open and nothing has to be waited for; False: nothing
        was done, and `_take` must."""
        try:
            name, message = split_frame(frame)
            document = self._documents.get(name)
            if document is None or document.room is None or document.closing:
                return False
            said = parse(message)
            if not isinstance(said, RoomMessage):
                return False
            return heed_at_once(document.room, document, said)
        except (UnknownMessage, MalformedMessage, MalformedStateVector, TooMuchAwareness):
            return False

    async def _begin(self, name: str, message: bytes | memoryview) -> None:
        """Open a document with the credential of its first message."""
        token = parse(message)
        if not isinstance(token, TokenMessage):
            raise UnknownMessage("the document is not open")
        path = path_of(name)
        access = await self._access(token.token, path)
        refusal = access if isinstance(access, str) else self._refusal(path, access)
        if isinstance(access, str) or refusal is not None:
            self._socket.enqueue(addressed(name) + permission_denied(refusal or ""))
            return
        document = HocuspocusDocument(name, self._socket, self._rooms.queue_limit, lambda gone: self._gone(name, gone))
        self._documents[name] = document
        document.held.enter_context(self._connected.held(self._project, self._name))
        self._allow(document, path, access)
        with closing_on_problems(document):
            document.room = await self._rooms.join(self._project, path, document)
        if document.room is None:
            self._documents.pop(name, None)
            document.end()
        elif self._documents.get(name) is not document:  # its credential expired or was revoked meanwhile
            self._rooms.leave(document.room, document)
        else:
            await document.room.introduce(document)

    async def _heed(self, name: str, document: HocuspocusDocument, room: Room, message: bytes | memoryview) -> None:
        match parse(message):
            case TokenMessage(token):
                await self._renew(name, document, token)
            case _ if not document.counts:
                pass  # the document is about to be closed
            case CloseMessage():
                self._leave(name)
            case StatelessMessage(payload, "all"):
                self._rooms.broadcast(room, payload)
            case StatelessMessage():
                pass  # for a hook of the application's own server
            case SyncMessage("step_1", state_vector):
                document.begin_round()
                await room.answer_step_1(document, state_vector)
                document.ask_for_all()
                await room.ask(document)
            case said:
                await heed(room, document, said)

    async def _renew(self, name: str, document: HocuspocusDocument, token: str) -> None:
        path = path_of(name)
        access = await self._access(token, path)
        if isinstance(access, str):
            document.close(UNAUTHENTICATED, access.partition(": ")[2])
        elif (view := access.view(self._project)) is None or not view.sees(path):
            document.close(FORBIDDEN)
        else:
            self._allow(document, path, access)

    def _allow(self, document: HocuspocusDocument, path: str, access: Access) -> None:
        view = access.view(self._project)
        audit: Audit | None = self._scope.get("gateway.audit")

        def note(version: int) -> None:
            if audit is not None:
                audit.note("write", access, project=self._project, path=path, version=version)

        author = author_of(self._scope, access, view)
        document.allow(access, author=author, read_only=view is None or not view.may("write"), note=note)

    async def _access(self, token: str, path: str) -> Access | str:
        """Return the access of a token, or without a token that of the opening request; else the reason for refusal."""
        check: Check | None = self._scope.get("gateway.check")
        if check is None:
            return OPEN
        if not token:
            access: Access | None = self._scope["gateway.access"]
            if access is not None and access.counts:
                return access
        try:
            return await check(token.encode() if token else None, Question(self._project, path, ("write", "read")))
        except Forbidden as problem:
            return f"{FORBIDDEN}: {problem.detail}"
        except Unauthenticated as problem:
            return f"{UNAUTHENTICATED}: {problem.detail}"
        except Problem as problem:
            return f"{TRY_LATER}: {problem.detail}"

    def _refusal(self, path: str, access: Access) -> str | None:
        """Return the reason why a document is not opened; None if it may be."""
        fault = path_fault(path) if valid_project_id(self._project) else "not a project"
        if fault is not None:
            return f"{INVALID_PATH}: {fault}"
        view = access.view(self._project)
        if view is None or not view.sees(path):
            return f"{FORBIDDEN}: {_REASONS[FORBIDDEN]}"
        if len(self._documents) >= _MOST_DOCUMENTS:
            return f"{TRY_LATER}: more than {_MOST_DOCUMENTS} documents on one socket"
        if self._rooms.full:
            return f"{TRY_LATER}: too many documents are open"
        return None

    def _gone(self, name: str, document: HocuspocusDocument) -> None:
        if self._documents.get(name) is document:
            self._leave(name)

    def _leave(self, name: str) -> None:
        document = self._documents.pop(name)
        document.end()
        if document.room is not None:
            self._rooms.leave(document.room, document)
