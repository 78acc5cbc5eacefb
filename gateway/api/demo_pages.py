"""The pages of the demo application: files that were built from `web/demo`. What is no page is not found."""

import secrets
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from gateway.wire.problems import NotFound

_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src {styles}",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",  # the project is chosen by a form
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {"Cross-Origin-Opener-Policy": "same-origin", "X-Frame-Options": "DENY"}
_INDEX = "index.html"
_NONCE_BYTES = 18
_NONCE = "{nonce}"
"""What stands in the index for the nonce of an answer."""

FOLDER = Path(__file__).parents[1] / "demo"


class Pages:
    """Answers requests for which there is no route.

    The editor makes style sheets as it needs them. It marks them with a nonce that is new in each answer of the index,
    so the index is stored by no cache; every other file has an entity tag.
    """

    def __init__(self, folder: Path = FOLDER, *, enabled: bool = True) -> None:
        served = enabled and folder.is_dir()
        self._index = (folder / _INDEX).read_text("utf-8") if served else ""
        names = ["", *(path.name for path in folder.iterdir() if path.is_file())] if served else []
        self._paths = frozenset(f"/{name}" for name in names)
        self._files = StaticFiles(directory=folder, check_dir=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises NotFound."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["method"] not in ("GET", "HEAD") or path not in self._paths:
            raise NotFound
        if path in ("/", f"/{_INDEX}"):
            await self._new_index()(scope, receive, send)
        else:
            headers = [header for header in scope["headers"] if header[0] != b"range"]  # files are served whole
            await self._files({**scope, "headers": headers}, receive, _with_headers(send, _headers("'self'")))

    def _new_index(self) -> Response:
        nonce = secrets.token_urlsafe(_NONCE_BYTES)
        headers = {**_headers(f"'self' 'nonce-{nonce}'"), "Cache-Control": "no-store"}
        return Response(self._index.replace(_NONCE, nonce), headers=headers, media_type="text/html")


def _headers(styles: str) -> dict[str, str]:
    return {"Content-Security-Policy": _POLICY.format(styles=styles), **_HEADERS}


def _with_headers(send: Send, headers: dict[str, str]) -> Send:
    added = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *added]
        await send(message)

    return send_with_headers
