"""JSON Web Tokens of an application, and the attacks on them that are known (RFC 8725 §2)."""

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.access.grants import Claims
from gateway.access.jwt import LONGEST, FixedKey, InvalidKey, JsonWebTokens, KeySet
from gateway.wire.problems import Unauthenticated, Unavailable
from tests.access.keys import NOW, SECRET, jwk, pem, raw_token, rsa_key, segment

CLAIMS = {"sub": "ann", "exp": NOW + 60, "yjs_gateway": {"projects": {"demo": "write"}}}
_RSA, _EC = rsa_key(), ec.generate_private_key(ec.SECP256R1())


def _check(token: str, keys: Any = None, **options: Any) -> Claims:
    checker = JsonWebTokens(keys or FixedKey(SECRET), clock=lambda: NOW, **options)
    return asyncio.run(checker.check(token))


def _refused(token: str, keys: Any = None, **options: Any) -> str:
    with pytest.raises(Unauthenticated) as refused:
        _check(token, keys, **options)
    assert not any(len(part) > 8 and part in str(refused.value) for part in token.split("."))
    return str(refused.value)


def _sign(claims: object = CLAIMS, secret: str = SECRET, header: object = None) -> str:
    return raw_token(header or {"alg": "HS256", "typ": "JWT"}, claims, secret.encode())


def test_a_token_says_who_somebody_is_what_it_grants_and_how_long() -> None:
    claims = _check(_sign({**CLAIMS, "name": "Ann", "jti": "7"}))
    assert (claims.subject, claims.name, claims.expires, claims.identifier) == ("ann", "Ann", NOW + 60, "7")
    view = claims.grant.view("demo")
    assert view is not None
    assert view.may("write")


def test_a_token_without_a_grant_grants_nothing() -> None:
    claims = _check(_sign({"sub": "ann", "exp": NOW + 60}))
    assert (claims.grant.projects, claims.grant.admin) == ({}, False)


@pytest.mark.parametrize("key", [_RSA, _EC], ids=["RS256", "ES256"])
def test_a_public_key_checks_what_its_private_key_signed(key: Any, tmp_path: Path) -> None:
    token = jwt.encode(CLAIMS, key, algorithm="RS256" if key is _RSA else "ES256")
    file = tmp_path / "key.pem"
    file.write_text(pem(key))
    for text in (pem(key), pem(key).replace("\n", "\\n"), str(file)):
        assert _check(token, FixedKey(text)).subject == "ann"
    other = rsa_key() if key is _RSA else ec.generate_private_key(ec.SECP256R1())
    _refused(token, FixedKey(pem(other)))


# Attacks


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, ["HS256"], {"HS256": 1}])
def test_a_token_that_is_not_signed_does_not_count(algorithm: object) -> None:
    for secret in (None, b"", SECRET.encode()):
        _refused(raw_token({"alg": algorithm}, CLAIMS, secret))
        _refused(raw_token({"alg": algorithm}, CLAIMS, secret), FixedKey(pem(_RSA)))


def test_a_public_key_is_no_secret() -> None:
    for text in (pem(_RSA), pem(_RSA).strip()):
        _refused(raw_token({"alg": "HS256"}, CLAIMS, text.encode()), FixedKey(pem(_RSA)))
    with pytest.raises(InvalidKey):
        FixedKey(pem(_RSA), ["RS256", "HS256"])


@pytest.mark.parametrize(
    "kid", ["../../dev/null", "/dev/null", "a' OR '1'='1", "x\0", "http://example.com/k", "a" * 2000]
)
def test_a_kid_is_a_name_and_nothing_else(kid: str) -> None:
    keys = _key_set(lambda: [jwk(_RSA, "a")])
    _refused(raw_token({"alg": "HS256", "kid": kid}, CLAIMS, b""), keys)
    _refused(jwt.encode(CLAIMS, _RSA, algorithm="RS256", headers={"kid": kid}), keys)
    assert (
        _check(_sign(header={"alg": "HS256", "kid": kid})).subject == "ann"
    )  # there is one key, whatever it is called


@pytest.mark.parametrize("kid", [7, ["a"], {"a": 1}, True])
def test_a_kid_that_is_no_text_is_refused(kid: object) -> None:
    _refused(_sign(header={"alg": "HS256", "kid": kid}))


def test_a_key_that_the_token_brings_is_not_used() -> None:
    own = rsa_key()
    for header in ({"jwk": jwk(own, "a")}, {"jku": "http://localhost:1/keys"}, {"x5c": [segment(pem(own).encode())]}):
        _refused(jwt.encode(CLAIMS, own, algorithm="RS256", headers=header), FixedKey(pem(_RSA)))


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"b64": True}])
def test_extensions_are_refused(header: dict[str, object]) -> None:
    assert "extensions" in _refused(_sign(header={"alg": "HS256", **header}))


@pytest.mark.parametrize("audience", [None, "other", ["other"], "GATEWAY", "", [], "gateway "])
def test_a_token_for_somebody_else_does_not_count(audience: object) -> None:
    claims = CLAIMS if audience is None else {**CLAIMS, "aud": audience}
    _refused(_sign(claims), audience="gateway")
    if audience:
        _refused(_sign(claims))


@pytest.mark.parametrize("audience", ["gateway", ["other", "gateway"]])
def test_a_token_for_the_gateway_counts(audience: object) -> None:
    assert _check(_sign({**CLAIMS, "aud": audience}), audience="gateway").subject == "ann"


def test_a_token_of_another_issuer_does_not_count() -> None:
    assert _check(_sign({**CLAIMS, "iss": "app"}), issuer="app").subject == "ann"
    _refused(_sign({**CLAIMS, "iss": "ap"}), issuer="app")
    _refused(_sign(CLAIMS), issuer="app")


@pytest.mark.parametrize("expires", [NOW, NOW - 1, 0, -1, None, "soon", str(NOW + 60), True, [NOW + 60], {}])
def test_a_token_ends_when_it_says_and_not_later(expires: object) -> None:
    _refused(_sign({**CLAIMS, "exp": expires}))


def test_a_token_without_an_end_does_not_count() -> None:
    assert "exp" in _refused(_sign({"sub": "ann", "yjs_gateway": {}}))


def test_an_end_beyond_all_time_is_an_end() -> None:
    endless = raw_token(b'{"alg":"HS256"}', b'{"sub":"ann","exp":1e999}', SECRET.encode())
    assert math.isfinite(_check(endless).expires)
    assert math.isfinite(_check(_sign({**CLAIMS, "exp": 10**400})).expires)


@pytest.mark.parametrize("start", [32_503_680_000, "soon", [1]])  # the first is in the year 3000
def test_a_token_does_not_count_before_its_time(start: object) -> None:
    _refused(_sign({**CLAIMS, "nbf": start}))


@pytest.mark.parametrize("subject", [None, "", " ", "a\nb", "a\u200eb", "x" * 201, 7, ["ann"], "\ud800"])
def test_a_subject_is_a_short_visible_text(subject: object) -> None:
    _refused(_sign({**CLAIMS, "sub": subject}))


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        ('{"alg":"HS256"}', '{"sub":"ann","sub":"root","exp":1700000060}'),
        ('{"alg":"HS256"}', '{"sub":"ann","exp":1700000060,"yjs_gateway":{"admin":false,"admin":true}}'),
        ('{"alg":"HS256"}', '{"sub":"ann","exp":1,"exp":1700000060}'),
        ('{"alg":"HS256","alg":"none"}', '{"sub":"ann","exp":1700000060}'),
        ('{"alg":"HS256"}', '{"sub":"ann","s\\u0075b":"root","exp":1700000060}'),
    ],
)
def test_a_name_that_is_there_twice_is_refused(header: str, payload: str) -> None:
    assert "twice" in _refused(raw_token(header.encode(), payload.encode(), SECRET.encode()))


@pytest.mark.parametrize(
    "payload", ['{"sub":"ann","exp":Infinity}', '{"sub":"ann","exp":NaN}', "[]", "7", "", "{", "[" * 3000]
)
def test_claims_that_are_no_json_object_are_refused(payload: str) -> None:
    _refused(raw_token(b'{"alg":"HS256"}', payload.encode(), SECRET.encode()))


@pytest.mark.parametrize("token", ["", ".", "..", "...", "a.b.c", "a" * 100, "\u00fc.\u00fc.\u00fc", "a\n.b.c"])
def test_what_is_no_token_is_refused(token: str) -> None:
    _refused(token)


def test_a_token_of_ten_megabytes_is_not_read() -> None:
    assert str(LONGEST) in _refused(_sign({**CLAIMS, "pad": "x" * 10_000_000}))
    assert str(LONGEST) in _refused("." * 10_000_000)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_token_that_was_changed_does_not_count(place: int) -> None:
    parts = _sign({**CLAIMS, "name": "Ann"}).split(".")
    other = _sign({**CLAIMS, "name": "Eve"}, header={"alg": "HS256", "kid": "x"}).split(".")
    parts[place] = other[place]
    _refused(".".join(parts))


# Keys


@pytest.mark.parametrize("text", ["", "short", "x" * 31, "/no/such/file.pem", "-----BEGIN PUBLIC KEY-----\nAAAA"])
def test_a_key_that_is_none_is_refused_at_once(text: str) -> None:
    with pytest.raises(InvalidKey):
        FixedKey(text)


def test_a_weak_rsa_key_is_refused() -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    with pytest.raises(InvalidKey, match="2048"):
        FixedKey(pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)))


class _Application:
    """Where a key set is; counts who asks."""

    def __init__(self, keys: Callable[[], list[dict[str, Any]]]) -> None:
        self.keys = keys
        self.asked = 0
        self.broken = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        return httpx.Response(500 if self.broken else 200, json={"keys": self.keys()})


def _key_set(keys: Callable[[], list[dict[str, Any]]], **options: Any) -> KeySet:
    return KeySet("https://app.test/jwks", transport=httpx.MockTransport(_Application(keys)), **options)


def test_keys_are_fetched_once_in_ten_minutes_and_once_more_for_a_new_name() -> None:
    async def work() -> None:
        first, second, now = rsa_key(), rsa_key(), [0.0]
        there = [jwk(first, "1")]
        application = _Application(lambda: there)
        keys = KeySet("https://app.test/jwks", clock=lambda: now[0], transport=httpx.MockTransport(application))
        checker = JsonWebTokens(keys, clock=lambda: NOW)

        def signed(key: Any, kid: str | None) -> str:
            return jwt.encode(CLAIMS, key, algorithm="RS256", headers=None if kid is None else {"kid": kid})

        await asyncio.gather(*(checker.check(signed(first, "1")) for _ in range(20)))
        assert application.asked == 1
        there.append(jwk(second, "2"))
        with pytest.raises(Unauthenticated):
            await checker.check(signed(second, "2"))  # asked a moment ago
        now[0] += 31
        assert (await checker.check(signed(second, "2"))).subject == "ann"
        assert (await checker.check(signed(second, None))).subject == "ann"
        for number in range(50):
            with pytest.raises(Unauthenticated):
                await checker.check(signed(first, f"invented-{number}"))
        assert application.asked == 2
        application.broken = True
        now[0] += 700
        assert (await checker.check(signed(first, "1"))).subject == "ann"  # those that are known go on
        assert application.asked == 3
        application.broken = False
        del there[0]
        now[0] += 700
        with pytest.raises(Unauthenticated):
            await checker.check(signed(first, "1"))

    asyncio.run(work())


def test_without_keys_nobody_is_let_in_and_nobody_is_blamed() -> None:
    for answer in (b"", b"{}", b"<html>", json.dumps({"keys": []}).encode(), b" " * (2**20 + 1)):
        transport = httpx.MockTransport(lambda _, answer=answer: httpx.Response(200, content=answer))
        with pytest.raises(Unavailable):
            _check(jwt.encode(CLAIMS, _RSA, algorithm="RS256"), KeySet("https://app.test/jwks", transport=transport))


def test_a_key_set_gives_public_keys_for_their_own_algorithm_and_no_secrets() -> None:
    secret = {"kty": "oct", "kid": "s", "k": segment(SECRET.encode())}
    keys = _key_set(lambda: [secret, jwk(_RSA, "r", alg="RS384"), jwk(_RSA, "e", use="enc"), jwk(_EC, "c")])
    _refused(_sign(header={"alg": "HS256", "kid": "s"}), keys)
    _refused(jwt.encode(CLAIMS, _RSA, algorithm="RS256", headers={"kid": "r"}), keys)
    _refused(jwt.encode(CLAIMS, _RSA, algorithm="RS256", headers={"kid": "e"}), keys)
    assert _check(jwt.encode(CLAIMS, _EC, algorithm="ES256", headers={"kid": "c"}), keys).subject == "ann"
    with pytest.raises(InvalidKey):
        KeySet("https://app.test/jwks", ["HS256"])
