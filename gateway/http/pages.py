"""The web pages that the gateway serves: files built from folders of `web/`. Any other path is not found."""

import secrets
from collections.abc import Mapping
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
        "form-action 'self'",  # a form selects the project
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {"Cross-Origin-Opener-Policy": "same-origin", "X-Frame-Options": "DENY"}
_INDEX = "index.html"
_NONCE_BYTES = 18
_NONCE = "{nonce}"
"""The placeholder in an index for the nonce of an answer."""


class Pages:
    """Answers requests that match no route.

    Editors create style sheets dynamically and mark them with a nonce. Each answer with an index has a new nonce, so an
    index must not be cached; every other file has an entity tag.

    Args:
        folders: by the path of an index, the folder with its page and files. `/` has its files below `/`, `/x` below
            `/x/`.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._indexes: dict[str, str] = {}
        self._files: dict[str, tuple[StaticFiles, str]] = {}
        for path, folder in folders.items():
            below = path if path.endswith("/") else f"{path}/"
            files = StaticFiles(directory=folder, check_dir=False)
            names = [file.name for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
            self._files |= {f"{below}{name}": (files, name) for name in names if name != _INDEX}
            if _INDEX in names:
                self._indexes[path] = self._indexes[f"{below}{_INDEX}"] = (folder / _INDEX).read_text("utf-8")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a page or file.

        Raises:
            NotFound
        """
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        root = scope.get("root_path", "")
        path = scope["path"].removeprefix(root)
        if scope["method"] not in ("GET", "HEAD"):
            raise NotFound
        if path in self._indexes:
            await _new_index(self._indexes[path])(scope, receive, send)
        elif path in self._files:
            files, name = self._files[path]
            headers = [header for header in scope["headers"] if header[0] != b"range"]  # ranges are not supported
            scope = {**scope, "path": f"{root}/{name}", "headers": headers}
            await files(scope, receive, _with_headers(send, _headers("'self'")))
        else:
            raise NotFound


def _new_index(page: str) -> Response:
    nonce = secrets.token_urlsafe(_NONCE_BYTES)
    headers = {**_headers(f"'self' 'nonce-{nonce}'"), "Cache-Control": "no-store"}
    return Response(page.replace(_NONCE, nonce), headers=headers, media_type="text/html")


def _headers(styles: str) -> dict[str, str]:
    return {"Content-Security-Policy": _POLICY.format(styles=styles), **_HEADERS}


def _with_headers(send: Send, headers: dict[str, str]) -> Send:
    added = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *added]
        await send(message)

    return send_with_headers
