"""Retention, where settings ask for it: the oldest versions are squashed, old tombstones purged."""

import asyncio
from collections.abc import Callable

import structlog
from msgspec import Struct

from gateway.files.documents import stored_rows
from gateway.maintenance.jobs import Job
from gateway.pace import next_slice
from gateway.settings import _DAY_MS, RetentionPolicy
from gateway.trusted_clock import TrustedClock
from gateway.workers.pool import LIGHT_UNITS, Lane, in_worker
from gateway.yjs.updates import prove_snapshot
from storage import SquashPoint, Storage, wall_clock

_log = structlog.get_logger("gateway.retention")

_WORTH_SQUASHING = 100
"""Versions of a file that must exceed the policy before it is squashed in the background: each squash builds and
writes the whole document."""


_LOOK_S = 60.0
"""Seconds between checks whether the gateway that squashes is still alive."""


class Squashed(Struct):
    """What was removed."""

    files: int = 0
    versions: int = 0
    tombstones: int = 0


class Retainer:
    """Squashes what a policy releases. Each step is short, blocks nobody, and may be the last one for now."""

    def __init__(self, storage: Storage, policy: RetentionPolicy, clock: Callable[[], int] = wall_clock) -> None:
        self._storage = storage
        self._policy = policy
        self._clock = clock
        self.job = Job("retention")

    async def run(self, interval: float, trusted: TrustedClock) -> None:
        """Look at all files every `interval` seconds until cancelled. No version is old by a clock that has leapt."""
        while True:
            if not await self._storage.hold(self.job.name, 2 * interval):
                await asyncio.sleep(min(interval, _LOOK_S))
                continue
            squashed = await self.squash_all(worth=_WORTH_SQUASHING, now=await trusted.now())
            if squashed != Squashed():
                _log.info("squashed", files=squashed.files, versions=squashed.versions, tombstones=squashed.tombstones)
            await asyncio.sleep(interval)

    async def squash_all(self, *, worth: int = 1, now: int | None = None) -> Squashed:
        """Squash every file with at least `worth` versions beyond the policy; purge what was squashed before.

        Args:
            now: milliseconds since 1970; None: what the clock says.
        """
        squashed = Squashed()
        now = self._clock() if now is None else now
        if self._policy.tombstone_days:
            await self._forget_tombstones(int(now - self._policy.tombstone_days * _DAY_MS), squashed)
        async for point in self._storage.squash_points(self._policy.rule(now), worth=worth):
            try:
                if point.squashed or await self._squash(point):
                    squashed.files += 1
                    squashed.versions += await self._purge(point.project, point.path)
            except Exception as error:  # what cannot be proven is not discarded; what was done remains done
                self.job.failed(error, project=point.project, path=point.path)
        return squashed

    async def _squash(self, point: SquashPoint) -> bool:
        project, path, version = point.project, point.path, point.version
        head = await self._storage.project_head(project)
        if head is None:
            return False
        stored = await self._storage.read_document(project, path, at_version=version)
        body = None
        if stored is not None:
            rows = await stored_rows(stored)
            body = await in_worker(prove_snapshot, rows, lane=Lane.UPKEEP, units=LIGHT_UNITS)
        return await self._storage.squash(project, path, version, body, head.epoch)

    async def _purge(self, project: str, path: str) -> int:
        versions = 0
        while purged := await self._storage.purge(project, path):
            versions += purged
            await next_slice()
        return versions

    async def _forget_tombstones(self, before: int, squashed: Squashed) -> None:
        while forgotten := await self._storage.forget_tombstones(before):
            squashed.tombstones += len(forgotten)
            for project, path in forgotten:
                squashed.versions += await self._purge(project, path)
