"""The gateway's own tokens."""

import pytest

from gateway.access.tokens import digests_match, is_token, new_token, parse_token


def test_a_token_is_known_by_its_id_and_the_digest_of_its_secret() -> None:
    for _ in range(200):  # secrets have `_` and `-` in them
        identifier, token, digest = new_token()
        assert parse_token(token) == (identifier, digest)
        assert is_token(token)
        assert token.split("_", 2)[2].encode() not in digest


def test_no_two_tokens_are_alike() -> None:
    assert len({new_token()[0] for _ in range(100)}) == len({new_token()[2] for _ in range(100)}) == 100


@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: t + "A", lambda t: t[:-1] + "\n", lambda t: t.upper()])
def test_what_is_not_a_whole_token_is_none(change: object) -> None:
    assert parse_token(change(new_token()[1])) is None  # type: ignore[operator]


def test_a_digest_matches_itself_and_nothing_matches_no_token() -> None:
    digest = new_token()[2]
    assert digests_match(digest, digest)
    assert not digests_match(digest, bytes(32))
    assert not digests_match(bytes(32), None)
