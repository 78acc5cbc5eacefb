"""The router of the API, what a path may be in it, and what pages of other origins may send and read (CORS)."""

from collections.abc import Sequence

from starlette.convertors import Convertor, register_url_convertor
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp

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
_ANSWER_HEADERS = ["ETag", "Last-Modified", "X-Version", "X-From-Version", "X-Incarnation", "Backoff", "Retry-After"]


class _FilePath(Convertor[str]):
    """All that is left of a path, line breaks included: what is no file path is refused by name, not as unknown."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("file", _FilePath())


def router(operations: Sequence[Operation], others: Sequence[BaseRoute], *, default: ASGIApp) -> ASGIApp:
    """The operations of the API, the routes of other doors, and `default` for every path that is none of these.

    `{path:file}` in the path of a route is a file's path.
    """
    return Router([*routes_of(operations), *others], redirect_slashes=False, default=default)


def cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """`app` for pages of `origins` too."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=_METHODS,
        allow_headers=_REQUEST_HEADERS,
        expose_headers=_ANSWER_HEADERS,
    )
