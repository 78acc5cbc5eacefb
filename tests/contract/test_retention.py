"""What storage promises of what is squashed (`storage/contract.py`)."""

import itertools

import pytest

from storage import AppendUpdate, DeleteFile, FileHead, Milliseconds, Retention, Snapshot, SquashPoint, Storage, Version
from tests.contract.conftest import Clock, Open, Run

_DAY = 24 * 60 * 60 * 1000


async def _write(storage: Storage, path: str, *bodies: bytes | None) -> FileHead:
    """Add versions; None stands for a deletion."""
    for body in bodies:
        head = await storage.file_head("p", path)
        version = Version(0) if head is None else head.version
        change = DeleteFile(path, version) if body is None else AppendUpdate(path, version, body, "ann")
        await storage.append("p", (change,))
    head = await storage.file_head("p", path)
    assert head is not None
    return head


async def _purge(storage: Storage, path: str) -> int:
    purged = 0
    while some := await storage.purge("p", path):
        purged += some
    return purged


async def _points(storage: Storage, rule: Retention, worth: int = 1) -> list[SquashPoint]:
    return [point async for point in storage.squash_points(rule, worth=worth)]


@pytest.mark.parametrize("purged", [False, True])
def test_what_is_squashed_is_gone_and_the_rest_is_as_it_was(open_storage: Open, run: Run, purged: bool) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            before = await _write(storage, "a", b"1", b"22", b"333", b"4444", b"55555")
            await storage.put_snapshot("p", "a", Snapshot(Version(2), b"whole at 2"))
            await storage.put_snapshot("p", "a", Snapshot(Version(4), b"whole at 4"))
            rows = [update async for update in storage.updates("p", "a")]
            assert await storage.squash("p", "a", 3, b"whole at 3")
            if purged:
                assert await _purge(storage, "a") == 2
        async with open_storage() as storage:
            assert await storage.file_head("p", "a") == before
            assert await storage.base_version("p", "a") == 3
            for version in (1, 2):
                assert await storage.read_document("p", "a", at_version=version) is None
                assert await storage.read_version("p", "a", version) is None
                assert await storage.read_increment("p", "a", version, most_bytes=1000) is None
            base = await storage.read_document("p", "a", at_version=3)
            assert base is not None
            assert (base.snapshot, base.updates, base.size) == (None, (b"whole at 3",), 6)
            later = await storage.read_document("p", "a")
            assert later is not None
            assert later.snapshot is not None
            assert (later.snapshot.body, later.updates) == (b"whole at 4", (b"55555",))
            increment = await storage.read_increment("p", "a", 3, most_bytes=1000)
            assert increment is not None
            assert increment.updates == (b"4444", b"55555")
            kept = [update async for update in storage.updates("p", "a")]
            assert [update.body for update in kept] == [b"whole at 3", b"4444", b"55555"]
            assert all(update.intact for update in kept)
            told = [(update.version, update.last_modified, update.size, update.author) for update in rows[2:]]
            assert [(each.version, each.last_modified, each.size, each.author) for each in kept] == told
            history = await storage.read_history("p", "a", limit=10)
            assert history is not None
            assert [record.version for record in history[1]] == [5, 4, 3]
            assert [snapshot.version for snapshot in await storage.snapshots("p", "a")] == [4]
            assert (await _write(storage, "a", b"6")).version == 6

    run(work())


def test_only_a_later_version_that_is_there_can_become_the_oldest(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            await _write(storage, "a", b"1", b"2", None, b"4")
            assert await storage.squash("p", "a", 2, b"whole")
            for version, body in ((1, b"x"), (2, b"x"), (5, b"x"), (3, b"a tombstone has none"), (4, None)):
                assert not await storage.squash("p", "a", version, body)
            assert not await storage.squash("p", "b", 1, b"x")
            assert not await storage.squash("q", "a", 1, b"x")
            assert await storage.squash("p", "a", 3, None)
            document = await storage.read_document("p", "a")
            assert document is not None
            assert document.updates == (b"4",)
            await storage.put_snapshot("p", "a", Snapshot(Version(2), b"too late"))
            assert await storage.snapshots("p", "a") == []

    run(work())


def test_a_former_life_can_be_squashed_and_read(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            head = await _write(storage, "a", b"1", b"2", b"3", None, b"5")
            before = await storage.read_document("p", "a", at_version=3)
            assert await storage.squash("p", "a", 2, b"1+2")
            after = await storage.read_document("p", "a", at_version=3)
            assert before is not None
            assert after is not None
            assert (after.incarnation, after.updates) == (before.incarnation, (b"1+2", b"3"))
            assert after.incarnation != head.incarnation

    run(work())


def test_rules_keep_what_either_of_them_keeps(open_storage: Open, run: Run, clock: Clock) -> None:
    async def work() -> None:
        start = clock.now
        async with open_storage(clock=clock) as storage:
            for day in range(10):
                clock.now = start + day * _DAY
                await _write(storage, "a", b"x")
            await _write(storage, "b", b"x")
            since = Milliseconds(start + 4 * _DAY)
            expected = {
                Retention(versions=3): 8,
                Retention(versions=1): 10,
                Retention(since=since): 5,
                Retention(versions=3, since=since): 5,
                Retention(versions=8, since=since): 3,
                Retention(since=Milliseconds(clock.now + 1)): 10,
            }
            for rule, kept in expected.items():
                assert await _points(storage, rule) == [SquashPoint("p", "a", Version(kept), squashed=False)], rule
                assert await _points(storage, rule, worth=kept) == []
            for rule in (
                Retention(),
                Retention(versions=10),
                Retention(versions=99),
                Retention(since=Milliseconds(start)),
            ):
                assert await _points(storage, rule) == []

    run(work())


def test_sweeping_goes_on_where_it_was_left(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        count = 2_500
        async with open_storage() as storage:
            for first in range(0, count, 500):
                changes = tuple(AppendUpdate("a", Version(first + number), b"x") for number in range(500))
                await storage.append("p", changes)
            assert await storage.squash("p", "a", count, b"whole")
            assert 0 < await storage.purge("p", "a") < count - 1
        async with open_storage() as storage:
            rule = Retention(versions=1)
            assert await _points(storage, rule) == [SquashPoint("p", "a", Version(count), squashed=True)]
            assert 0 < await _purge(storage, "a") < count - 1
            assert await _points(storage, rule) == []

    run(work())


def test_many_files_are_looked_through(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            paths = [f"{number:04}" for number in range(1_200)]
            for first in range(0, len(paths), 400):
                some = paths[first : first + 400]
                await storage.append("p", tuple(AppendUpdate(path, Version(0), b"x") for path in some))
                await storage.append("p", tuple(AppendUpdate(path, Version(1), b"x") for path in some))
            points = await _points(storage, Retention(versions=1))
            assert sorted(point.path for point in points) == paths

    run(work())


def test_a_forgotten_tombstone_raises_the_floor_and_keeps_the_counter(
    open_storage: Open, run: Run, clock: Clock
) -> None:
    async def work() -> None:
        async with open_storage(clock=clock) as storage:
            assert await storage.tombstone_floor("p") == 0
            await _write(storage, "alive", b"x")
            old = await _write(storage, "old", b"1", b"2", None)
            clock.now += _DAY
            await _write(storage, "young", b"1", None)
            assert await storage.forget_tombstones(clock.now) == [("p", "old")]
            assert await storage.forget_tombstones(clock.now) == []
            listed = await storage.list_tombstones("p", limit=9)
            assert listed is not None
            assert [each.head.path for each in listed[1]] == ["young"]
            assert await storage.read_document("p", "old", at_version=2) is None
            assert await _purge(storage, "old") == 2
            assert await storage.tombstone_floor("p") == old.sequence
            assert await storage.file_head("p", "old") == old
            assert await storage.read_document("p", "old", at_version=2) is None
            assert await storage.read_document("p", "young", at_version=1) is not None
            assert (await _write(storage, "old", b"again")).version == 4

    run(work())


def test_writers_go_on_between_the_steps(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            await _write(storage, "a", *(b"%d" % number for number in range(1, 30)))
            for version in itertools.count(30):
                await _write(storage, "a", b"%d" % version)
                if version == 35:
                    assert await storage.squash("p", "a", 20, b"whole at 20")
                if version > 35 and not await storage.purge("p", "a"):
                    break
            document = await storage.read_document("p", "a")
            assert document is not None
            assert document.updates[0] == b"whole at 20"
            assert document.updates[1:] == tuple(b"%d" % number for number in range(21, version + 1))

    run(work())
