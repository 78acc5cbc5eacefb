"""A turn followed by the Python client, and by the synchronous one."""

import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.client import SyncGatewayClient, TurnNotFound
from gateway.client.turn_events import TurnEvent
from gateway.wire.turns import Block, BlockDelta
from tests.gateway.test_turn_events import PIECES, Followed
from tests.support.server import GatewayProcess


class Copy:
    """What a follower has."""

    def __init__(self) -> None:
        self.contents: dict[int, Any] = {}
        self.statuses: list[str] = []

    def take(self, event: TurnEvent) -> None:
        if isinstance(event, Block):
            self.contents[event.index] = msgspec.json.decode(event.content)
        elif isinstance(event, BlockDelta):
            self.contents[event.index] += event.delta
        else:
            self.statuses.append(event.status)


def test_everything_is_told_once_over_kill_9(tmp_path: Path) -> None:
    """The gateway is killed after each piece of output, once the follower has it."""
    with GatewayProcess(tmp_path / "gateway.db") as gateway:
        with gateway.client() as api:
            followed = Followed(api)
            followed.output(PIECES[0])
        copy, told = Copy(), threading.Semaphore(0)

        def follow() -> None:
            with SyncGatewayClient(gateway.url) as client:
                for event in client.project("demo").follow_turn(followed.session, followed.turn):
                    copy.take(event)
                    told.release()

        follower = threading.Thread(target=follow)
        follower.start()
        for part in (PIECES[1:4], PIECES[4:]):
            assert told.acquire(timeout=120)
            gateway.kill()
            gateway.start()
            with gateway.client() as api:
                followed.api = api
                for piece in part:
                    followed.output(piece, final=piece is PIECES[-1])
                stored = followed.stored()
        follower.join(120)
        assert not follower.is_alive()
        assert [copy.contents[index] for index in range(len(stored))] == [block["content"] for block in stored]
        assert copy.statuses == ["running", "completed"]


def test_a_turn_that_is_not_there(shared_gateway: GatewayProcess) -> None:
    with SyncGatewayClient(shared_gateway.url) as client:
        project = client.project("follow-nothing")
        session = project.create_session().id
        with pytest.raises(TurnNotFound):
            next(iter(project.follow_turn(session, "none")))
