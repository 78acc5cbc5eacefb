"""The Yjs clients that the gateway itself is: none ever writes a clock twice, or replicas would differ for ever."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pycrdt
import pytest

from gateway.yjs.lib0 import block
from gateway.yjs.scan import STRING, scan
from tests.gateway.test_transfer import put, run
from tests.support.oracle import Oracle
from tests.support.server import GatewayProcess

_OCTETS = {"Content-Type": "application/octet-stream"}


class Replica:
    """A document that knows of no incarnations, as that of a stock provider."""

    def __init__(self) -> None:
        self.document: pycrdt.Doc[Any] = pycrdt.Doc()

    def exchange(self, client: httpx.Client, path: str) -> None:
        """Give and take what the other lacks, as the y-websocket protocol does."""
        there: pycrdt.Doc[Any] = pycrdt.Doc()
        there.apply_update(client.get(f"/files/{path}").raise_for_status().content)
        update = self.document.get_update(there.get_state())
        self.document.apply_update(there.get_update(self.document.get_state()))
        client.patch(f"/files/{path}", content=update, headers=_OCTETS).raise_for_status()

    @property
    def text(self) -> str:
        return str(self.document.get("content", type=pycrdt.Text))


def back_up(gateway: GatewayProcess, copy: Path) -> None:
    run(gateway.database, "backup", str(copy))


def copy_files(gateway: GatewayProcess, copy: Path) -> None:
    """As a snapshot of the volume does: nothing in it says that it is a copy."""
    gateway.stop()
    shutil.copy(gateway.database, copy)
    gateway.start()


@pytest.mark.parametrize("copied", [back_up, copy_files])
def test_edits_made_after_a_backup_and_after_it_was_restored_merge(
    tmp_path: Path, oracle: Oracle, copied: Callable[[GatewayProcess, Path], None]
) -> None:
    gateway = GatewayProcess(tmp_path / "gateway.db").start()
    with gateway.client() as client:
        put(client, "f", "one\n")
    copied(gateway, tmp_path / "copy.db")
    replica = Replica()
    with gateway.client() as client:
        put(client, "f", "one\ntwo two two\n")
        replica.exchange(client, "f")
    gateway.stop()
    with GatewayProcess(tmp_path / "copy.db") as restored, restored.client() as client:
        put(client, "f", "one\nTHREE\n")
        replica.exchange(client, "f")
        whole = client.get("/files/f").content
        text = oracle.text([whole])
        assert text == replica.text
        assert {"one", "two two two", "THREE"} <= set(text.splitlines())


def test_edits_of_two_gateways_that_have_a_copy_of_one_file_merge(tmp_path: Path, oracle: Oracle) -> None:
    with (
        GatewayProcess(tmp_path / "1.db") as first,
        GatewayProcess(tmp_path / "2.db") as second,
        first.client() as one,
        second.client() as two,
    ):
        put(one, "f", "shared\n")
        copy = one.get("/files/f").content
        two.patch("/files/f", content=copy, headers=_OCTETS).raise_for_status()
        put(one, "f", "shared\nfrom one\n")
        put(two, "f", "shared\nfrom TWO, longer\n")
        for source, target in ((one, two), (two, one)):
            update = source.get("/files/f").content
            assert target.patch("/files/f", content=update, headers=_OCTETS).json()["changed"] is True
        texts = [oracle.text([client.get("/files/f").content]) for client in (one, two)]
        assert texts[0] == texts[1]
        assert {"shared", "from one", "from TWO, longer"} == set(texts[0].splitlines())


def written(updates: list[bytes]) -> dict[tuple[int, int], str]:
    """What each client wrote at each clock: one UTF-16 code unit of a text."""
    found: dict[tuple[int, int], str] = {}
    for update in updates:
        for struct in scan(update).structs:
            start, end = block(update, struct.content) if struct.kind == STRING else (0, 0)
            for offset, character in enumerate(update[start:end].decode()):
                place = (struct.client, struct.clock + offset)
                assert found.setdefault(place, character) == character, place
    return found


def test_no_clock_of_a_client_is_written_twice_in_the_lives_of_files(tmp_path: Path) -> None:
    updates: list[bytes] = []

    def keep(client: httpx.Client) -> None:
        for path in ("a", "b"):
            versions = client.get(f"/history/{path}").raise_for_status().json()["versions"]
            for version in (each["version"] for each in versions if not each.get("deleted")):
                answer = client.get(f"/files/{path}", params={"at_version": version})
                updates.extend([answer.content] if answer.status_code == 200 else [])

    def live(client: httpx.Client, text: str) -> None:
        """Create, delete, create anew, move there and back."""
        put(client, "a", text + "1")
        client.delete("/files/a").raise_for_status()
        put(client, "a", text + "2!")
        put(client, "a", text + "3?!")
        for source, target in (("a", "b"), ("b", "a")):
            client.post("/files/move", json={"from": source, "to": target}).raise_for_status()
            put(client, target, text + target)
        keep(client)

    with GatewayProcess(tmp_path / "gateway.db") as gateway:
        with gateway.client() as client:
            live(client, "before the backup ")
        back_up(gateway, tmp_path / "backup.db")
        with gateway.client() as client:
            live(client, "after the backup ")
        export = tmp_path / "demo.export"
        run(gateway.database, "export", "demo", str(export))
    with GatewayProcess(tmp_path / "backup.db") as gateway, gateway.client() as client:
        live(client, "after it was restored ")
    run(tmp_path / "backup.db", "import", str(export), "--project", "copy")
    with GatewayProcess(tmp_path / "backup.db") as gateway, gateway.client("copy") as client:
        live(client, "imported ")
    places = written(updates)
    assert len({client for client, _ in places}) > 10


def test_a_file_is_edited_by_the_same_client_from_its_first_text_on(shared_project: httpx.Client) -> None:
    for number in range(20):
        put(shared_project, "f", f"text {number}")
    clients = {client for client, _ in written([shared_project.get("/files/f").content])}
    assert len(clients) == 1
