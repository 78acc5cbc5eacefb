"""Executions: of a query or mutation for one client, and of a subscription for all clients with the same question.

A subscription first catches up on its own. Once it has sent everything, it joins the clients with the same question and
position: each result is executed and encoded once, and sent to all of them. A client that does not read fast enough
leaves the group, and catches up on its own from there.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Protocol, TypeVar

import structlog
from graphql import GraphQLError
from msgspec import Struct
from starlette.requests import ClientDisconnect
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from gateway.access.access import Access
from gateway.access.audit import Audit
from gateway.asgi.coroutines import run_at_once
from gateway.graphql.answers import errors_bytes, result_bytes
from gateway.graphql.caller import Caller
from gateway.graphql.question import Question
from gateway.graphql.schema import schema
from gateway.graphql.services import Services
from gateway.graphql.sources import Source
from gateway.http.requests import json_bytes
from gateway.watch.project import Waiter, WatchedProject
from gateway.watch.waiters import TooManyWaiters
from gateway.wire.problems import Overloaded, ShuttingDown
from storage import StorageError

_log = structlog.get_logger("gateway.graphql")

T = TypeVar("T")

_HAS_LEFT = (OSError, ClientDisconnect, RuntimeError)
"""What sending raises once the client has disconnected."""
_TOLD_TOGETHER = 100
"""How many clients are sent a result before the event loop runs other tasks."""


class Asker(Struct, frozen=True):
    """Who asks, and how."""

    access: Access
    may_write: bool = True
    """Whether mutations are allowed: a GET, which any page can make, must not write."""
    audit: Audit | None = None
    named: bytes | None = None
    """The `X-Author` of the request."""


class Payload:
    """A result, and its frames, shared by the clients that take them in the same form."""

    __slots__ = ("body", "frames")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.frames: dict[str, Any] = {}


class Connection(Protocol):
    """The transport of results to one client."""

    def send_result(self, payload: Payload) -> Awaitable[None]: ...

    def send_errors(self, errors: bytes) -> Awaitable[None]:
        """Report that nothing was executed, and end; `errors` is a list."""

    def send_end(self, *, complete: bool) -> Awaitable[None]:
        """End; `complete`: nothing will follow. Otherwise the client is to reconnect."""

    def send_heartbeat(self) -> Awaitable[None]: ...


class Member:
    """One client of an execution."""

    __slots__ = ("_ended", "asker", "connection", "execution", "place")

    def __init__(self, connection: Connection, asker: Asker) -> None:
        self.connection = connection
        self.asker = asker
        self.execution: Execution | None = None
        self.place: WatchedProject | None = None
        """The project in whose waiters the client occupies a place."""
        self._ended: asyncio.Event | None = None

    async def ended(self) -> None:
        """Wait until nothing more is sent to the client."""
        if self.execution is not None:
            self._ended = self._ended or asyncio.Event()
            await self._ended.wait()

    def leave(self) -> None:
        """Leave the execution."""
        execution, self.execution = self.execution, None
        if execution is not None:
            execution.remove(self)
        if self._ended is not None:
            self._ended.set()


class Executions:
    """All executions of a gateway."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.groups: dict[object, Execution] = {}
        """Subscriptions that wait for a change, by their question."""

    def start(self, question: Question, asker: Asker, connection: Connection) -> Member:
        """Execute a question of any kind for one client."""
        member = Member(connection, asker)
        Execution(self, question, member).begin()
        return member

    def leave(self, member: Member) -> None:
        """Forget a client that has disconnected."""
        member.leave()
        if member.place is not None:
            self.services.hub.waiters.leave(member.place)
            member.place = None


class _Joined(Exception):
    """Another execution has taken over the clients of this one."""


class Execution:
    """One execution, and the clients that its results are sent to.

    Args:
        resumed: the source from which a subscription continues; None: it begins.
    """

    def __init__(
        self,
        executions: Executions,
        question: Question,
        first: Member,
        resumed: Source[Any] | None = None,
        digest: bytes = b"",
    ) -> None:
        self._executions = executions
        self._question = question
        self._asker = first.asker
        self._resumed = resumed
        self._digest = digest
        self._source: Source[Any] | None = None
        self._key: object = None
        self._waiter: Waiter | None = None
        self._is_level = False
        self._task: asyncio.Task[None] | None = None
        self.is_subscription = False
        self.members: dict[Member, None] = {}
        self._adopt(first)

    def begin(self, begun: Awaitable[None] | None = None) -> None:
        self._task = asyncio.create_task(self._run(begun))

    def _adopt(self, member: Member) -> None:
        member.execution = self
        self.members[member] = None

    def remove(self, member: Member) -> None:
        """Stop sending to a client; without clients the execution ends."""
        self.members.pop(member, None)
        if not self.members and self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def _run(self, begun: Awaitable[None] | None) -> None:
        try:
            if begun is not None:
                await begun
            await self._execute()
        except _Joined:
            return
        except _HAS_LEFT as error:
            _log.debug("a client left while it was answered", reason=repr(error))
        except Exception:
            _log.exception("GraphQL execution ended")
            await self._end(complete=False)
        finally:
            for member in list(self.members):
                member.leave()

    async def _execute(self) -> None:
        asker, question = self._asker, self._question
        caller = Caller(self._executions.services, asker.access, asker.audit, asker.named, self)
        refused = frozenset() if asker.may_write else frozenset([OperationType.MUTATION])
        results = await schema.stream(
            question.query,
            variable_values=question.variables,
            context_value=caller,
            operation_name=question.operation_name,
            allowed_operation_types=frozenset(OperationType) - refused,
        )
        async with contextlib.aclosing(results):
            await self._send(results)

    async def _send(self, results: AsyncIterator[Any]) -> None:
        complete = True
        async for result in results:
            errors: list[GraphQLError] = result.errors or []
            if any(isinstance(error.original_error, _Joined) for error in errors):
                raise _Joined
            if isinstance(result, PreExecutionError):
                await self._send_errors(errors)
                return
            if any(_comes_again(error) for error in errors):
                _log.warning("subscription ended", reason=str(errors[0]))
                complete = False
                break
            body = result_bytes(result)
            if self._source is not None and self._source.compares:
                if body == self._digest:
                    continue
                self._digest = body
            await self._tell(Payload(body))
        await self._end(complete=complete)

    # Subscriptions

    async def follow(self, source: Source[T], info: Any) -> AsyncIterator[T]:
        """Yield the events of a source as they come, until the source is finished."""
        self.is_subscription = True
        if self._resumed is not None:
            source = self._resumed
        self._source = source
        self._key = (_asked(self._question, info), self._asker.access.view(source.project))
        waiters = self._executions.services.hub.waiters
        for member in self.members:
            if member.place is None:
                try:
                    waiters.enter(source.watched)
                except TooManyWaiters:
                    raise Overloaded("too many requests are waiting; try again in a moment") from None
                member.place = source.watched
        while not source.finished:
            if source.watched.forgotten:
                await self._follow_anew(source)
            as_of = source.watched.head
            event = await source.next()
            if event is not None:
                yield event
            elif not source.finished:
                await self._rest(source, as_of)

    async def _follow_anew(self, source: Source[Any]) -> None:
        """Move the clients' places to the hub's present entry of the project: the hub has dropped the former one."""
        watched = await self._executions.services.hub.require(source.project)
        for member in self.members:
            if member.place is not None:
                self._executions.services.hub.waiters.change_place(member.place, watched)
                member.place = watched
        source.watched = watched

    async def _rest(self, source: Source[Any], as_of: object) -> None:
        """Wait for a change, together with the other clients that have the same question."""
        executions, waiters = self._executions, self._executions.services.hub.waiters
        if waiters.draining:
            raise ShuttingDown
        if source.watched.forgotten or source.watched.head is not as_of:
            return
        present = executions.groups.get(self._key)
        if present is None:
            executions.groups[self._key] = self
        elif present is not self and present.may_be_joined_by(source):
            present.take_over(self)
            raise _Joined
        changed = asyncio.get_running_loop().create_future()

        def wake() -> None:
            self._waiter = None
            if executions.groups.get(self._key) is self:
                del executions.groups[self._key]
            if not changed.done():
                changed.set_result(None)

        heartbeat = executions.services.heartbeat
        self._waiter = waiters.add(source.watched, source.filter, heartbeat, wake)
        self._is_level = source.level
        try:
            await changed
        finally:
            waiter, self._waiter = self._waiter, None
            if waiter is not None:
                waiters.forget(waiter)
                if executions.groups.get(self._key) is self:
                    del executions.groups[self._key]
        if source.watched.head is as_of:
            self._beat()

    def may_be_joined_by(self, source: Source[Any]) -> bool:
        """Whether this execution waits at the position of `source`, and no change has arrived yet."""
        return (
            self._source is not None
            and self._waiter is not None
            and self._is_level
            and source.level
            and self._executions.services.hub.waiters.waits(self._waiter)
            and self._source.state == source.state
        )

    def take_over(self, other: "Execution") -> None:
        """Take over the clients of another execution that is at the same position."""
        assert self._source is not None
        self._source.catch_up_with(other._source)
        members, other.members = other.members, {}
        for member in members:
            self._adopt(member)

    def _beat(self) -> None:
        for member in list(self.members):
            begun = run_at_once(member.connection.send_heartbeat())
            if begun is not None:
                self._part_with(member, begun)

    async def _tell(self, payload: Payload) -> None:
        """Send a result to every client. A single client is waited for; of many, a slow one goes on alone."""
        if len(self.members) == 1:
            (member,) = self.members
            await member.connection.send_result(payload)
            return
        for number, member in enumerate(list(self.members)):
            if number and number % _TOLD_TOGETHER == 0:
                await asyncio.sleep(0)
            if member.execution is self:
                begun = run_at_once(member.connection.send_result(payload))
                if begun is not None:
                    self._part_with(member, begun)

    def _part_with(self, member: Member, begun: Awaitable[None]) -> None:
        """Move a client to an execution of its own, which begins with the message that is being sent."""
        assert self._source is not None
        self.members.pop(member, None)
        Execution(self._executions, self._question, member, self._source.fork(), self._digest).begin(begun)

    async def _send_errors(self, errors: list[GraphQLError]) -> None:
        body = errors_bytes(errors)
        for member in list(self.members):
            await member.connection.send_errors(body)

    async def _end(self, *, complete: bool) -> None:
        for member in list(self.members):
            with contextlib.suppress(*_HAS_LEFT):
                await member.connection.send_end(complete=complete)


def _comes_again(error: GraphQLError) -> bool:
    """Whether a subscription cannot continue now, and its client is to reconnect: its events could not be read."""
    return error.path is None and isinstance(error.original_error, ShuttingDown | StorageError)


_POSITIONS = {"changes": "since", "file": "fromVersion", "turn": "afterBlock"}
"""By subscription, the argument that says where to begin, and is not part of the question."""


def _asked(question: Question, info: Any) -> object:
    """Return the key of a subscription's question, without its start position if that is a variable used only there."""
    (field,) = info._raw_info.field_nodes
    variables = dict(question.variables or {})
    for argument in field.arguments:
        name = getattr(argument.value, "name", None)  # the name of a variable
        if argument.name.value == _POSITIONS[field.name.value] and name is not None:
            uses = re.findall(rf"\$\s*{name.value}\b", question.query)
            if len(uses) == 2:  # its declaration, and here
                variables.pop(name.value, None)
    return (question.query, question.operation_name, json_bytes(variables))
