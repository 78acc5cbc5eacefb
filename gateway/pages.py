"""The pages of the demo application: files that were built from `web/demo`. What is no page is not found."""

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from gateway.problems import NotFound

_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # the editor makes style sheets as it needs them
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
]

FOLDER = Path(__file__).parent / "demo"


class Pages:
    """Answers requests for which there is no route."""

    def __init__(self, folder: Path = FOLDER, *, enabled: bool = True) -> None:
        self._files = StaticFiles(directory=folder, html=True) if enabled and folder.is_dir() else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises NotFound."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        if self._files is None or scope["method"] not in ("GET", "HEAD") or scope["path"].startswith("/api/"):
            raise NotFound

        async def send_page(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        try:
            await self._files(scope, receive, send_page)
        except HTTPException:
            raise NotFound from None
