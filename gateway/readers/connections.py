"""Connections to hosts that clients name. Imported when the first one is needed: httpcore, and the certificates of the
system, take a while."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore

from gateway.readers.hosts import Answer, Hosts, Refused, Unreachable, is_public

_CONNECTIONS = 64
_IDLE_CONNECTIONS, _IDLE_S = 16, 5.0


class Connections:
    """A pool of connections, each to an address that was checked. Making one reads files.

    Args:
        private: hosts that may have an address outside the public internet.
    """

    def __init__(self, private: Hosts) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_IDLE_CONNECTIONS,
            keepalive_expiry=_IDLE_S,
            network_backend=_Checked(private),
        )

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, connect_seconds: float, answer_seconds: float
    ) -> Answer:
        """Send a request. Redirects are not followed, and the body of the answer is not read.

        Raises:
            Refused, Unreachable
        """
        timeout = {"connect": connect_seconds, "read": answer_seconds, "write": answer_seconds, "pool": answer_seconds}
        try:
            async with (
                asyncio.timeout(connect_seconds + answer_seconds),
                self._pool.stream(
                    "POST", url, headers=list(headers.items()), content=body, extensions={"timeout": timeout}
                ) as response,
            ):
                return Answer(response.status, _retry_after(response.headers))
        except Refused:
            raise
        except TimeoutError:
            raise Unreachable(f"no answer within {answer_seconds:g} s") from None
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


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    for name, value in headers:
        if name.lower() == b"retry-after" and value.isdigit() and len(value) < 8:
            return float(value)
    return None
