"""Web Push: RFC 8030 (the request), RFC 8291 and 8188 (encryption, by `http_ece`), RFC 8292 (VAPID)."""

import base64
import binascii
import hashlib
import os
from urllib.parse import urlsplit

import http_ece
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from gateway.changes.feed import Batch
from gateway.readers.door import Sent
from gateway.readers.outside import Answer, Outside, Refused, Unreachable
from gateway.readers.reader import PushTarget, ReaderSettings, ends_a_turn
from gateway.wire.readers import PushKeys, PushMessage
from storage import Reader

_MOST_CHANGES = 10
_MOST_BYTES = 3993
"""RFC 8291 §4: the plaintext that fits into a message of 4,096 bytes."""
_SPACING_S = 5.0
_TTL_S = 7 * 24 * 3600
_TOKEN_S = 12 * 3600
_RENEWED_MS = 6 * 3600 * 1000
_POINT_BYTES, _SECRET_BYTES = 65, 16
_TOO_LARGE, _GONE = 413, (404, 410)


class InvalidKeys(ValueError):
    """The keys of a subscription are not valid."""


class VapidKey:
    """The key by which push services identify the gateway.

    Args:
        pem: the private key, as PEM.
        contact: a `mailto:` or `https:` URL of the operator, for push services; empty: none.
    """

    def __init__(self, pem: str, contact: str = "") -> None:
        key = load_pem_private_key(pem.encode(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("the VAPID key must be a private key on the curve P-256")
        self._key = key
        self._contact = contact
        self.public = _base64url(key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))
        """base64url, as `pushManager.subscribe` takes it."""
        self._tokens: dict[str, tuple[int, str]] = {}

    @staticmethod
    def make() -> str:
        """Make a private key, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def authorization(self, endpoint: str, now: int) -> str:
        """Return `Authorization` for a request to an endpoint, renewed every six hours; `now` in milliseconds."""
        parts = urlsplit(endpoint)
        audience = f"{parts.scheme}://{parts.netloc}"
        made, token = self._tokens.get(audience, (0, ""))
        if not token or not made <= now < made + _RENEWED_MS:
            claims = {"aud": audience, "exp": now // 1000 + _TOKEN_S}
            token = jwt.encode(claims | ({"sub": self._contact} if self._contact else {}), self._key, "ES256")
            if len(self._tokens) > 1000:
                self._tokens.clear()
            self._tokens[audience] = now, token
        return f"vapid t={token}, k={self.public}"


def check_keys(keys: PushKeys) -> None:
    """Raise InvalidKeys if messages cannot be encrypted for a subscription."""
    try:
        point, secret = _bytes(keys.p256dh), _bytes(keys.auth)
        if len(point) != _POINT_BYTES or len(secret) != _SECRET_BYTES:
            raise InvalidKeys(f"p256dh has {_POINT_BYTES} bytes and auth {_SECRET_BYTES}, base64url")
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except (ValueError, binascii.Error) as error:
        raise InvalidKeys(str(error)) from None


def encrypt(
    message: bytes, keys: PushKeys, *, salt: bytes | None = None, private_key: ec.EllipticCurvePrivateKey | None = None
) -> bytes:
    """Encrypt a message for a subscription, as `aes128gcm` (RFC 8291). Each message has a new salt and key."""
    encrypted: bytes = http_ece.encrypt(
        message,
        salt=salt or os.urandom(16),
        private_key=private_key or ec.generate_private_key(ec.SECP256R1()),
        dh=_bytes(keys.p256dh),
        auth_secret=_bytes(keys.auth),
        version="aes128gcm",
    )
    return encrypted


class WebPush:
    """Sends push messages: the changes, as many of them as fit."""

    spacing_seconds = _SPACING_S
    most_changes = _MOST_CHANGES

    def __init__(self, outside: Outside, key: VapidKey) -> None:
        self._outside = outside
        self._key = key

    async def send(self, reader: Reader, settings: ReaderSettings, batch: Batch, now: int) -> Sent:
        target = settings.push
        assert target is not None
        urgency = "high" if ends_a_turn(batch.changes) else "normal"
        try:
            answer = await self._post(reader, target, payload(reader.project, batch), urgency, now)
            if answer.status == _TOO_LARGE:
                answer = await self._post(reader, target, payload(reader.project, batch, most=0), urgency, now)
        except (Refused, Unreachable) as error:
            return Sent(False, error=str(error))
        if 200 <= answer.status < 300:
            return Sent(True, answer.status)
        ended = f"the subscription is gone ({answer.status})" if answer.status in _GONE else None
        return Sent(False, answer.status, retry_after=answer.retry_after, ended=ended)

    async def _post(self, reader: Reader, target: PushTarget, message: bytes, urgency: str, now: int) -> Answer:
        topic = hashlib.sha256(f"{reader.project}\n{reader.name}".encode()).hexdigest()[:32]
        headers = {
            "content-type": "application/octet-stream",
            "content-encoding": "aes128gcm",
            "ttl": str(_TTL_S),
            "urgency": urgency,
            "topic": topic,
            "authorization": self._key.authorization(target.endpoint, now),
        }
        return await self._outside.post(target.endpoint, headers, encrypt(message, target.keys))


def payload(project: str, batch: Batch, most: int = _MOST_CHANGES) -> bytes:
    """Return the payload of a push: the newest changes that fit."""
    for count in range(min(most, len(batch.changes)), -1, -1):
        changes = batch.changes[len(batch.changes) - count :]
        more = batch.more or count < len(batch.changes)
        message = msgspec.json.encode(PushMessage(project, batch.cursor, changes, more))
        if len(message) <= _MOST_BYTES:
            break
    return message


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
