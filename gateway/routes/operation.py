"""One request of the API: the handler that answers it, and what `/openapi.json` says of it."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.problems import MethodNotAllowed, Problem

Handler = Callable[[Request], Awaitable[Response]]

OCTETS = "application/octet-stream"
TEXT = "text/plain"
JSON = "application/json"
EVENTS = "text/event-stream"
MSGPACK = "application/msgpack"
NDJSON = "application/x-ndjson"

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
    """What the request carries, by media type: a struct, `bytes`, `str`, or a tuple of alternatives."""
    answers: dict[int, dict[str, Any]] = {}
    """What it answers, by status and media type; without a body: an empty dict."""
    problems: tuple[type[Problem], ...] = ()


class Resource:
    """All operations on one path template, as an ASGI application."""

    def __init__(self, operations: list[Operation]) -> None:
        self._operations = {operation.method: operation for operation in operations}
        if "GET" in self._operations:
            self._operations["HEAD"] = self._operations["GET"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = self._operations.get(scope["method"])
        if operation is None:
            raise MethodNotAllowed(scope["method"], sorted(self._operations))
        scope["gateway.route"] = operation.path
        response = await operation.handler(Request(scope, receive))
        await response(scope, receive, send)
