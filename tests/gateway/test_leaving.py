"""Connections whose clients leave together are closed in several turns of the event loop."""

import asyncio
from itertools import pairwise
from typing import Any

from gateway.server.leaving import is_closed_later
from gateway.shared_turn import SharedTurn
from tests.support.clocks import TickingClock
from tests.support.transports import Transport

_CLIENTS = 300
_MOST_IN_A_TURN = 80
"""A turn of 2 ms has room for 67 closings."""


class _Transport(Transport):
    def __init__(self, closed: list[Any], *, tls: bool = False) -> None:
        super().__init__()
        self._closed, self._tls = closed, tls

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "sslcontext" and self._tls else super().get_extra_info(name, default)

    def close(self) -> None:
        self._closed.append(self)


def test_connections_are_closed_a_bounded_number_in_each_turn() -> None:
    async def work() -> None:
        closed: list[Any] = []
        turn = SharedTurn(TickingClock(0.00002))
        left = [is_closed_later(_Transport(closed), turn) for _ in range(_CLIENTS)]
        assert closed == []
        assert 0 < left.count(False) <= _MOST_IN_A_TURN  # the event loop closes those whose end was read in this turn
        assert left == sorted(left)
        counts = [0]
        while counts[-1] < left.count(True):
            await asyncio.sleep(0)
            counts.append(len(closed))
        assert max(after - before for before, after in pairwise(counts)) <= _MOST_IN_A_TURN

    asyncio.run(asyncio.wait_for(work(), 60))


def test_tls_is_left_to_the_event_loop() -> None:
    async def work() -> None:
        closed: list[Any] = []
        turn = SharedTurn(TickingClock(0.00002))
        for _ in range(_CLIENTS):
            is_closed_later(_Transport(closed), turn)
        assert not is_closed_later(_Transport(closed, tls=True), turn)

    asyncio.run(work())
