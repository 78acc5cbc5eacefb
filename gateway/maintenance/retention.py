"""Keeping less than everything, where settings say so: the oldest versions are folded, old tombstones forgotten."""

import asyncio
import time
from collections.abc import Callable

import structlog
from msgspec import Struct

from gateway.files.documents import stored_parts
from gateway.maintenance.jobs import Job
from gateway.settings import _DAY_MS, RetentionPolicy
from gateway.workers.pool import Lane, in_worker
from gateway.yjs.updates import prove_snapshot
from storage import FoldPoint, Storage

_log = structlog.get_logger("gateway.retention")

_WORTH_FOLDING = 100
"""So many versions of a file must be beyond what is kept before it is folded in the background: each time the whole
document is built and written."""


class Folded(Struct):
    """What has gone."""

    files: int = 0
    versions: int = 0
    tombstones: int = 0


class Retainer:
    """Folds what a policy lets go. Each step is short, holds up nobody, and may be the last one for now."""

    def __init__(
        self, storage: Storage, policy: RetentionPolicy, clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self._storage = storage
        self._policy = policy
        self._clock = clock
        self.job = Job("retention")

    async def run(self, interval: float) -> None:
        """Look at all files every `interval` seconds until cancelled."""
        while True:
            folded = await self.fold_all(worth=_WORTH_FOLDING)
            if folded != Folded():
                _log.info("folded", files=folded.files, versions=folded.versions, tombstones=folded.tombstones)
            await asyncio.sleep(interval)

    async def fold_all(self, *, worth: int = 1) -> Folded:
        """Fold every file of which at least `worth` versions are to go; sweep up what was folded before."""
        folded = Folded()
        now = self._clock()
        if self._policy.tombstone_days:
            await self._forget_tombstones(int(now - self._policy.tombstone_days * _DAY_MS), folded)
        async for point in self._storage.fold_points(self._policy.rule(now), worth=worth):
            try:
                if point.folded or await self._fold(point):
                    folded.files += 1
                    folded.versions += await self._sweep(point.project, point.path)
            except Exception as error:  # what cannot be proven is not thrown away; what was done is done
                self.job.failed(error, project=point.project, path=point.path)
        return folded

    async def _fold(self, point: FoldPoint) -> bool:
        project, path, version = point.project, point.path, point.version
        stored = await self._storage.read_document(project, path, at_version=version)
        body = None if stored is None else await in_worker(prove_snapshot, stored_parts(stored), lane=Lane.UPKEEP)
        return await self._storage.fold(project, path, version, body)

    async def _sweep(self, project: str, path: str) -> int:
        versions = 0
        while swept := await self._storage.sweep(project, path):
            versions += swept
            await asyncio.sleep(0)
        return versions

    async def _forget_tombstones(self, before: int, folded: Folded) -> None:
        while forgotten := await self._storage.forget_tombstones(before):
            folded.tombstones += len(forgotten)
            for project, path in forgotten:
                folded.versions += await self._sweep(project, path)
