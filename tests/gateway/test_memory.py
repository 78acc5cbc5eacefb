"""Memory that is free goes back to the system."""

import random
import sys
from pathlib import Path

import pytest

from gateway.maintenance.memory import FreeMemory
from tests.support.server import GatewayProcess

_MB = 2**20


def test_memory_is_trimmed_once_it_has_grown_and_grows_no_more() -> None:
    sizes = [100]
    trims: list[int] = []

    def trim() -> None:
        trims.append(sizes[0])
        sizes[0] = 110

    memory = FreeMemory(lambda: sizes[0] * _MB, trim)
    for size in (150, 300, 500, 500, 500, 120, 170, 175, 174, 174):
        sizes[0] = size if not trims or size != 500 else sizes[0]
        memory.look()
    assert trims == [500, 174]


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the memory")
def test_the_memory_of_large_documents_returns(tmp_path: Path) -> None:
    text = "".join(random.choices("abcdefgh \n", k=8_000_000)).encode()
    with GatewayProcess(tmp_path / "gateway.db") as gateway, gateway.client() as project:
        assert gateway.process is not None
        statm = Path(f"/proc/{gateway.process.pid}/statm")

        def resident() -> int:
            return int(statm.read_text().split()[1]) * 4096

        before = resident()
        for number in range(15):
            headers = {"Content-Type": "text/plain"}
            project.put(f"/files/{number}.txt", content=text, headers=headers).raise_for_status()
        answer = project.post("/sync", json={"max_bytes": 10**12}).raise_for_status().json()
        assert answer["more"]
        assert sum(len(change["update"]) for change in answer["changes"]) <= 16 * _MB * 4 / 3
        # Without the bounds it is more than 30 MB a file. One document stays open.
        assert resident() - before < 250 * _MB
