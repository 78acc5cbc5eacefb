"""Memory that is free goes back to the system."""

import asyncio
import random
import sys
import threading
import time
from pathlib import Path

import pytest

from gateway.heap import free_bytes, map_large_buffers
from gateway.maintenance.memory import FreeMemory
from tests.support.server import GatewayProcess

_MB = 2**20


def test_memory_is_trimmed_once_much_is_free_and_no_more_becomes_free() -> None:
    free = [0]
    trims: list[int] = []
    memory = FreeMemory(lambda: free[-1] * _MB, lambda: trims.append(free[-1]))

    async def work() -> None:
        for size in (50, 300, 500, 500, 500, 400, 120, 170, 190, 190, 190):
            free.append(size)
            await memory.look()

    asyncio.run(work())
    assert trims == [500, 190]


def test_free_memory_is_looked_for_and_given_back_in_another_thread() -> None:
    threads: list[int] = []

    def measure() -> int:
        threads.append(threading.get_ident())
        return 100 * _MB if len(threads) > 1 else 0

    memory = FreeMemory(measure, lambda: threads.append(threading.get_ident()))

    async def work() -> None:
        await memory.look()
        await memory.look()

    asyncio.run(work())
    assert len(threads) == 4
    assert threading.get_ident() not in threads[1:]


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc")
def test_the_c_library_tells_what_is_free() -> None:
    map_large_buffers()
    pieces = [bytes(100_000) for _ in range(1000)]
    before = free_bytes()
    pieces = pieces[::2]
    free = free_bytes()
    assert free - before > 40 * _MB
    assert len(pieces) == 500


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the memory")
def test_the_memory_of_large_documents_returns(tmp_path: Path) -> None:
    text = "".join(random.choices("abcdefgh \n", k=8_000_000)).encode()
    gateway = GatewayProcess(tmp_path / "gateway.db", GATEWAY_HOT_DOCUMENT_BYTES=64 * _MB)
    with gateway, gateway.client() as project:
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
        # Without the bounds it is more than 30 MB a file. Seven documents of 8 MB may stay open.
        deadline = time.monotonic() + 120
        while (more := resident() - before) >= 250 * _MB:  # a job gives it back, now and then
            assert time.monotonic() < deadline, f"{more / _MB:.0f} MB more"
            project.get("/files").raise_for_status()
