"""The key by which push services know the gateway (RFC 8292), read or made when it is first needed."""

import asyncio
from typing import TYPE_CHECKING

from gateway.wire.readers import PushKeys
from storage import Storage

if TYPE_CHECKING:
    from gateway.readers.push_encryption import VapidKey

_NAME = "vapid key"


class OwnKey:
    """The key of a gateway.

    Args:
        pem: the private key, as PEM; empty: one is made, and kept in the storage.
        contact: a `mailto:` or `https:` URL of the operator, for push services; empty: none.
    """

    def __init__(self, storage: Storage, pem: str, contact: str) -> None:
        self._storage = storage
        self._pem = pem
        self._contact = contact
        self._key: VapidKey | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> "VapidKey":
        """Return the key.

        Raises:
            StorageError
            ValueError: `pem` is not a valid key.
        """
        async with self._opening:
            if self._key is None:
                pem = self._pem or await self._storage.keep(_NAME, await asyncio.to_thread(_make))
                self._key = await asyncio.to_thread(_read, pem, self._contact)
        return self._key


async def check_keys(keys: PushKeys) -> None:
    """Raise ValueError if messages cannot be encrypted for a subscription."""
    await asyncio.to_thread(_check, keys)


# The libraries are imported by these functions, in a thread: they take a while, and few gateways need them.


def _make() -> str:
    from gateway.readers.push_encryption import VapidKey

    return VapidKey.make()


def _read(pem: str, contact: str) -> "VapidKey":
    from gateway.readers.push_encryption import VapidKey

    return VapidKey(pem, contact)


def _check(keys: PushKeys) -> None:
    from gateway.readers.push_encryption import check_keys

    check_keys(keys)
