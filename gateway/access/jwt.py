"""JSON Web Tokens of an application (RFC 7519): its backend signs who a subject is and what the token grants.

The settings fix the accepted algorithms, never a token (RFC 8725 §3.1). In addition to PyJWT's checks, a token is
refused if it names a claim twice, is longer than `LONGEST`, or requires extensions (`crit`).
"""

import asyncio
import base64
import binascii
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import httpx
import jwt
import msgspec
import structlog
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from msgspec import Struct

from gateway.access.grants import LONGEST_SUBJECT, Claims, InvalidGrant, is_name, parse_grant
from gateway.access.reading import read_at_most
from gateway.wire.problems import Unauthenticated, Unavailable

_log = structlog.get_logger("gateway.access")

LONGEST = 8192
"""Bytes of a token."""
CLAIM = "yjs_gateway"
"""The claim that holds the grant."""

_SHORTEST_SECRET = 32
"""Bytes (RFC 7518 §3.2)."""
_KEPT_S, _FETCH_PAUSE_S, _FETCH_TIMEOUT_S = 600.0, 30.0, 10.0
_MOST_KEY_SET_BYTES, _MOST_KEYS = 2**20, 100
_LEEWAY_S = 5.0
"""Seconds by which the signer's clock may be ahead (`nbf`)."""
_LATEST = 10**11
"""Seconds since 1970: later expiry times are cut to this."""

_SECRET = ("HS256", "HS384", "HS512")
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
_EDWARDS = ("EdDSA",)


class InvalidKey(ValueError):
    """The settings name an unusable key; the message says why."""


class _Key(Struct, frozen=True):
    """A key, and the algorithms that it may be used with."""

    value: Any
    algorithms: tuple[str, ...]


class Keys(Protocol):
    """Finds the keys that a token may have been signed with."""

    async def find(self, kid: str | None) -> list[_Key]:
        """Return the keys that may have signed a token with this `kid`."""


class FixedKey:
    """One secret, or one public key.

    Args:
        text: a secret of 32 bytes or more, a public key as PEM, or the path of a file with one of them.
        algorithms: those accepted; none: HS256 with a secret, else the usual algorithm of the key.

    Raises:
        InvalidKey
    """

    def __init__(self, text: str, algorithms: Sequence[str] = ()) -> None:
        material = _read_key(text)
        if material.lstrip().startswith(b"-----BEGIN"):
            value, fitting = _public_key(material)
            usual: Sequence[str] = fitting[:1]
        else:
            if len(material) < _SHORTEST_SECRET:
                raise InvalidKey(f"a secret has {_SHORTEST_SECRET} bytes or more")
            value, fitting, usual = material, _SECRET, _SECRET[:1]
        self._keys = [_Key(value, _chosen(algorithms or usual, fitting))]

    async def find(self, kid: str | None) -> list[_Key]:
        return self._keys


class KeySet:
    """The public keys at a URL (RFC 7517), cached for ten minutes, fetched again when a token names an unknown key.

    Args:
        algorithms: those accepted; none: RS256 and ES256.
    """

    def __init__(
        self,
        url: str,
        algorithms: Sequence[str] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        algorithms = algorithms or ("RS256", "ES256")
        if set(algorithms) & set(_SECRET):
            raise InvalidKey("a key set at a URL is public: HS256, HS384 and HS512 cannot be used with it")
        self._url = url
        self._algorithms = algorithms
        self._clock = clock
        self._transport = transport
        self._keys: dict[str | None, list[_Key]] = {}
        self._fetched = self._tried = -math.inf
        self._fetching = asyncio.Lock()

    async def find(self, kid: str | None) -> list[_Key]:
        if self._is_stale() or (kid is not None and kid not in self._keys):
            async with self._fetching:
                if self._is_stale() or (kid is not None and kid not in self._keys):
                    await self._fetch()
        if not self._keys:
            raise Unavailable("the keys of the application's tokens could not be fetched")
        if kid is not None:
            return self._keys.get(kid, [])
        return [key for keys in self._keys.values() for key in keys]

    def _is_stale(self) -> bool:
        return self._clock() - self._fetched >= _KEPT_S

    async def _fetch(self) -> None:
        """Fetch the keys, unless that was tried a moment ago: tokens with made-up key ids must not cause requests."""
        now = self._clock()
        if now - self._tried < _FETCH_PAUSE_S:
            return
        self._tried = now
        try:
            self._keys = _parse_key_set(await self._download(), self._algorithms)
            self._fetched = now
        except (httpx.HTTPError, TimeoutError, msgspec.MsgspecError, ValueError, RecursionError) as error:
            _log.error("the key set could not be fetched", url=self._url, reason=repr(error))

    async def _download(self) -> bytes:
        options = {} if self._transport is None else {"transport": self._transport}
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with (
            asyncio.timeout(_FETCH_TIMEOUT_S),
            httpx.AsyncClient(timeout=_FETCH_TIMEOUT_S, **options) as client,  # type: ignore[arg-type]
            client.stream("GET", self._url, headers=headers) as answer,
        ):
            answer.raise_for_status()
            return await read_at_most(answer, _MOST_KEY_SET_BYTES)


class JsonWebTokens:
    """Checks the tokens of an application.

    Args:
        clock: seconds since 1970.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        audience: str | None = None,
        issuer: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._audience = audience
        self._issuer = issuer
        self._clock = clock

    async def check(self, token: str) -> Claims:
        """Return the claims of a valid token.

        Raises:
            Unauthenticated: the token is not valid; the reason quotes nothing of the token.
            Unavailable: the keys cannot be fetched.
        """
        if len(token) > LONGEST:
            raise Unauthenticated(f"the token is longer than {LONGEST} bytes")
        header, payload = _read_segments(token)
        if "crit" in header or "b64" in header:
            raise Unauthenticated("the token asks for extensions")
        algorithm, kid = header.get("alg"), header.get("kid")
        if kid is not None and not isinstance(kid, str):
            raise Unauthenticated("the token's kid is not a string")
        fault = "the token was not signed with a key of this gateway"
        for key in await self._keys.find(kid):
            if algorithm not in key.algorithms:
                continue
            try:
                self._verify(token, key)
            except jwt.InvalidSignatureError:
                continue
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
                raise Unauthenticated(_reason(error)) from None
            return self._claims(payload)
        raise Unauthenticated(fault)

    def _verify(self, token: str, key: _Key) -> None:
        jwt.decode(
            token,
            key.value,
            algorithms=list(key.algorithms),
            audience=self._audience,
            issuer=self._issuer,
            leeway=_LEEWAY_S,
            options={
                "require": ["exp", "sub", *(["aud"] if self._audience else []), *(["iss"] if self._issuer else [])],
                "verify_exp": False,  # checked below, by our clock and without leeway
                "verify_iat": False,
            },
        )

    def _claims(self, payload: dict[str, Any]) -> Claims:
        expires, subject, name, identifier = (payload.get(claim) for claim in ("exp", "sub", "name", "jti"))
        if isinstance(expires, bool) or not isinstance(expires, int | float):
            raise Unauthenticated("the token's exp is not a number")
        if expires <= self._clock():
            raise Unauthenticated("the token has expired")
        if not isinstance(subject, str) or not is_name(subject):
            raise Unauthenticated(f"the token's sub is not a text of 1 to {LONGEST_SUBJECT} visible characters")
        if name is not None and not (isinstance(name, str) and is_name(name)):
            raise Unauthenticated(f"the token's name is not a text of 1 to {LONGEST_SUBJECT} visible characters")
        try:
            grant = parse_grant(payload.get(CLAIM, {}))
        except InvalidGrant as error:
            raise Unauthenticated(f"the token's claim {CLAIM} grants nothing: {error}") from None
        return Claims(
            subject, name, grant, float(min(expires, _LATEST)), identifier if isinstance(identifier, str) else None
        )


def _reason(error: Exception) -> str:
    match error:
        case jwt.ImmatureSignatureError():
            return "the token does not count yet"
        case jwt.InvalidAudienceError():
            return "the token is for another audience"
        case jwt.InvalidIssuerError():
            return "the token is of another issuer"
        case jwt.MissingRequiredClaimError():
            return f"the token has no {error.claim}"
        case _:
            return "the token is not valid"


def _read_segments(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the header and the claims, unverified. JSON parsers differ about duplicate names, so these are refused."""
    segments = token.split(".")
    if len(segments) != 3:
        raise Unauthenticated("the credential is neither a token of this gateway nor a JWT")
    try:
        header, payload = (json.loads(_decode(part), **_STRICTLY) for part in segments[:2])
    except (ValueError, RecursionError) as error:
        raise Unauthenticated(f"the token cannot be read: {_plain(error)}") from None
    if not isinstance(header, dict) or not isinstance(payload, dict):
        raise Unauthenticated("the token cannot be read: it holds no JSON objects")
    return header, payload


def _plain(error: Exception) -> str:
    return str(error) if isinstance(error, _Unclear) else "it is not JSON in base64url"


class _Unclear(ValueError):
    """JSON that parsers interpret differently."""


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _Unclear("a name is there twice")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise _Unclear(f"{name} is no JSON")


_STRICTLY: dict[str, Any] = {"object_pairs_hook": _once_each, "parse_constant": _no_constant}


def _decode(segment: str) -> bytes:
    try:
        return base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _read_key(text: str) -> bytes:
    """Return the key itself, or the content of the file with this name."""
    if text.lstrip().startswith("-----BEGIN"):
        return text.replace("\\n", "\n").encode()
    try:
        file = Path(text)
        if len(text) <= 4096 and file.is_file():
            return file.read_bytes().strip()
    except (OSError, ValueError) as error:
        raise InvalidKey(f"the key's file cannot be read: {error}") from None
    if "/" in text and text.startswith(("/", "./", "../")):
        raise InvalidKey(f"there is no file {text}")
    return text.encode()


def _public_key(pem: bytes) -> tuple[Any, tuple[str, ...]]:
    """Return a public key, and the algorithms that fit it."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from cryptography.x509 import load_pem_x509_certificate

    try:
        certificate = b"BEGIN CERTIFICATE" in pem
        key = load_pem_x509_certificate(pem).public_key() if certificate else load_pem_public_key(pem)
    except ValueError as error:
        raise InvalidKey(f"it is not a public key: {error}") from None
    match key:
        case RSAPublicKey():
            if key.key_size < 2048:
                raise InvalidKey("an RSA key has 2048 bits or more")
            return key, _RSA
        case EllipticCurvePublicKey() if key.curve.name in _CURVES:
            return key, _CURVES[key.curve.name]
        case Ed25519PublicKey():
            return key, _EDWARDS
        case _:
            raise InvalidKey("it is neither an RSA key nor one of the curves P-256, P-384, P-521, Ed25519")


def _chosen(algorithms: Sequence[str], fitting: Sequence[str]) -> tuple[str, ...]:
    for algorithm in algorithms:
        if algorithm not in fitting:
            raise InvalidKey(f"{algorithm} does not fit the key: {', '.join(fitting)} do")
    return tuple(algorithms)


class _KeySetShape(Struct):
    keys: list[dict[str, Any]]


def _parse_key_set(body: bytes, algorithms: Sequence[str]) -> dict[str | None, list[_Key]]:
    """Return the usable keys by their `kid`."""
    shape = msgspec.json.decode(body, type=_KeySetShape)
    keys: dict[str | None, list[_Key]] = {}
    for each in shape.keys[:_MOST_KEYS]:
        kid = each.get("kid")
        if each.get("use", "sig") != "sig" or not (kid is None or isinstance(kid, str)):
            continue
        try:
            key = _parse_key(each, algorithms)
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            _log.warning("a key of the key set is left out", kid=kid, reason=str(error))
            continue
        if key is not None:
            keys.setdefault(kid, []).append(key)
    if not keys:
        raise ValueError("it holds no key that can be used")
    return keys


def _parse_key(jwk: dict[str, Any], algorithms: Sequence[str]) -> _Key | None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    kinds: dict[object, Any] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}
    kind = kinds.get(jwk.get("kty"))
    if kind is None:
        return None  # a secret does not belong at a public URL
    public = {name: value for name, value in jwk.items() if name != "d"}
    pem = kind.from_jwk(public).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    value, fitting = _public_key(pem)
    named = jwk.get("alg")
    usable = tuple(each for each in algorithms if each in fitting and named in (None, each))
    return _Key(value, usable) if usable else None
