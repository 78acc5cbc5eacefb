"""Several gateways on one database: one of them sends, whichever of them was told."""

from tests.readers.test_requests import Inbox, inbox, until_told, write
from tests.support.postgres import PostgresServer
from tests.support.server import GatewayProcess

__all__ = ["inbox"]


def test_of_two_gateways_one_sends_and_the_other_goes_on_after_a_kill(postgres: PostgresServer, inbox: Inbox) -> None:
    url = postgres.schema_url()
    settings = {"GATEWAY_HOOK_HOSTS": "127.0.0.1"}
    with (
        GatewayProcess(url, **settings) as one,
        GatewayProcess(url, **settings) as other,
        one.client() as first,
        other.client() as second,
    ):
        write(first, "a.md", "0")
        assert first.put("/hooks/of-one", json={"url": inbox.url}).status_code == 201
        assert second.put("/hooks/of-other", json={"url": inbox.url}).status_code == 201
        cursor = write(second, "a.md", "1")
        messages = [inbox.take()[1] for _ in range(2)]
        assert sorted(message["hook"] for message in messages) == ["of-one", "of-other"]
        assert {message["cursor"] for message in messages} == {cursor}
        for hook in ("of-one", "of-other"):  # else the last message comes again
            until_told(second, hook)
        one.kill()
        cursor = write(second, "a.md", "2")
        messages = [inbox.take()[1] for _ in range(2)]
        assert sorted(message["hook"] for message in messages) == ["of-one", "of-other"]
        assert {message["cursor"] for message in messages} == {cursor}
