"""Ends turns whose writers have gone silent."""

import asyncio
import time
from collections.abc import Callable

import structlog

from gateway.maintenance.jobs import Job
from gateway.turns.leases import Leases, expire
from storage import Commit, CommittedTurn, ErasedProject, Storage, TurnConflict, TurnHead

_log = structlog.get_logger("gateway.maintenance")

_HELD_S = 5.0
"""Seconds of silence of the gateway that ends silent turns after which another one takes over."""


class SilentTurns:
    """Ends running turns whose writers have been silent for the length of a lease, or for a grace after a result.

    Time counts only while this process runs, and is not measured by the wall clock: a gateway that was down, or
    stopped, could not hear a writer. So a turn that is already running at the start gets a full lease from then on.
    """

    def __init__(
        self, storage: Storage, lease: float, grace: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._storage = storage
        self._leases = Leases(lease, grace)
        self._times = lease, grace
        self._tick = min(1.0, lease / 8, max(grace / 4, 0.05))
        self._clock = clock
        self._looked = clock()
        self.job = Job("silent_turns")
        self._awake = 0.0
        """Seconds, roughly, that this process has run: a gap between two looks counts as two ticks at most."""
        self._adopt_again = False
        storage.listen(self._committed, self._missed)

    def _committed(self, batch: tuple[Commit, ...]) -> None:
        if self._storage.shared:
            return
        for committed in batch:
            if isinstance(committed, ErasedProject):
                self._leases.forget_project(committed.project.name)
            elif isinstance(committed, CommittedTurn):
                self._leases.note(committed.project.name, committed.turn, self._now())

    def _missed(self, batch: tuple[Commit, ...]) -> None:
        self._adopt_again = True

    async def run(self) -> None:
        """Run until cancelled."""
        if self._storage.shared:
            await self._run_for_all()
        await self.adopt_running()
        while True:
            await asyncio.sleep(self._tick)
            if self._adopt_again:
                self._adopt_again = False
                await self.adopt_running()
            await self.look()

    async def _run_for_all(self) -> None:
        """Where gateways share a database, one of them ends the silent turns of all, by the clock of the database."""
        while True:
            await asyncio.sleep(self._tick)
            if await self._storage.hold(self.job.name, _HELD_S):
                await self.look_for_all()

    async def look_for_all(self) -> None:
        """End the turns of all gateways to which nothing was stored for too long."""
        for project, head in await self._storage.due_turns(*self._times):
            try:
                await self._end(project, head)
            except Exception as error:  # it stays due: the next look tries again
                self.job.failed(error, project=project, session=head.session_id, turn=head.turn_id)

    async def adopt_running(self) -> None:
        """Give a lease to every turn that is already running."""
        async for project, head in self._storage.running_turns():
            self._leases.adopt(project, head, self._now())

    async def look(self) -> None:
        """End the turns whose leases have expired."""
        self._awake, self._looked = self._now(), self._clock()
        for project, head in self._leases.expired(self._awake):
            try:
                await self._end(project, head)
            except Exception as error:  # the lease stays expired: the next look tries again
                self.job.failed(error, project=project, session=head.session_id, turn=head.turn_id)

    def _now(self) -> float:
        return self._awake + min(self._clock() - self._looked, 2 * self._tick)

    async def _end(self, project: str, head: TurnHead) -> None:
        change = expire(head)
        try:
            await self._storage.write_turn(project, change)
        except TurnConflict:  # the writer ended it first
            self._leases.forget(project, head)
        else:
            told = {"project": project, "session": head.session_id, "turn": head.turn_id, "error": change.error}
            _log.info(f"silent turn {change.status}", **told)
