"""Operations of the API: a handler together with its description in `/openapi.json`."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.access import OPEN
from gateway.access.audit import Audit
from gateway.access.grants import EVERYTHING, Need
from gateway.asgi.requests import named_headers
from gateway.http.permission import access_of
from gateway.wire.problems import Forbidden, InvalidParameter, MethodNotAllowed, Problem

Handler = Callable[[Request], Awaitable[Response]]

WAIT_SCHEMA: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 60}


class Parameter(Struct, frozen=True):
    """A query parameter or a header."""

    name: str
    description: str
    schema: dict[str, Any]
    place: Literal["query", "header"] = "query"


class Operation(Struct, frozen=True):
    """A method on a path template."""

    method: str
    path: str
    name: str
    handler: Handler
    summary: str
    parameters: tuple[Parameter, ...] = ()
    body: dict[str, Any] | None = None
    """The type of the request body by media type: a struct, `bytes`, `str`, or a tuple of alternatives."""
    answers: dict[int, dict[str, Any]] = {}
    """The type of the answer by status and media type; an empty dict for an answer without a body."""
    headers: tuple[str, ...] = ()
    """The headers that are specific to the answers of this operation."""
    problems: tuple[type[Problem], ...] = ()
    scope: Need | None = None
    """What the credential must allow in the project of the path. In a path without a project, `admin` means admin of
    everything, and the handler looks what another scope lets see. None: no credential is required."""
    may_need: tuple[Need, ...] = ()
    """What a request needs in addition if its body asks for more; most first."""

    @property
    def project(self) -> bool:
        """Whether the operation belongs to a project."""
        return "{project}" in self.path


Method = TypeVar("Method", bound=Callable[..., Awaitable[Response]])


def operation(
    method: str,
    path: str,
    *,
    name: str,
    summary: str,
    scope: Need | None = None,
    may_need: tuple[Need, ...] = (),
    parameters: tuple[Parameter, ...] = (),
    body: dict[str, Any] | None = None,
    answers: dict[int, dict[str, Any]],
    headers: tuple[str, ...] = (),
    problems: tuple[type[Problem], ...] = (),
) -> Callable[[Method], Method]:
    """Decorator that declares a method as the handler of an operation; the arguments are those of `Operation`."""

    def declare(handler: Method) -> Method:
        handler._declared = Operation(  # type: ignore[attr-defined]
            method, path, name, _undeclared, summary, parameters, body, answers, headers, problems, scope, may_need
        )
        return handler

    return declare


async def _undeclared(request: Request) -> Response:
    raise NotImplementedError


def operations_of(routes: object) -> list[Operation]:
    """Return the operations that the methods of an object declare, in order of definition."""
    return [
        msgspec.structs.replace(method._declared, handler=getattr(routes, name))
        for name, method in vars(type(routes)).items()
        if hasattr(method, "_declared")
    ]


_CONDITIONS = frozenset({b"if-match", b"if-unmodified-since", b"x-incarnation", b"idempotency-key"})
"""Headers that can prevent a write or its repetition: a write must be refused if its operation does not support one."""


class _Endpoint:
    """An operation, guarded by permission checks. A write with unknown parameters is refused: an ignored parameter or
    condition might have prevented it."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._of_project = operation.project
        self._is_write = operation.method != "GET"
        self._query = [parameter.name for parameter in operation.parameters if parameter.place == "query"]
        known = {parameter.name.lower().encode() for parameter in operation.parameters if parameter.place == "header"}
        self._unknown_headers = _CONDITIONS - known

    async def answer(self, scope: Scope, receive: Receive) -> Response:
        scope["gateway.route"] = self._operation.path
        self._require_allowed(scope)
        request = Request(scope, receive)
        if self._is_write:
            if scope["query_string"]:
                self._require_known_query(request)
            if self._unknown_headers:
                self._require_known_headers(scope)
        return await self._operation.handler(request)

    def _require_allowed(self, scope: Scope) -> None:
        needed = self._operation.scope
        if needed is None:
            return
        access = access_of(scope)
        project = scope["path_params"]["project"] if self._of_project else None
        if access is OPEN:
            scope["gateway.view"] = EVERYTHING
            return
        try:
            if project is None:
                if needed == "admin":
                    access.require_admin()
            else:
                scope["gateway.view"] = access.require(project, needed)
        except Forbidden as refusal:
            audit: Audit | None = scope.get("gateway.audit")
            if audit is not None:
                audit.note_refusal(access, project, f"{self._operation.name}: {refusal.detail}")
            raise

    def _require_known_query(self, request: Request) -> None:
        seen = set()
        for name, _ in request.query_params.multi_items():
            if name not in self._query:
                known = ", ".join(self._query) or "none"
                raise InvalidParameter(repr(name[:100]), f"this request does not know it; its parameters are: {known}")
            if name in seen:
                raise InvalidParameter(name, "it is there more than once")
            seen.add(name)

    def _require_known_headers(self, scope: Scope) -> None:
        named = named_headers(scope)
        if not self._unknown_headers.isdisjoint(named):
            name = next(name for name in named if name in self._unknown_headers)
            raise InvalidParameter(name.decode("latin-1"), "this request does not know this header")


class Resource:
    """All operations on one path template, as an ASGI application."""

    def __init__(self, operations: list[Operation]) -> None:
        self._endpoints = {operation.method: _Endpoint(operation) for operation in operations}
        if "GET" in self._endpoints:
            self._endpoints["HEAD"] = self._endpoints["GET"]
        self.methods = sorted(self._endpoints)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._endpoints[scope["method"]].answer(scope, receive)
        await response(scope, receive, send)


class _ExactRoute(Route):
    """A route that matches the whole path: `$` alone would allow a trailing line break."""

    def __init__(self, path: str, endpoint: ASGIApp, methods: list[str] | None = None) -> None:
        super().__init__(path, endpoint, methods=methods)
        self.path_regex = re.compile(self.path_regex.pattern.removesuffix("$") + r"\Z")


class _RefuseMethod:
    """Refuses a method that none of the templates matching the path supports."""

    def __init__(self, routes: list[_ExactRoute]) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fitting = [route for route in self._routes if route.path_regex.match(scope["path"])]
        raise MethodNotAllowed(scope["method"], sorted({method for route in fitting for method in route.methods or ()}))


def routes_of(operations: Sequence[Operation]) -> list[Route]:
    """Return the routes of some operations in the given order; matching is linear.

    A path may match several templates (a file may be called `status`); then the method decides.
    """
    by_path: dict[str, list[Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, []).append(operation)
    routes: list[_ExactRoute] = []
    for path, group in by_path.items():
        resource = Resource(group)
        routes.append(_ExactRoute(path, resource, resource.methods))
    refuse_method = _RefuseMethod(list(routes))
    return [*routes, *(_ExactRoute(path, refuse_method) for path in by_path)]
