"""Tickets: they replace a credential in the URL of one connection where no header can be sent (`EventSource`)."""

import secrets
import time
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec import Struct

from storage import Milliseconds, StoredTicket

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

LIFE_S = 30
"""For how many seconds a ticket is valid."""
_SKEW_S = 60
"""By how much the clocks of gateways on one database may differ. A ticket from before the clock was set back by more is
not valid: it would be for too long."""
_NONCE = bytes(12)
"""Each ticket is a key of its own, used once."""


class Credential(Struct, frozen=True, array_like=True):
    """What a request proves its subject with."""

    text: bytes
    is_cookie: bool = False


class TicketRecords(Protocol):
    """Where tickets are kept, for all gateways on a database."""

    async def add_ticket(self, ticket: StoredTicket, now: Milliseconds) -> None: ...

    async def take_ticket(self, digest: bytes) -> StoredTicket | None: ...


class Tickets:
    """The tickets that were issued and not used yet.

    The database holds neither a ticket nor the credential that it stands for: the credential is encrypted with a key
    derived from the ticket.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, records: TicketRecords, clock: Callable[[], float] = time.time) -> None:
        self._records = records
        self._clock = clock

    async def give(self, credential: Credential, project: str) -> str:
        """Issue a ticket for one connection to a project.

        Raises:
            StorageError
        """
        ticket, now = secrets.token_urlsafe(24), self._clock()
        sealed = _cipher(ticket).encrypt(_NONCE, msgspec.msgpack.encode(credential), project.encode())
        expires = Milliseconds(int((now + LIFE_S) * 1000))
        await self._records.add_ticket(
            StoredTicket(_digest(ticket), project, sealed, expires), Milliseconds(int(now * 1000))
        )
        return ticket

    async def take(self, ticket: str, project: str) -> Credential | None:
        """Use up a ticket and return its credential, which may have ended meanwhile; None if the ticket is invalid,
        expired or of another project.

        Raises:
            StorageError
        """
        from cryptography.exceptions import InvalidTag

        stored = await self._records.take_ticket(_digest(ticket))
        left = 0.0 if stored is None else stored.expires / 1000 - self._clock()
        if stored is None or stored.project != project or not 0 < left <= LIFE_S + _SKEW_S:
            return None
        try:
            sealed = _cipher(ticket).decrypt(_NONCE, stored.sealed, project.encode())
        except InvalidTag:
            return None
        return msgspec.msgpack.decode(sealed, type=Credential)


def _digest(ticket: str) -> bytes:
    return sha256(b"the name of ticket " + ticket.encode("utf-8", "replace")).digest()


def _cipher(ticket: str) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(sha256(b"the key of ticket " + ticket.encode("utf-8", "replace")).digest())
