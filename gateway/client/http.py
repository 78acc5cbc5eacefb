"""Requests to a gateway: connections, credentials, time limits; problems become exceptions."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import msgspec
from msgspec.structs import asdict

from gateway.client.answers import decoded, error_from
from gateway.client.errors import NoAnswer
from gateway.client.project import Project
from gateway.client.token import BearerToken, Token
from gateway.wire.access import AuditListing, MadeToken, NewToken, TokenEntry, TokenListing
from gateway.wire.media_types import JSON
from gateway.wire.system import Health

_CONNECTIONS = 100
_KEPT_S = 60.0
"""Shorter than the gateway keeps an idle connection (75 s): it is not closed under a request."""
_CONNECT_S = 10.0


class GatewayClient:
    """A gateway. Connections are kept and used again while its `async with` lasts; answers may come compressed.

    Args:
        url: where it is: `http://host:8000`.
        token: sent as `Authorization: Bearer`; or a function that gives one, which may be asynchronous. The function is
            asked again before a JSON Web Token ends, and where the gateway refused the token (401).
        auth: any other credentials that httpx knows.
        author: who writes, for the history, in Latin-1 as headers are; a proxy may overrule it.
        timeout: how many seconds an answer may take, beyond what it was asked to wait.
        transport: how requests are sent, for tests.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token | None = None,
        auth: httpx.Auth | tuple[str, str] | None = None,
        author: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._http = httpx.AsyncClient(
            base_url=self.url,
            auth=BearerToken(token) if token else auth,
            headers=_headers(author, headers or {}),
            limits=httpx.Limits(max_connections=_CONNECTIONS, keepalive_expiry=_KEPT_S),
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    def project(self, name: str) -> Project:
        """A project and all requests on it. No request is made."""
        return Project(self, name)

    # The gateway itself

    async def healthz(self) -> Health:
        """The process answers."""
        return decoded(await self.send("GET", "/healthz"), Health)

    async def readyz(self) -> Health:
        """The database answers as well."""
        return decoded(await self.send("GET", "/readyz"), Health)

    async def metrics(self) -> str:
        """Figures in Prometheus' format."""
        return (await self.send("GET", "/metrics")).text

    async def openapi(self) -> dict[str, Any]:
        """The description of the API."""
        return decoded(await self.send("GET", "/openapi.json"), dict[str, Any])

    # Tokens and the audit: for a token of scope `admin`

    async def create_token(self, given: NewToken) -> MadeToken:
        """Make a token. The whole of it is in this answer and nowhere else."""
        body = msgspec.json.encode({name: value for name, value in asdict(given).items() if value is not None})
        headers = {"Content-Type": JSON}
        return decoded(
            await self.send("POST", "/api/tokens", headers=headers, content=body, repeatable=False), MadeToken
        )

    async def tokens(self) -> list[TokenEntry]:
        """All tokens, without their secrets."""
        return decoded(await self.send("GET", "/api/tokens"), TokenListing).tokens

    async def revoke_token(self, identifier: str) -> None:
        """Revoke a token: clients that are connected with it are sent away."""
        await self.send("DELETE", f"/api/tokens/{quote(identifier, safe='')}")

    async def audit(
        self,
        *,
        project: str | None = None,
        subject: str | None = None,
        since: str | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> AuditListing:
        """A page of who did what, newest first."""
        params = {"project": project, "subject": subject, "since": since, "before": before, "limit": limit}
        return decoded(await self.send("GET", "/api/audit", params=params), AuditListing)

    # How requests are sent

    async def send(
        self,
        method: str,
        path: str,
        *,
        wait: float = 0,
        repeatable: bool = True,
        headers: Mapping[str, str | None] | None = None,
        params: Mapping[str, Any] | None = None,
        content: Any = None,
    ) -> httpx.Response:
        """Send a request and read the answer.

        Args:
            wait: how many seconds the gateway may hold it.
            repeatable: whether to send it again, once and at once, where an old connection turned out to be closed.

        Raises:
            NoAnswer, UnexpectedAnswer, ProblemAnswer
        """
        request = self._request(method, path, self._timeout + wait, headers, params, content)
        try:
            try:
                answer = await self._http.send(request)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                if not repeatable:
                    raise
                answer = await self._http.send(request)
        except httpx.HTTPError as error:
            raise NoAnswer(f"{method} {request.url}: {str(error) or type(error).__name__}") from error
        if not (answer.is_success or answer.status_code == 304):
            raise error_from(answer)
        return answer

    async def identity(self, path: str) -> dict[str, str]:
        """The headers that say who is asking, for a connection that is no request."""
        request = self._http.build_request("GET", path)
        if self._http.auth is not None:
            flow = self._http.auth.async_auth_flow(request)
            request = await anext(flow)
            await flow.aclose()
        return {name: request.headers[name] for name in ("Authorization", "X-Author") if name in request.headers}

    async def open(self, path: str, *, headers: Mapping[str, str | None], params: Mapping[str, Any]) -> httpx.Response:
        """GET an answer without end: only its head is read, and the caller closes it and limits its time.

        Raises:
            NoAnswer, UnexpectedAnswer, ProblemAnswer
        """
        request = self._request("GET", path, None, headers, params, None)
        try:
            answer = await self._http.send(request, stream=True)
            if answer.status_code == 200:
                return answer
            try:
                await answer.aread()
            finally:
                await answer.aclose()
        except httpx.HTTPError as error:
            raise NoAnswer(f"GET {request.url}: {str(error) or type(error).__name__}") from error
        raise error_from(answer)

    def _request(
        self,
        method: str,
        path: str,
        limit: float | None,
        headers: Mapping[str, str | None] | None,
        params: Mapping[str, Any] | None,
        content: Any,
    ) -> httpx.Request:
        """A request; headers and parameters that are None are left out."""
        return self._http.build_request(
            method,
            path,
            headers={name: value for name, value in (headers or {}).items() if value is not None},
            params={name: value for name, value in (params or {}).items() if value is not None} or None,
            content=content,
            timeout=httpx.Timeout(self._timeout, connect=_CONNECT_S, read=limit),
        )


def _headers(author: str | None, others: Mapping[str, str]) -> dict[bytes, bytes]:
    given = {"X-Author": author, **others}
    return {name.encode(): value.encode("latin-1", "replace") for name, value in given.items() if value is not None}
