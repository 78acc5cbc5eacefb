"""The list of tokens, of which there may be many with long grants."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.access.grants import grant_json, parse_grant
from gateway.access.records import every_token, make_token, token_entry, token_page
from gateway.wire.json import json_bytes
from storage import AccessToken


def _tokens(count: int, paths: int) -> list[AccessToken]:
    grant = parse_grant({"projects": {"p": {"scope": "read", "paths": [f"{each:0200}/" for each in range(paths)]}}})
    return [make_token(f"t{number}", f"s{number}", grant, None)[0] for number in range(count)]


class _Stored:
    """A storage of tokens that notes how many were read at once."""

    def __init__(self, tokens: Sequence[AccessToken]) -> None:
        self._tokens = tokens
        self.reads: list[int] = []

    async def tokens(self, *, after: str | None = None, limit: int) -> list[AccessToken]:
        start = 0 if after is None else 1 + [each.id for each in self._tokens].index(after)
        self.reads.append(limit)
        return list(self._tokens[start : start + limit])


def test_each_token_of_a_page_has_a_turn_of_the_event_loop() -> None:
    stored: Any = _Stored(tokens := _tokens(50, 10))

    async def main() -> int:
        turns, page = 0, asyncio.ensure_future(token_page(stored, None, 100))
        while not page.done():
            await asyncio.sleep(0)
            turns += 1
        assert json_bytes((await page).tokens) == json_bytes([token_entry(each) for each in tokens])
        assert (await page).next is None
        return turns

    assert asyncio.run(main()) > len(tokens)


def test_a_page_has_no_objects_for_the_projects_of_its_tokens() -> None:
    """A page may name 100,000 projects, and all of it is freed in one step."""
    grant = parse_grant({"projects": {f"p{number}": {"scope": "read"} for number in range(100)}})
    tokens = [make_token(f"t{number}", f"s{number}", grant, None)[0] for number in range(10)]
    stored: Any = _Stored(tokens)
    page = asyncio.run(token_page(stored, None, 100))
    projects: list[Any] = [each.projects for each in page.tokens]
    assert all(isinstance(each, msgspec.Raw) for each in projects)
    assert msgspec.json.decode(json_bytes(page))["tokens"][3]["projects"] == grant_json(grant)["projects"]


def test_a_page_ends_where_its_limit_or_the_bytes_of_its_grants_are_reached() -> None:
    stored: Any = _Stored(tokens := _tokens(100, 100))
    size = len(tokens[0].grant)

    async def main() -> None:
        after: str | None = None
        names: list[str] = []
        while True:
            page = await token_page(stored, after, 1000)
            names += [each.id for each in page.tokens]
            assert len(page.tokens) * size <= 2**20 + size
            if page.next is None:
                break
            assert page.next == page.tokens[-1].id
            after = page.next
        assert names == [each.id for each in tokens]
        short = await token_page(stored, tokens[0].id, 2)
        assert ([each.id for each in short.tokens], short.next) == (names[1:3], names[2])
        assert (await token_page(stored, names[-1], 5)).tokens == []

    asyncio.run(main())
    assert max(stored.reads) * size < 2**20  # what is read at once is bounded as well


def test_all_tokens_are_read_in_steps() -> None:
    stored: Any = _Stored(tokens := _tokens(40, 1))

    async def main() -> None:
        assert [each async for each in every_token(stored)] == tokens

    asyncio.run(main())
    assert len(stored.reads) > 2
