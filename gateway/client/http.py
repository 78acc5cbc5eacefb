"""The HTTP client: connections, credentials and timeouts; problem responses become exceptions."""

import io
import os
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import msgspec
from msgspec.structs import asdict

from gateway.client.answers import decoded, error_from
from gateway.client.errors import NoAnswer, UnexpectedAnswer
from gateway.client.paths import project_path
from gateway.client.project import Project
from gateway.client.token import BearerToken, Token
from gateway.wire.access import AuditListing, MadeToken, NewToken, TokenListing
from gateway.wire.media_types import JSON
from gateway.wire.projects import ProjectListing
from gateway.wire.system import Health

_CONNECTIONS = 100
_KEPT_S = 60.0
"""Shorter than the gateway's keep-alive (75 s), so that the gateway does not close a connection under a request."""
_CONNECT_S = 10.0
_CODINGS = ("", "identity", "gzip", "x-gzip")
_OF_THE_CODING = (b"content-encoding", b"content-length", b"transfer-encoding")
_MOST_BYTES = 512 * 2**20
"""Of one response, decoded."""


class GatewayClient:
    """A client of one gateway. Connections are pooled within its `async with`; responses may be compressed.

    Args:
        url: the address of the gateway: `http://host:8000`.
        token: sent as `Authorization: Bearer`; or a function, plain or async, that returns the token. The function is
            called again before a JSON Web Token expires, and when the gateway refused the token (401).
        auth: any other credentials that httpx supports.
        author: the author recorded in the history, in Latin-1 like all headers; a proxy may override it.
        timeout: how many seconds a response may take, in addition to the requested wait.
        transport: the httpx transport, for tests.

    Raises:
        ValueError: the URL has no scheme.
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
        if not url.lower().startswith(("http://", "https://")):
            raise ValueError(f"the URL of a gateway begins with http:// or https://, not as {url!r} does")
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._http = httpx.AsyncClient(
            base_url=self.url,
            auth=BearerToken(token) if token else auth,
            headers=_headers(author, headers or {}),
            limits=httpx.Limits(max_connections=_CONNECTIONS, keepalive_expiry=_KEPT_S),
            transport=transport,
            verify=transport is None and _trusted(self.url, auth),  # a given transport checks them itself
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def aclose(self) -> None:
        """Close all connections, for a client that is not used with `async with`."""
        await self._http.aclose()

    def project(self, name: str) -> Project:
        """Return a project with all its requests. This sends no request."""
        return Project(self, name)

    # The gateway itself

    async def healthz(self) -> Health:
        """Check that the process responds."""
        return decoded(await self.send("GET", "/healthz"), Health)

    async def readyz(self) -> Health:
        """Check that the database responds as well."""
        return decoded(await self.send("GET", "/readyz"), Health)

    async def metrics(self) -> str:
        """Return the metrics in the Prometheus text format."""
        return (await self.send("GET", "/metrics")).text

    async def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI description of the API."""
        return decoded(await self.send("GET", "/openapi.json"), dict[str, Any])

    async def list_projects(self, *, after: str | None = None, limit: int | None = None) -> ProjectListing:
        """List a page of the projects that the token may read, ordered by id."""
        return decoded(await self.send("GET", "/api/projects", params={"after": after, "limit": limit}), ProjectListing)

    async def delete_project(self, name: str) -> None:
        """Erase a project for good, with its whole history. This requires a token of scope `admin` in the project."""
        await self.send("DELETE", project_path(name))

    # Tokens and the audit log: these require a token of scope `admin`

    async def create_token(self, given: NewToken) -> MadeToken:
        """Create a token. Only this answer contains the complete token."""
        body = msgspec.json.encode({name: value for name, value in asdict(given).items() if value is not None})
        headers = {"Content-Type": JSON}
        return decoded(
            await self.send("POST", "/api/tokens", headers=headers, content=body, repeatable=False), MadeToken
        )

    async def tokens(self, *, after: str | None = None, limit: int | None = None) -> TokenListing:
        """List a page of the tokens, oldest first, without their secrets."""
        return decoded(await self.send("GET", "/api/tokens", params={"after": after, "limit": limit}), TokenListing)

    async def revoke_token(self, identifier: str) -> None:
        """Revoke a token; clients connected with it are disconnected."""
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
        """Return a page of the audit log, newest first."""
        params = {"project": project, "subject": subject, "since": since, "before": before, "limit": limit}
        return decoded(await self.send("GET", "/api/audit", params=params), AuditListing)

    # Sending requests

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
        """Send a request and read the response.

        Args:
            wait: how many seconds the gateway may hold the request.
            repeatable: whether to resend the request once, immediately, if a pooled connection proves to be closed.

        Raises:
            NoAnswer, UnexpectedAnswer, ProblemAnswer
        """
        request = self._request(method, path, self._timeout + wait, headers, params, content)
        try:
            try:
                answer = await self._read(await self._http.send(request, stream=True))
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                if not repeatable:
                    raise
                answer = await self._read(await self._http.send(request, stream=True))
        except httpx.HTTPError as error:
            raise NoAnswer(f"{method} {request.url}: {_reason(error)}") from error
        if not (answer.is_success or answer.status_code == 304):
            raise error_from(answer)
        return answer

    async def _read(self, answer: httpx.Response) -> httpx.Response:
        """Read a whole response, within bounds.

        A few bytes of zstd or brotli may hold gigabytes, which are decoded at once: only gzip is asked for and
        taken, of which a piece that arrives makes at most a thousand times as much.

        Raises:
            UnexpectedAnswer: it is too large, or encoded in another way.
        """
        try:
            coding = answer.headers.get("Content-Encoding", "identity").strip().lower()
            if coding not in _CODINGS:
                raise UnexpectedAnswer(answer.status_code, f"it is encoded as {coding[:100]!r}")
            body = io.BytesIO()  # gives the bytes over without a copy
            async for part in answer.aiter_bytes():
                body.write(part)
                if body.tell() > _MOST_BYTES:
                    raise UnexpectedAnswer(answer.status_code, f"it has more than {_MOST_BYTES} bytes")
        finally:
            await answer.aclose()
        headers = [(name, value) for name, value in answer.headers.raw if name.lower() not in _OF_THE_CODING]
        return httpx.Response(
            answer.status_code,
            headers=headers,
            content=body.getvalue(),
            request=answer.request,
            extensions=answer.extensions,
        )

    async def identity(self, path: str) -> dict[str, str]:
        """Return the headers that identify the client, for a connection that is not an httpx request."""
        request = self._http.build_request("GET", path)
        if self._http.auth is not None:
            flow = self._http.auth.async_auth_flow(request)
            request = await anext(flow)
            await flow.aclose()
        return {name: request.headers[name] for name in ("Authorization", "X-Author") if name in request.headers}

    async def open(self, path: str, *, headers: Mapping[str, str | None], params: Mapping[str, Any]) -> httpx.Response:
        """GET an endless response: only its head is read; the caller closes the response and enforces timeouts.

        Raises:
            NoAnswer, UnexpectedAnswer, ProblemAnswer
        """
        request = self._request("GET", path, None, headers, params, None)
        try:
            answer = await self._http.send(request, stream=True)
            if answer.status_code == 200:
                return answer
            answer = await self._read(answer)
        except httpx.HTTPError as error:
            raise NoAnswer(f"GET {request.url}: {_reason(error)}") from error
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
        """Build a request, leaving out headers and parameters that are None."""
        return self._http.build_request(
            method,
            path,
            headers={name: value for name, value in (headers or {}).items() if value is not None},
            params={name: value for name, value in (params or {}).items() if value is not None} or None,
            content=content,
            timeout=httpx.Timeout(self._timeout, connect=_CONNECT_S, read=limit),
        )


def _headers(author: str | None, others: Mapping[str, str]) -> dict[bytes, bytes]:
    given = {"X-Author": author, "Accept-Encoding": "gzip", **others}
    return {name.encode(): value.encode("latin-1", "replace") for name, value in given.items() if value is not None}


def _trusted(url: str, auth: object) -> ssl.SSLContext | bool:
    """Return what httpx is to check certificates by. Reading the authorities that it trusts takes 25 ms.

    Without TLS to the gateway none are read, and no certificate would be accepted; other credentials of httpx may send
    requests of their own elsewhere.
    """
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if auth is None and url.lower().startswith("http://") else True


def _reason(error: httpx.HTTPError) -> str:
    """Return why a request got no response, in the words of the operating system where it was the one that refused."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        elif isinstance(cause, OSError) and cause.errno is not None:
            return os.strerror(cause.errno) if cause.errno > 0 else str(cause)  # below 0: the name cannot be resolved
        else:
            cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
