"""What storage promises of files (`storage/contract.py`)."""

import asyncio
import functools
import random
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import (
    AppendUpdate,
    Change,
    Committed,
    DeleteFile,
    FileHead,
    Incarnation,
    Line,
    PredecessorFailed,
    Snapshot,
    Storage,
    StorageClosed,
    StorageError,
    StorageOverloaded,
    Version,
    VersionConflict,
    new_incarnation,
)
from tests.contract.conftest import Clock, Open, Run


async def _append(storage: Storage, path: str, body: bytes = b"update", project: str = "p") -> Committed:
    head = await storage.file_head(project, path)
    (committed,) = await storage.append(project, (AppendUpdate(path, _version(head), body, "ann"),))
    return committed


async def _delete(storage: Storage, path: str, project: str = "p") -> Committed:
    head = await storage.file_head(project, path)
    (committed,) = await storage.append(project, (DeleteFile(path, _version(head)),))
    return committed


def _version(head: FileHead | None) -> Version:
    return Version(0) if head is None else head.version


def test_the_version_at_any_sequence_is_known(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            expected: list[tuple[int, int]] = [(0, 0)]  # of "a" by sequence
            random_ = random.Random(7)
            for _ in range(60):
                if random_.random() < 0.5:
                    other = await _append(storage, "b")
                    expected.append((other.project.sequence, expected[-1][1]))
                elif random_.random() < 0.8 or expected[-1][1] == 0:
                    own = await _append(storage, "a")
                    expected.append((own.project.sequence, own.head.version))
                else:
                    head = await storage.file_head("p", "a")
                    own = await (_append if head is None or head.deleted else _delete)(storage, "a")
                    expected.append((own.project.sequence, own.head.version))
            assert [(at, await storage.version_at("p", "a", at)) for at, _ in expected] == expected
            assert await storage.version_at("p", "a", 2**70) == expected[-1][1]
            assert await storage.version_at("p", "never", 5) == 0
            live = await _append(storage, "a")
            previous = await storage.version_at("p", "a", live.project.sequence - 1)
            assert await storage.squash("p", "a", live.head.version, b"whole")
            while await storage.purge("p", "a"):
                pass
            assert previous == live.head.version - 1
            assert await storage.version_at("p", "a", live.project.sequence - 1) is None
            assert await storage.version_at("p", "a", live.project.sequence) == live.head.version

    run(work())


def test_versions_are_counted_without_gaps_across_deletion_and_rebirth(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            versions = [(await _append(storage, "a")).head.version for _ in range(3)]
            versions.append((await _delete(storage, "a")).head.version)
            versions.append((await _append(storage, "a")).head.version)
            assert versions == [1, 2, 3, 4, 5]
            assert [update.version async for update in storage.updates("p", "a")] == versions

    run(work())


def test_a_reborn_file_has_another_incarnation_and_its_own_size(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            first = (await _append(storage, "a", b"12345")).head
            tombstone = (await _delete(storage, "a")).head
            reborn = (await _append(storage, "a", b"123")).head
            assert (tombstone.deleted, tombstone.incarnation) == (True, first.incarnation)
            assert reborn.incarnation != first.incarnation
            assert (first.size, reborn.size, reborn.born_version) == (5, 3, 3)

    run(work())


def test_a_change_for_another_version_is_refused_and_leaves_nothing(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            await _append(storage, "a")
            for expected in (0, 2, 7):
                with pytest.raises(VersionConflict) as refused:
                    await storage.append("p", (AppendUpdate("a", Version(expected), b"x"),))
                assert (refused.value.expected, refused.value.found) == (expected, 1)
            with pytest.raises(VersionConflict):
                await storage.append("q", (DeleteFile("a", Version(1)),))
            assert await storage.project_head("q") is None
            assert (await _append(storage, "a")).project.sequence == 2

    run(work())


def test_what_builds_on_a_change_that_failed_fails_with_it(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            await _append(storage, "a")
            line = Line()
            removal = storage.append("p", (DeleteFile("a", Version(1)),))
            late = storage.append("p", (AppendUpdate("a", Version(1), b"b", line=line),))
            later = storage.append("p", (AppendUpdate("a", Version(2), b"c", line=line),))  # the number is there
            other = storage.append("p", (AppendUpdate("a", Version(2), b"new life", line=Line()),))
            with pytest.raises(VersionConflict):
                await late
            with pytest.raises(PredecessorFailed) as refused:
                await later
            assert (refused.value.expected, refused.value.found) == (2, 2)
            assert (await removal)[0].head.deleted
            assert (await other)[0].head.version == 3
            with pytest.raises(PredecessorFailed):
                await storage.append("p", (AppendUpdate("a", Version(3), b"c", line=line),))
            # One change that fails takes all of its append with it, and with each what builds on it.
            two = Line(), Line()
            changes = [AppendUpdate(path, Version(0), b"1", line=each) for path, each in zip("xy", two, strict=True)]
            with pytest.raises(VersionConflict):
                await storage.append("p", (*changes, DeleteFile("a", Version(9))))
            for path, each in zip("xy", two, strict=True):
                with pytest.raises(PredecessorFailed):
                    await storage.append("p", (AppendUpdate(path, Version(0), b"2", line=each),))

    run(work())


def test_what_builds_on_a_change_that_the_disk_refused_fails_with_it(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            await _append(storage, "a")
            line = Line()
            unwritable: Any = "no bytes"
            failing = asyncio.ensure_future(
                storage.append("p", (AppendUpdate("a", Version(1), unwritable, line=line),))
            )
            with pytest.raises(StorageError):
                await failing
            foreign = storage.append("p", (AppendUpdate("a", Version(1), b"foreign"),))
            with pytest.raises(PredecessorFailed):
                await storage.append("p", (AppendUpdate("a", Version(2), b"c", line=line),))
            assert (await foreign)[0].head.version == 2

    run(work())


class _Opening:
    """Somebody who has a file open and queues changes of it, each on the one before."""

    def __init__(self, name: int, version: int) -> None:
        self.line = Line()
        self.version = version
        self.start = version
        self.name = name

    def next(self) -> AppendUpdate:
        """The next change. Its body says which version it builds on, and whose."""
        builds_on = self.name if self.version > self.start else -1
        self.version += 1
        return AppendUpdate("a", Version(self.version - 1), b"%d %d" % (self.name, builds_on), line=self.line)


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("change"), st.integers(0, 2)),
            st.sampled_from([("delete", 0), ("turn", 0), ("settle", 0)]),
        ),
        max_size=30,
    )
)
@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
def test_no_change_is_stored_without_the_one_it_builds_on(
    open_storage: Open, run: Run, steps: list[tuple[str, int]]
) -> None:
    project = uuid.uuid4().hex

    async def work() -> None:
        async with open_storage() as storage:
            openings: dict[int, _Opening] = {}
            waiting: list[asyncio.Future[Any]] = []
            for number, (step, who) in enumerate(steps):
                if step == "turn":  # of the loop: what is queued so far may be a batch of its own
                    await asyncio.sleep(0)
                    continue
                if step == "settle":
                    await asyncio.gather(*waiting, return_exceptions=True)
                    openings.clear()
                    continue
                head = await storage.file_head(project, "a")
                if step == "delete":
                    change: Change = DeleteFile("a", _version(head))
                else:
                    if who not in openings:
                        openings[who] = _Opening(number, _version(head))
                    change = openings[who].next()
                waiting.append(asyncio.ensure_future(storage.append(project, (change,))))
            results = await asyncio.gather(*waiting, return_exceptions=True)
            log = [each.body async for each in storage.updates(project, "a")]
            assert len(log) == sum(not isinstance(result, BaseException) for result in results)
            for version, body in enumerate(log):
                if body is not None and (builds_on := int(body.split()[1])) >= 0:
                    before = log[version - 1]
                    assert before is not None
                    assert int(before.split()[0]) == builds_on

    run(work())


def test_a_new_life_is_called_as_its_first_change_says(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            names = [new_incarnation() for _ in range(3)]

            async def append(version: int, incarnation: Incarnation) -> Incarnation:
                change = AppendUpdate("a", Version(version), b"x", incarnation=incarnation)
                return (await storage.append("p", (change,)))[0].head.incarnation

            assert await append(0, names[0]) == names[0]
            assert await append(1, names[0]) == names[0]
            with pytest.raises(PredecessorFailed):
                await append(2, names[1])  # made for another incarnation
            await _delete(storage, "a")
            with pytest.raises(PredecessorFailed):
                await append(3, names[0])  # that incarnation is over
            assert await append(3, names[2]) == names[2]
            await _delete(storage, "a")
            assert (await _append(storage, "a")).head.incarnation not in names

    run(work())


def test_changes_of_one_append_are_stored_together_or_not_at_all(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            await _append(storage, "a")
            good, bad = AppendUpdate("b", Version(0), b"x"), DeleteFile("a", Version(9))
            for changes in ((good, bad), (bad, good)):
                with pytest.raises(VersionConflict):
                    await storage.append("p", changes)
            assert await storage.file_head("p", "b") is None
            both = await storage.append("p", (DeleteFile("a", Version(1)), good))
            assert [committed.project.sequence for committed in both] == [2, 3]
            again = (AppendUpdate("c", Version(0), b"1"), AppendUpdate("c", Version(1), b"2"))
            assert [committed.head.version for committed in await storage.append("p", again)] == [1, 2]

    run(work())


def test_listeners_hear_of_every_change_in_order_before_its_receipt(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            heard: list[tuple[str, int]] = []
            storage.listen(lambda batch: heard.extend((c.head.path, c.head.version) for c in batch))  # type: ignore[union-attr]

            async def write(path: str) -> None:
                for _ in range(20):
                    committed = await _append(storage, path)
                    assert (path, committed.head.version) in heard

            await asyncio.gather(*(write(f"file {number}") for number in range(10)))
            assert len(heard) == len(set(heard)) == 200
            for number in range(10):
                versions = [version for path, version in heard if path == f"file {number}"]
                assert versions == list(range(1, 21))

    run(work())


def test_a_listener_that_is_to_be_first_hears_before_those_that_listened_earlier(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            heard: list[str] = []
            storage.listen(lambda batch: heard.append("one"))
            storage.listen(lambda batch: heard.append("two"))
            storage.listen(lambda batch: heard.append("first"), first=True)
            await _append(storage, "a.md")
            assert heard == ["first", "one", "two"]

    run(work())


def test_of_one_batch_each_version_has_its_own_author_credential_and_body(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            who = [(None, None), ("ann", None), (None, "token 1"), ("bob", "token 2")]
            bodies = [b"", b"short", bytes(range(256)) * 4, b"x" * 1025, b"y" * 70_000]
            written = {f"{n}.md": (*who[n % 4], bodies[n % 5]) for n in range(20)}
            await asyncio.gather(
                *(
                    storage.append("p", (AppendUpdate(path, Version(0), body, author, credential=credential),))
                    for path, (author, credential, body) in written.items()
                )
            )
            for path, (author, credential, body) in written.items():
                (row,) = [row async for row in storage.updates("p", path)]
                assert (row.author, row.credential, row.body, row.intact) == (author, credential, body, True)
            assert await storage.dangling() == []

    run(work())


def test_a_function_is_called_with_the_result_once_after_the_listeners(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            heard: list[int] = []
            storage.listen(lambda batch: heard.extend(c.head.version for c in batch))  # type: ignore[union-attr]
            called: asyncio.Queue[tuple[int, bool, list[int]]] = asyncio.Queue()

            def note(number: int, result: tuple[Committed, ...] | StorageError) -> None:
                called.put_nowait((number, isinstance(result, VersionConflict), [*heard]))
                raise ValueError("that keeps no other from its result")

            for number, expected in enumerate((0, 0, 1, 7)):
                change = AppendUpdate("a", Version(expected), b"x")
                storage.append_and_call("p", (change,), functools.partial(note, number))
                assert called.empty()
            asked = [await called.get() for _ in range(4)]
            assert [(number, refused) for number, refused, _ in asked] == [(0, False), (1, True), (2, False), (3, True)]
            assert (asked[0][2][:1], asked[2][2]) == ([1], [1, 2])
            assert (await _append(storage, "a")).head.version == 3
            assert called.empty()
        with pytest.raises(StorageClosed):
            storage.append_and_call("p", (AppendUpdate("a", Version(3), b"x"),), functools.partial(note, 9))
        assert called.empty()

    run(work())


def test_time_does_not_run_backwards_when_the_clock_does(open_storage: Open, run: Run, clock: Clock) -> None:
    async def work() -> None:
        async with open_storage(clock=clock) as storage:
            times = []
            for step in (0, 5, -10_000, 3, -1, 20_000):
                clock.now += step
                times.append((await _append(storage, "a")).head.last_modified)
            assert times == sorted(times)
        clock.now -= 3_600_000
        async with open_storage(clock=clock) as storage:
            assert (await _append(storage, "b")).head.last_modified >= times[-1]
            assert (await _append(storage, "a", project="other")).head.last_modified == clock.now

    run(work())


def test_all_is_there_after_closing_and_opening(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            for number in range(5):
                await _append(storage, "a", b"%d" % number)
            await _append(storage, "b")
            await _delete(storage, "b")
            before = await storage.project_head("p")
            waiting = [storage.append("p", (AppendUpdate(f"late {n}", Version(0), b"x"),)) for n in range(50)]
        assert all(asyncio.isfuture(each) and each.result() for each in waiting)  # closing writes what was queued
        with pytest.raises(StorageClosed):
            await storage.append("p", (AppendUpdate("too late", Version(0), b"x"),))
        async with open_storage() as storage:
            after = await storage.project_head("p")
            assert before is not None
            assert after is not None
            assert (after.epoch, after.sequence) == (before.epoch, before.sequence + 50)
            assert [update.body async for update in storage.updates("p", "a")] == [b"%d" % n for n in range(5)]
            b = await storage.file_head("p", "b")
            assert b is not None
            assert b.deleted

    run(work())


def test_a_reader_at_a_cursor_is_never_shown_an_earlier_change_later(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            await _append(storage, "a")
            done = asyncio.Event()

            async def write(number: int) -> None:
                for _ in range(60):
                    await _append(
                        storage, f"{number}/{random.randrange(4)}" if random.random() < 0.9 else "a-" + str(number)
                    )

            async def read() -> None:
                cursor, seen = 0, dict[str, int]()
                while not done.is_set() or cursor < (await _sequence(storage)):
                    answer = await storage.files_changed_since("p", cursor, limit=random.choice((1, 3, None)))
                    assert answer is not None
                    head, files = answer
                    for file in files:
                        assert cursor < file.sequence <= head.sequence
                        assert file.version > seen.get(file.path, 0)
                        seen[file.path] = file.version
                        cursor = file.sequence
                    await asyncio.sleep(0)
                for path, version in seen.items():
                    present = await storage.file_head("p", path)
                    assert present is not None
                    assert present.version == version
                answer = await storage.files_changed_since("p", 0)
                assert answer is not None
                assert {file.path for file in answer[1]} == set(seen)

            readers = [asyncio.create_task(read()) for _ in range(4)]
            await asyncio.gather(*(write(number) for number in range(8)))
            done.set()
            await asyncio.gather(*readers)

    run(work())


async def _sequence(storage: Storage) -> int:
    head = await storage.project_head("p")
    assert head is not None
    return head.sequence


def test_every_version_of_every_life_is_built_of_what_was_written(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            lives: list[list[bytes]] = []
            for life in range(3):
                bodies = [b"%d.%d" % (life, number) for number in range(6)]
                for body in bodies:
                    await _append(storage, "a", body)
                lives.append(bodies)
                if life < 2:
                    await _delete(storage, "a")

            async def check() -> None:
                version = 0
                for bodies in lives:
                    for number in range(len(bodies)):
                        version += 1
                        stored = await storage.read_document("p", "a", at_version=version)
                        assert stored is not None
                        start = 0 if stored.snapshot is None else int(stored.snapshot.body)
                        assert list(stored.updates) == bodies[start : number + 1]
                        assert stored.size == sum(map(len, bodies[: number + 1]))
                    version += 1
                    assert await storage.read_document("p", "a", at_version=version) is None

            await check()
            for version in (3, 6, 9, 17, 20):  # a snapshot of this test is the number of updates it stands for
                born = max(start for start in (1, 8, 15) if start <= version)
                await storage.put_snapshot("p", "a", Snapshot(Version(version), b"%d" % (version - born + 1)))
            await storage.put_snapshot("p", "a", Snapshot(Version(7), b"of a tombstone"))
            await storage.put_snapshot("p", "a", Snapshot(Version(99), b"of no version"))
            assert len(await storage.snapshots("p", "a")) == 5
            await check()
            assert await storage.drop_snapshots() == 5
            await check()

    run(work())


def test_the_body_of_a_snapshot_may_be_any_bytes(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        bodies = [b"", b"\xff" * 7 + b"\xfe" + bytes(range(256)) * 5, bytes(300_000)]
        async with open_storage() as storage:
            for body in bodies:
                await _append(storage, "a", body or b"0")
            for version, body in enumerate(bodies, 1):
                await storage.put_snapshot("p", "a", Snapshot(Version(version), body))
        async with open_storage() as storage:
            found = await storage.snapshots("p", "a")
            assert [(each.version, each.body, each.intact) for each in found] == [
                (version, body, True) for version, body in enumerate(bodies, 1)
            ]
            for version, body in enumerate(bodies, 1):
                stored = await storage.read_document("p", "a", at_version=version)
                assert stored is not None
                assert stored.snapshot is not None
                assert (stored.snapshot.version, stored.snapshot.body, stored.updates) == (version, body, ())

    run(work())


def test_an_increment_is_what_was_added_within_this_life_and_its_bounds(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            await _append(storage, "a", b"old life")
            await _delete(storage, "a")
            for number in range(10):
                await _append(storage, "a", b"%d" % number)
            for after in range(3, 13):
                increment = await storage.read_increment("p", "a", after, most_bytes=100)
                assert increment is not None
                assert b"".join(increment.updates) == b"0123456789"[after - 2 :]
            for after in (0, 1, 2, 13, 10**30):
                assert await storage.read_increment("p", "a", after, most_bytes=100) is None
            assert await storage.read_increment("p", "a", 3, most_bytes=8) is None
            assert await storage.read_increment("p", "b", 0, most_bytes=8) is None

    run(work())


def test_an_increment_is_the_same_whatever_its_reader_knows(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            heads = [(await _append(storage, "a", b"%d" % number)).head for number in range(5)]
            heads.append((await _delete(storage, "a")).head)
            heads += [(await _append(storage, "a", b"%d" % number)).head for number in range(5)]
            assert await storage.squash("p", "a", 9, b"whole")
            for after in range(13):
                expected = await storage.read_increment("p", "a", after, most_bytes=3)
                assert (expected is None) == (after not in (9, 10, 11))
                for known in heads:
                    found = await storage.read_increment("p", "a", after, most_bytes=3, known=known)
                    assert found == expected or (found is not None and after < 9 and known is heads[-1])

    run(work())


def test_a_listing_is_in_order_of_path_and_of_what_exists(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            paths = ["a", "a/b", "a/c", "a0", "b", "ä", "😀", "\ue000", "a/\U0010ffff", "gone"]
            for path in paths:
                await _append(storage, path)
            await _delete(storage, "gone")
            await _append(storage, "a/else", project="other")
            exist = sorted(set(paths) - {"gone"}, key=lambda path: path.encode())

            async def listed(**question: object) -> list[str]:
                answer = await storage.list_files("p", limit=1000, **question)  # type: ignore[arg-type]
                assert answer is not None
                assert answer[0].sequence == 11
                return [file.path for file in answer[1]]

            assert await listed() == exist
            for prefix in ("", "a", "a/", "ä", "\U0010ffff", "a/\U0010ffff", "none"):
                assert await listed(prefix=prefix) == [path for path in exist if path.startswith(prefix)]
            pages, after = [], ""
            while answer := await storage.list_files("p", after=after, limit=2):
                if not answer[1]:
                    break
                pages += [file.path for file in answer[1]]
                after = pages[-1]
            assert pages == exist
            assert await storage.list_files("none", limit=1) is None

    run(work())


def test_tombstones_are_listed_by_path_with_who_deleted(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            assert await storage.list_tombstones("p", limit=1) is None
            paths = ["a", "a/b", "a/c", "b", "ä", "😀"]
            for path in [*paths, "alive", "back"]:
                await _append(storage, path)
            for path in [*paths, "back"]:
                await storage.append("p", (DeleteFile(path, Version(1), None if path == "b" else f"who {path}"),))
            await _append(storage, "back")

            async def listed(**question: object) -> list[str]:
                answer = await storage.list_tombstones("p", **{"limit": 1000, **question})  # type: ignore[arg-type]
                assert answer is not None
                for each in answer[1]:
                    assert each.head == await storage.file_head("p", each.head.path)
                    assert each.author == (None if each.head.path == "b" else f"who {each.head.path}")
                return [each.head.path for each in answer[1]]

            assert await listed() == paths
            for prefix in ("a", "a/", "ä", "none"):
                assert await listed(prefix=prefix) == [path for path in paths if path.startswith(prefix)]
            assert await listed(after="a/b", limit=2) == ["a/c", "b"]

    run(work())


def test_the_last_versions_of_past_lives_are_known(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            assert await storage.past_incarnations("p", "a", limit=9) == []
            await _append(storage, "a", b"1")
            assert await storage.past_incarnations("p", "a", limit=9) == []
            await _append(storage, "a", b"2")
            await _delete(storage, "a")
            assert await storage.past_incarnations("p", "a", limit=9) == [2]
            await _append(storage, "a", b"4")
            assert await storage.past_incarnations("p", "a", limit=9) == [2]
            await _delete(storage, "a")
            await _append(storage, "a", b"6")
            await _append(storage, "a", b"7")
            await _delete(storage, "a")
            assert await storage.past_incarnations("p", "a", limit=9) == [7, 4, 2]
            assert await storage.past_incarnations("p", "a", limit=2) == [7, 4]
            await _append(storage, "a", b"9")
            assert await storage.past_incarnations("p", "a", limit=9) == [7, 4, 2]
            bodies = [await storage.read_document("p", "a", at_version=version) for version in (7, 4, 2)]
            assert [each and each.updates for each in bodies] == [(b"6", b"7"), (b"4",), (b"1", b"2")]

    run(work())


def test_it_knows_when_a_file_existed(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            existed = [False]
            for step in range(40):
                alive = existed[-1]
                if alive and random.Random(step).random() < 0.4:
                    await _delete(storage, "a")
                    existed.append(False)
                else:
                    await _append(storage, "a")
                    existed.append(True)
            for sequence, expected in enumerate(existed):
                assert await storage.existed_at("p", "a", sequence) is expected, sequence
            assert await storage.existed_at("p", "b", 3) is False

    run(work())


def test_what_waits_to_be_written_is_bounded(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage(queued_changes=10) as storage:
            waiting = [storage.append("p", (AppendUpdate(f"{n}", Version(0), b"x"),)) for n in range(10)]
            assert storage.load == 1.0
            with pytest.raises(StorageOverloaded) as refused:
                storage.append("p", (AppendUpdate("one more", Version(0), b"x"),))
            assert refused.value.limit == 10
            await asyncio.gather(*waiting)
            assert storage.load == 0.0
            await _append(storage, "one more")
        async with open_storage(queued_bytes=100) as storage:
            first = storage.append("p", (AppendUpdate("large", Version(0), bytes(1000)),))  # one is always taken
            with pytest.raises(StorageOverloaded):
                storage.append("p", (AppendUpdate("small", Version(0), b"x"),))
            await first

    run(work())


def test_a_change_whose_writer_has_left_is_stored_all_the_same(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            futures = [
                asyncio.ensure_future(storage.append("p", (AppendUpdate(f"{n}", Version(0), b"x"),))) for n in range(6)
            ]
            futures[2].cancel()
            await asyncio.wait(futures)
            for number in range(6):
                assert await storage.file_head("p", str(number)) is not None

    run(work())


def test_projects_do_not_see_each_other(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            for project in ("p", "q"):
                for path in ("a", "b"):
                    await _append(storage, path, project.encode(), project)
            await _delete(storage, "a", "q")
            p, q = await storage.project_head("p"), await storage.project_head("q")
            assert p is not None
            assert q is not None
            assert (p.sequence, q.sequence) == (2, 3)
            assert p.epoch != q.epoch
            answer = await storage.files_changed_since("p", 0)
            assert answer is not None
            assert [(file.path, file.deleted) for file in answer[1]] == [("a", False), ("b", False)]
            assert [update.body async for update in storage.updates("p", "a")] == [b"p"]
            assert [head.name async for head in storage.projects()] == ["p", "q"]

    run(work())


def test_history_is_paged_from_the_newest(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            for _ in range(5):
                await _append(storage, "a")
            await _delete(storage, "a")
            versions: list[int] = []
            before: int | None = None
            while page := await storage.read_history("p", "a", before=before, limit=4):
                if not page[1]:
                    break
                versions += [record.version for record in page[1]]
                before = versions[-1]
            assert versions == [6, 5, 4, 3, 2, 1]
            newest = await storage.read_history("p", "a", limit=1)
            assert newest is not None
            assert (newest[1][0].deleted, newest[1][0].author) == (True, None)
            assert await storage.read_history("p", "none", limit=1) is None

    run(work())


def test_a_version_keeps_the_credential_that_it_was_written_with(open_storage: Open, run: Run) -> None:
    async def work() -> None:
        async with open_storage() as storage:
            for version, credential in enumerate(("one", None, "two, ü")):
                change = AppendUpdate("a", Version(version), b"\0\1", "ann", credential=credential)
                await storage.append("p", (change,))
            await storage.append("p", (DeleteFile("a", Version(3), "ann", "three"),))
        async with open_storage() as storage:
            history = await storage.read_history("p", "a", limit=10)
            assert history is not None
            assert [record.credential for record in history[1]] == ["three", "two, ü", None, "one"]
            assert await storage.squash("p", "a", Version(3), b"\0\2")
            rows = [row async for row in storage.updates("p", "a")]
            assert [(row.version, row.credential, row.intact) for row in rows] == [
                (3, "two, ü", True),
                (4, "three", True),
            ]

    run(work())
