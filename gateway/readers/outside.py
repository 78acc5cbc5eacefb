"""Requests to URLs given by clients: only to allowed hosts, and only to the address that was checked."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore
from msgspec import Struct

_CONNECT_S, _ANSWER_S = 5.0, 10.0
_CONNECTIONS = 64
_IDLE_CONNECTIONS, _IDLE_S = 16, 5.0

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Refused(Exception):
    """Nothing is sent to the URL; the message says why."""


class Unreachable(Exception):
    """There was no answer; the message says why."""


class Answer(Struct, frozen=True):
    status: int
    retry_after: float | None = None
    """Seconds."""


class Hosts(Struct, frozen=True):
    """Host names; `*.example.org` matches every name below a domain, `*` every name."""

    names: tuple[str, ...]

    def __contains__(self, host: str) -> bool:
        return any(
            name in (host, "*") or (name.startswith("*.") and host.endswith(name[1:]))
            for name in map(str.lower, self.names)
        )


class Outside:
    """Sends requests.

    Args:
        private: hosts that may have an address outside the public internet, and be reached without TLS.
        only: the only hosts that may be reached; None: all.
    """

    def __init__(self, private: Hosts, only: Hosts | None = None) -> None:
        self._private = private
        self._only = only
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_IDLE_CONNECTIONS,
            keepalive_expiry=_IDLE_S,
            network_backend=_Checked(private),
        )

    def check(self, url: str) -> None:
        """Raise Refused if a URL must not be requested, whatever its host's address."""
        try:
            parts = httpcore.URL(url)
            host = parts.host.decode("ascii").lower()
        except (ValueError, TypeError) as error:
            raise Refused(f"it is not a URL: {error}") from None
        if not host or parts.scheme not in (b"https", b"http"):
            raise Refused("it is no https URL")
        if self._only is not None and host not in self._only:
            raise Refused(f"the host {host!r} is not allowed")
        if parts.scheme == b"http" and host not in self._private:
            raise Refused("https is expected")
        address = _literal(host)
        if address is not None and host not in self._private and not is_public(address):
            raise Refused(f"{host} is a private address")

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a request. Redirects are not followed, and the body of the answer is not read.

        Raises:
            Refused, Unreachable
        """
        self.check(url)
        timeout = {"connect": _CONNECT_S, "read": _ANSWER_S, "write": _ANSWER_S, "pool": _ANSWER_S}
        try:
            async with (
                asyncio.timeout(_CONNECT_S + _ANSWER_S),
                self._pool.stream(
                    "POST", url, headers=list(headers.items()), content=body, extensions={"timeout": timeout}
                ) as response,
            ):
                return Answer(response.status, _retry_after(response.headers))
        except Refused:
            raise
        except TimeoutError:
            raise Unreachable(f"no answer within {_ANSWER_S:g} s") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            raise Unreachable(str(error) or type(error).__name__) from None
        except ValueError as error:
            raise Refused(f"it is not a URL: {error}") from None

    async def close(self) -> None:
        await self._pool.aclose()


class _Checked(httpcore.AsyncNetworkBackend):
    """Connects to an address that was checked: resolving the name again might yield another one."""

    def __init__(self, private: Hosts) -> None:
        self._private = private
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - as httpcore calls it
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} is not known: {error.strerror}") from None
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        if host.lower() not in self._private:
            private = [each for each in addresses if not is_public(ipaddress.ip_address(each.partition("%")[0]))]
            if private:
                raise Refused(f"{host} has the private address {private[0]}")
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


def is_public(address: Address) -> bool:
    """Whether an address is of the public internet, and does not embed one that is not."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_local(host: str) -> bool:
    """Whether a host is an IP address or this machine, not a name that its owner can point anywhere."""
    return host == "localhost" or _literal(host) is not None


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    for name, value in headers:
        if name.lower() == b"retry-after" and value.isdigit() and len(value) < 8:
            return float(value)
    return None
