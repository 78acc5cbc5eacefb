"""Two gateways on one database know alike who is in a file."""

from tests.live.clients import event_stream, put
from tests.postgres.conftest import Nodes, database, nodes
from tests.presence.test_presence import say, states, until

__all__ = ["database", "nodes"]


def test_who_is_in_a_file_at_one_gateway_is_seen_at_the_other(nodes: Nodes) -> None:
    with nodes[0].client() as a, nodes[1].client() as b:
        put(a, "a.md", "x")
        say(a, "a.md", 7, {"name": "ann"})
        until(b, "a.md", {7: {"name": "ann"}})
        say(b, "a.md", 8, {"name": "bob"})
        until(a, "a.md", {7: {"name": "ann"}, 8: {"name": "bob"}})
        a.delete("/presence/a.md/7")
        until(b, "a.md", {8: {"name": "bob"}})
        nodes[1].kill()
        until(a, "a.md", {})  # its clients went with it


def test_a_gateway_that_starts_is_told_who_is_there_already(nodes: Nodes) -> None:
    with nodes[0].client() as a:
        put(a, "a.md", "x")
        nodes[1].kill()
        say(a, "a.md", 7, {"name": "ann"})
        nodes[1].start()
        with nodes[1].client() as b, event_stream(b, kinds="presence") as stream:
            assert states(stream.next("presence").json) == {7: {"name": "ann"}}
