"""Past incarnations of very many clients, updates and replicas that name very many: none is read in the event loop."""

import asyncio
from pathlib import Path

import pytest

from gateway.files import past_incarnations
from gateway.files.documents import Documents
from gateway.files.preconditions import Preconditions
from gateway.files.store import Files
from gateway.watch.hub import Hub
from gateway.workers.pool import worker_processes
from gateway.yjs import state_vectors
from gateway.yjs.lib0 import var_uint
from gateway.yjs.runs import PackedClocks
from gateway.yjs.state_vectors import highest_clocks, read_state_vector
from storage.sqlite import SQLiteStorage

_ANY = Preconditions()
_MOST = 10


def _written(first: int, count: int) -> bytes:
    """What `count` clients write, a value each."""
    sections = [b"\1" + var_uint(each) + b"\0\x08\1\1a\1\x7e" for each in range(first + count, first, -1)]
    return var_uint(count) + b"".join(sections) + b"\0"


def _vector(first: int, count: int) -> bytes:
    return var_uint(count) + b"".join(var_uint(each) + b"\1" for each in range(first + 1, first + count + 1))


@pytest.mark.parametrize("light", [True, False])
@pytest.mark.parametrize("present", [3, 30])
@pytest.mark.parametrize("past", [3, 30])
def test_what_is_of_the_past_is_found_whatever_the_number_of_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, past: int, present: int, light: bool
) -> None:
    for module in (past_incarnations, state_vectors):
        monkeypatch.setattr(module, "MOST_IN_STEP", _MOST)
    if not light:
        monkeypatch.setattr(past_incarnations, "_LIGHT_BYTES", 0)
    read: list[int] = []

    def counting(data: bytes) -> dict[int, int]:
        clocks = read_state_vector(data)
        read.append(len(clocks))
        return clocks

    monkeypatch.setattr(past_incarnations, "read_state_vector", counting)

    async def main() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        async with worker_processes(processes=1, queue=16, seconds=600):
            files = Files(storage, Documents(storage, memory_limit=2**20), Hub(storage))
            await files.append("p", "a", _written(0, past), _ANY)
            await files.delete("p", "a", _ANY)
            await files.append("p", "a", _written(100, present), _ANY)
            for update, expected in (
                (_written(past - 1, 1), True),
                (_written(100, 2), False),
                (_written(300, 40), False),
            ):
                assert await files.is_past("p", "a", update) is expected
            both = _written(past - 1, 1)[1:-1]
            assert await files.is_past("p", "a", b"\2" + _written(300, 1)[1:-1] + both + b"\0")
            assert not await files.is_past("p", "a", b"\1\1\\9\0\5")
            for vector, expected in (
                (_vector(past - 1, 1), True),
                (_vector(0, 40), True),
                (_vector(100, present), False),
                (_vector(300, 40), False),
            ):
                assert await files.is_replica_of_past("p", "a", vector) is expected
        await storage.close()

    asyncio.run(main())
    assert max(read, default=0) <= _MOST


def test_packed_state_vectors_are_the_same_mappings() -> None:
    clocks = {7: 3, 2**53 - 1: 9, 1: 2**32 - 1}
    packed = PackedClocks(clocks)
    assert dict(packed) == clocks
    assert [packed.get(each, 0) for each in (1, 2, 7, 8, 2**53 - 1, 2**53)] == [2**32 - 1, 0, 3, 0, 9, 0]
    assert 7 in packed
    assert 8 not in packed
    assert highest_clocks([_vector(0, 2), b"\1\1\5"]) == {1: 5, 2: 1}
