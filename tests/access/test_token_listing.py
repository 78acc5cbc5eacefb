"""The list of tokens, of which there may be many with long grants."""

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
from starlette.requests import Request

from gateway.access.grants import parse_grant
from gateway.access.records import make_token, token_entry
from gateway.api.routes.access import AccessRoutes
from gateway.wire.access import TokenListing


def test_each_token_of_a_listing_has_a_turn_of_the_event_loop() -> None:
    grant = parse_grant({"projects": {f"p{number}": "read" for number in range(10)}})
    stored = [make_token(f"t{number}", f"s{number}", grant, None)[0] for number in range(50)]

    async def nothing() -> None: ...

    async def tokens() -> Any:
        return stored

    routes: Any = SimpleNamespace(_storage=SimpleNamespace(tokens=tokens), _guard=SimpleNamespace(store_uses=nothing))

    async def main() -> tuple[int, bytes]:
        request = Request({"type": "http", "method": "GET", "headers": []})
        turns, listing = 0, asyncio.ensure_future(AccessRoutes.list_tokens(routes, request))
        while not listing.done():
            await asyncio.sleep(0)
            turns += 1
        return turns, bytes((await listing).body)

    turns, body = asyncio.run(main())
    assert turns > len(stored)
    assert msgspec.json.decode(body, type=TokenListing).tokens == [token_entry(each) for each in stored]
