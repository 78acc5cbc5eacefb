"""A ticket that one gateway gave counts at every gateway on the database, once."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.access.conftest import Subject, bearer, told
from tests.access.keys import SECRET
from tests.live.clients import event_stream
from tests.postgres.conftest import Nodes
from tests.support.server import GatewayProcess


@pytest.fixture
def guarded(database: str) -> Iterator[Nodes]:
    settings = {"GATEWAY_AUTH": "required", "GATEWAY_JWT_KEY": SECRET}
    with GatewayProcess(database, **settings) as first, GatewayProcess(database, **settings) as second:
        yield first, second


def test_a_ticket_of_one_gateway_opens_a_stream_at_another_and_ends_with_its_token(guarded: Nodes) -> None:
    first, second = guarded
    with (
        Subject(first, "demo", bearer("root", admin=True)) as root,
        Subject(second, "demo", None) as browser,
    ):
        root.write("a.md", "x").raise_for_status()
        wanted = {"name": "reader", "projects": {"demo": "read"}}
        made = root.post(f"{first.url}/api/tokens", json=wanted).raise_for_status().json()
        with Subject(first, "demo", made["token"]) as reader:
            ticket = reader.post("/tickets").raise_for_status().json()["ticket"]
        with event_stream(browser, ticket=ticket) as stream:
            stream.until_ready()
            root.delete(f"{first.url}/api/tokens/{made['id']}").raise_for_status()
            assert json.loads(stream.next("expired").data) == {"reason": "revoked"}
        assert told(browser.get("/changes", params={"ticket": ticket})) == (401, "unauthenticated")


def test_a_ticket_counts_once_whichever_gateways_are_asked_at_once(guarded: Nodes) -> None:
    with Subject(guarded[0], "demo", bearer("root", admin=True)) as root, ThreadPoolExecutor(8) as pool:
        root.write("a.md", "x").raise_for_status()
        ticket = {"ticket": root.post("/tickets").raise_for_status().json()["ticket"]}
        statuses = list(
            pool.map(lambda number: guarded[number % 2].get("/api/projects/demo/changes", params=ticket), range(8))
        )
        assert sorted(answer.status_code for answer in statuses) == [200] + [401] * 7
