"""The router of the API, the path convertor for file paths, and the CORS configuration."""

from collections.abc import Awaitable, Sequence

from starlette.convertors import Convertor, register_url_convertor
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.api.operation import Operation, routes_of

_METHODS = ["GET", "HEAD", "PATCH", "PUT", "DELETE", "POST", "OPTIONS"]
_REQUEST_HEADERS = [
    "If-Match",
    "If-None-Match",
    "If-Unmodified-Since",
    "Idempotency-Key",
    "X-Incarnation",
    "X-Author",
    "Last-Event-ID",
    "Content-Type",
    "Authorization",
]
_ANSWER_HEADERS = [
    "ETag",
    "Last-Modified",
    "X-Version",
    "X-From-Version",
    "X-Incarnation",
    "X-View",
    "Backoff",
    "Retry-After",
]


class _FilePath(Convertor[str]):
    """Matches the rest of a path, including line breaks: an invalid file path gets its own problem, not `not_found`."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("file", _FilePath())


def router(operations: Sequence[Operation], others: Sequence[BaseRoute], *, default: ASGIApp) -> ASGIApp:
    """Route the operations of the API and the routes of other interfaces; `default` handles every other path.

    `{path:file}` in the path of a route is a file's path.
    """
    return _ByKind(routes_of(operations), others, default)


class _ByKind:
    """Looks first among the routes of the project resource in the path (`files`, `sessions` …), since no others can
    match. Requests that match none of them go to Starlette's router, which has all routes."""

    def __init__(self, routes: Sequence[Route], others: Sequence[BaseRoute], default: ASGIApp) -> None:
        self._all = Router([*routes, *others], redirect_slashes=False, default=default)
        self._routes: dict[str, list[Route]] = {}
        for route in routes:
            parts = route.path.split("/", 5)
            if (
                route.methods
                and parts[:4] == ["", "api", "projects", "{project}"]
                and len(parts) > 4
                and "{" not in parts[4]
            ):
                self._routes.setdefault(parts[4], []).append(route)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and not scope.get("root_path"):
            path: str = scope["path"]
            method: str = scope["method"]
            parts = path.split("/", 5)
            for route in self._routes.get(parts[4], ()) if len(parts) > 4 else ():
                if method in route.methods and (found := route.path_regex.match(path)) is not None:  # type: ignore[operator]
                    scope["path_params"] = found.groupdict()  # all parameters are strings
                    return route.app(scope, receive, send)
        return self._all(scope, receive, send)


def cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Wrap `app` so that pages of `origins` may use it (CORS)."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=_METHODS,
        allow_headers=_REQUEST_HEADERS,
        expose_headers=_ANSWER_HEADERS,
    )
