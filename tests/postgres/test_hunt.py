"""A short hunt with each kind of fault; `python -m tests.postgres.hunt` is for long ones."""

import asyncio

import pytest

from tests.postgres.hunt import hunt
from tests.support.postgres import postgres_server

_SECONDS = 4


@pytest.mark.parametrize("faults", [("kill", "cut", "stop"), ("crash", "hole")], ids="-".join)
def test_nothing_is_lost_doubled_or_stale_while_things_fail(faults: tuple[str, ...]) -> None:
    with postgres_server() as server:
        over = asyncio.run(hunt(server, _SECONDS, faults, seed=1))
    assert over.found == []
    assert over.counts["receipts"] > 10


def test_nothing_is_lost_doubled_or_stale_in_fifty_kills() -> None:
    """All three gateways may be down at once."""
    with postgres_server() as server:
        over = asyncio.run(hunt(server, _SECONDS, ("kill",), seed=2, least_faults=50, at_once=3))
    assert over.found == []
    assert over.counts["kill"] >= 50
