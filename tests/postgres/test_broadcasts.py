"""Broadcasts of Hocuspocus' providers reach the clients of a file at every gateway of the database."""

from gateway.yjs.hocuspocus import stateless
from gateway.yjs.lib0 import var_bytes, var_uint
from tests.live.clients import put
from tests.live.hocuspocus import RawHocuspocus, raw_hocuspocus
from tests.postgres.conftest import Nodes, database, nodes
from tests.presence.test_presence import say, until

__all__ = ["database", "nodes"]

_TOKEN = var_uint(2) + var_uint(0) + var_bytes(b"") + var_bytes(b"4.8.0")


def _broadcast(client: RawHocuspocus, path: str, payload: str) -> None:
    client.send(path, var_uint(6) + var_bytes(payload.encode()))


def test_a_broadcast_reaches_the_clients_of_the_file_at_both_gateways(nodes: Nodes) -> None:
    with nodes[0].client() as a, nodes[1].client() as b:  # until they hear each other: what is said before is lost
        put(a, "a.md", "x")
        say(a, "a.md", 7, {"name": "ann"})
        until(b, "a.md", {7: {"name": "ann"}})
        say(b, "a.md", 8, {"name": "bob"})
        until(a, "a.md", {7: {"name": "ann"}, 8: {"name": "bob"}})
    with raw_hocuspocus(nodes[0], "demo") as ann, raw_hocuspocus(nodes[1], "demo") as bob:
        for client in (ann, bob):
            client.send("a.md", _TOKEN)
            client.send("b.md", _TOKEN)
            for path in ("a.md", "b.md"):  # both are in their rooms once they hear themselves
                _broadcast(client, path, f"here {id(client)}")
                client.until(path, stateless(f"here {id(client)}"))
        _broadcast(ann, "a.md", "to ä all")
        bob.until("a.md", stateless("to ä all"))
        _broadcast(bob, "a.md", "back")
        heard = ann.until("a.md", stateless("back"))
        assert heard.count(stateless("to ä all")) == 1
