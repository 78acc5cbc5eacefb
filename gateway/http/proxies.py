"""Behind reverse proxies: the address of the client is the one that a trusted proxy tells (GATEWAY_PROXIES)."""

from collections.abc import Awaitable, Iterable
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from gateway.asgi.answers import DirectAnswers, directly
from gateway.asgi.coroutines import run_at_once


class BehindProxies:
    """ASGI middleware in front of everything that looks at the address of a client, or at the scheme.

    Args:
        proxies: addresses and networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    """

    def __init__(self, app: ASGIApp, proxies: Iterable[str]) -> None:
        trusted = list(proxies)
        self._app: Any = ProxyHeadersMiddleware(app, trusted)  # type: ignore[arg-type]
        self._rewrite: Any = ProxyHeadersMiddleware(_nothing, trusted)
        self._answer_directly = directly(app)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        called: Awaitable[None] = self._app(scope, receive, send)
        return called

    def answer_directly(self, scope: Scope, body: bytes, server: DirectAnswers) -> bool:
        """See `AnswerDirectly`. If the application is called after all, it rewrites the scope to the same once more."""
        run_at_once(self._rewrite(scope, None, None))
        return self._answer_directly(scope, body, server)


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """An application that does nothing."""
