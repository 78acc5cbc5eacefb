"""The pages of the demo application: files that were built from `web/demo`. What is no page is not found."""

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from gateway.problems import NotFound

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
        try:
            await self._files(scope, receive, send)
        except HTTPException:
            raise NotFound from None
