"""The cryptography of Web Push: RFC 8291 and 8188 (encryption, by `http_ece`), RFC 8292 (VAPID). Imported when it is
first needed, since the libraries take a while."""

import base64
import os
from urllib.parse import urlsplit

import http_ece
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from gateway.wire.readers import PushKeys

_TOKEN_S = 12 * 3600
_RENEWED_MS = 6 * 3600 * 1000
_POINT_BYTES, _SECRET_BYTES = 65, 16


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
    """Raise ValueError if messages cannot be encrypted for a subscription."""
    point, secret = _bytes(keys.p256dh), _bytes(keys.auth)
    if len(point) != _POINT_BYTES or len(secret) != _SECRET_BYTES:
        raise ValueError(f"p256dh has {_POINT_BYTES} bytes and auth {_SECRET_BYTES}, base64url")
    ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)


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


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
