"""The gateway's own tokens: `ygw_<id>_<secret>`. The gateway stores a hash of the secret, not the secret. Pure."""

import hmac
import re
import secrets
from hashlib import sha256

_TOKEN = re.compile(r"ygw_([0-9a-z]{12})_([A-Za-z0-9_-]{43})")
_ID_CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
_NO_DIGEST = bytes(32)


def new_token() -> tuple[str, str, bytes]:
    """Make a token; return its id, its full text, and the digest to store."""
    identifier = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(12))
    secret = secrets.token_urlsafe(32)
    return identifier, f"ygw_{identifier}_{secret}", _digest(secret)


def parse_token(text: str) -> tuple[str, bytes] | None:
    """Return the id of a token and the digest of its secret; None if `text` is not a token."""
    match = _TOKEN.fullmatch(text)
    return None if match is None else (match[1], _digest(match[2]))


def is_token(text: str) -> bool:
    """Whether `text` has the prefix of the gateway's tokens."""
    return text.startswith("ygw_")


def digests_match(presented: bytes, stored: bytes | None) -> bool:
    """Compare in constant time, whether the token exists or not (`stored` is None)."""
    return hmac.compare_digest(presented, _NO_DIGEST if stored is None else stored) and stored is not None


def _digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
