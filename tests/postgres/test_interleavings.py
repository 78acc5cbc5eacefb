"""Two gateways that write to one project at the same moment: what holds of the log, whoever is faster."""

import asyncio
import itertools

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import AppendUpdate, Commit, Committed, DeleteFile, Line, StorageError, Version
from storage.postgres import PostgresStorage, writer
from storage.postgres.database import project_id
from tests.postgres.conftest import database
from tests.support.postgres import PATIENCE_S

__all__ = ["database"]

_PATHS = ("a", "b", "c")
_CHANGES = st.tuples(st.integers(0, 1), st.sampled_from(_PATHS), st.sampled_from(("alone", "in line", "delete")))
_ROUNDS = st.lists(st.tuples(st.booleans(), st.lists(_CHANGES, min_size=1, max_size=6)), min_size=1, max_size=4)
"""Changes that are made at once, each with its gateway; whether all of them wait for the project's row."""
_numbers = itertools.count()


class _Two:
    """Two gateways' storages, and all that each of them heard in a project."""

    def __init__(self, nodes: tuple[PostgresStorage, PostgresStorage], holder: asyncpg.Connection) -> None:
        self.nodes = nodes
        self._holder = holder
        self._heard: tuple[list[Commit], list[Commit]] = ([], [])
        for node, heard in zip(nodes, self._heard, strict=True):
            node.listen(heard.extend)

    async def write(self, rounds: list[tuple[bool, list[tuple[int, str, str]]]]) -> None:
        project = f"p{next(_numbers)}"
        for heard, node in zip(self._heard, self.nodes, strict=True):
            heard.clear()
            await node.follow(project)
        await self.nodes[0].append(project, tuple(AppendUpdate(path, Version(0), b"first") for path in _PATHS))
        acknowledged: dict[tuple[str, int], bytes | None] = {}
        failed: set[bytes] = set()
        for held, changes in rounds:
            await asyncio.gather(*(node.catch_up(project) for node in self.nodes))
            base = {commit.head.path: commit.head.version for commit in self._log(0)}
            transaction = self._holder.transaction()
            await transaction.start()
            if held:
                await self._holder.execute("SELECT 1 FROM project WHERE id = $1 FOR UPDATE", project_id(project))
            lines = {(node, path): Line() for node in (0, 1) for path in _PATHS}
            broken: set[Line] = set()
            made = []
            queued: dict[tuple[int, str], int] = {}
            for node, path, kind in changes:
                expected = Version(base[path] + queued.get((node, path), 0))
                queued[node, path] = queued.get((node, path), 0) + 1
                body = f"{next(_numbers)}".encode()
                line = lines[node, path] if kind == "in line" else None
                change = (
                    DeleteFile(path, expected) if kind == "delete" else AppendUpdate(path, expected, body, line=line)
                )
                made.append((change, self.nodes[node].append(project, (change,))))
            if held:
                await self._until_wait(len({node for node, _, _ in changes}))
            await transaction.rollback()
            for change, result in made:
                line = change.line if isinstance(change, AppendUpdate) else None
                body = change.body if isinstance(change, AppendUpdate) else None
                try:
                    (committed,) = await result
                except StorageError:
                    failed |= {body} if body else set()
                    broken |= {line} if line else set()
                    continue
                assert line is None or line not in broken  # nothing is stored that builds on what failed
                assert committed.head.version == change.expected_version + 1
                assert (change.path, committed.head.version) not in acknowledged
                acknowledged[change.path, committed.head.version] = body
        await asyncio.gather(*(node.catch_up(project) for node in self.nodes))
        for node in self.nodes:
            node.unfollow(project)
        first, second = self._log(0), self._log(1)
        assert [_values(commit) for commit in first] == [_values(commit) for commit in second]
        assert [commit.project.sequence for commit in first] == list(range(1, len(first) + 1))
        for path in _PATHS:
            versions = [commit.head.version for commit in first if commit.head.path == path]
            assert versions == list(range(1, len(versions) + 1))
        stored = {(commit.head.path, commit.head.version): commit.update for commit in first[len(_PATHS) :]}
        assert stored == acknowledged
        assert failed.isdisjoint(stored.values())

    def _log(self, node: int) -> list[Committed]:
        return [commit for commit in self._heard[node] if isinstance(commit, Committed)]

    async def _until_wait(self, count: int) -> None:
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while await self._holder.fetchval(waiting) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def _values(commit: Committed) -> tuple[object, ...]:
    return commit.project, commit.head, commit.update


def test_whoever_is_faster_nothing_is_lost_doubled_or_out_of_order(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_CONTENDED_S", 1e6)  # whether the row is locked first does not depend on the time
    with asyncio.Runner() as runner:
        nodes = tuple(runner.run(PostgresStorage.open(database, patience=PATIENCE_S)) for _ in range(2))
        holder = runner.run(asyncpg.connect(database))
        two = _Two((nodes[0], nodes[1]), holder)

        @settings(max_examples=25, deadline=None)
        @given(_ROUNDS)
        def write(rounds: list[tuple[bool, list[tuple[int, str, str]]]]) -> None:
            runner.run(asyncio.wait_for(two.write(rounds), 120))

        try:
            write()
        finally:
            runner.run(holder.close())
            for node in nodes:
                runner.run(node.close())
