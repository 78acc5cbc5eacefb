"""Keys and tokens as an application's backend has them; and tokens as an attacker makes them."""

import base64
import hashlib
import hmac
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

SECRET = "0123456789abcdef0123456789abcdef"
NOW = 1_700_000_000.0


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    """The public half."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, kid: str | None, **more: object) -> dict[str, Any]:
    """The public half, as a key set has it."""
    kind: Any = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    named = {} if kid is None else {"kid": kid}
    return {**json.loads(kind.to_jwk(key.public_key())), "use": "sig", **named, **more}


def segment(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def raw_token(header: object, payload: object, secret: bytes | None) -> str:
    """A token with any header and claims, signed with HMAC and SHA-256, or not at all."""
    signed = f"{segment(header)}.{segment(payload)}"
    signature = b"" if secret is None else hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{segment(signature)}"
