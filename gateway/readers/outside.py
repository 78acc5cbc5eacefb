"""Requests to URLs given by clients: only to allowed hosts, and only to the address that was checked."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.readers.hosts import Answer, Hosts, Refused, is_public, literal

if TYPE_CHECKING:
    from gateway.readers.connections import Connections

_CONNECT_S, _ANSWER_S = 5.0, 10.0


class Outside:
    """Sends requests.

    Args:
        private: hosts that may have an address outside the public internet, and be reached without TLS.
        only: the only hosts that may be reached; None: all.
    """

    def __init__(self, private: Hosts, only: Hosts | None = None) -> None:
        self._private = private
        self._only = only
        self._connections: Connections | None = None
        self._opening = asyncio.Lock()

    def check(self, url: str) -> None:
        """Raise Refused if a URL must not be requested, whatever its host's address."""
        import httpcore  # here, so that a gateway without readers starts without it

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
        address = literal(host)
        if address is not None and host not in self._private and not is_public(address):
            raise Refused(f"{host} is a private address")

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a request. Redirects are not followed, and the body of the answer is not read.

        Raises:
            Refused, Unreachable
        """
        connections = await self._open()
        self.check(url)
        return await connections.post(url, headers, body, connect_seconds=_CONNECT_S, answer_seconds=_ANSWER_S)

    async def _open(self) -> "Connections":
        async with self._opening:
            if self._connections is None:
                self._connections = await asyncio.to_thread(_open, self._private)
        return self._connections

    async def close(self) -> None:
        if self._connections is not None:
            await self._connections.close()


def _open(private: Hosts) -> "Connections":
    from gateway.readers.connections import Connections

    return Connections(private)
