"""Sessions, turns, output and leases as a state machine, compared with a model, with a clock of the test's own."""

import asyncio
import itertools
import json
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from gateway.maintenance.silent_turns import SilentTurns
from gateway.turns.dialects import Outcome
from gateway.turns.leases import Leases
from gateway.turns.lifecycle import Output, add_blocks, end_output, new_id, renew, set_status, take_output
from gateway.turns.output import OutputOptions
from gateway.turns.store import Turns
from gateway.watch.hub import Hub
from gateway.wire.problems import BlockConflict, IllegalTransition, OutputConflict, Problem, TurnFinished
from storage import FINISHED, CommittedTurn, NewBlock, OutputPosition, StorageFull, TurnHead, TurnStatus
from storage.sqlite import SQLiteStorage
from tests.support.agent_stream import assistant, line, text

T = TypeVar("T")

LEASE = 8.0
GRACE = 4.0
TICK = 1.0
STATUSES: list[TurnStatus] = ["pending", "running", "completed", "failed", "cancelled"]
PROJECT = "p"


class Model:
    """What a turn must be."""

    def __init__(self, session: str, id: str) -> None:
        self.session = session
        self.id = id
        self.status = "pending"
        self.error: str | None = None
        self.blocks: list[tuple[str, Any]] = []
        self.stream = b""
        self.sent = 0
        self.heard_at = 0.0
        self.result: tuple[str, str | None] | None = None
        self.settling = False
        self.ends = 0
        self.batches: list[tuple[int, tuple[NewBlock, ...], Any]] = []


class Life(RuleBasedStateMachine):
    """Everything that may happen to turns, on a real database."""

    turns = Bundle("turns")

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.wall = 1_700_000_000_000
        self.clock = 0.0
        self.awake = 0.0
        self.models: list[Model] = []
        self.sequences: list[int] = []
        self.numbers = itertools.count()
        self.storage: SQLiteStorage
        self.run(self.open())
        self.sessions = [self.run(self.service.create_session(PROJECT, None)).session_id]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    async def open(self) -> None:
        self.storage = await SQLiteStorage.open(self.folder / "turns.db", clock=lambda: self.wall)
        self.storage.listen(lambda batch: self.sequences.extend(commit.project.sequence for commit in batch))
        self.storage.listen(self.count_ends)
        self.service = Turns(self.storage, Hub(self.storage), lease=LEASE, grace=GRACE, line_limit=1 << 20)
        self.silent = SilentTurns(self.storage, LEASE, GRACE, clock=lambda: self.clock)
        await self.silent.adopt_running()
        self.awake = 0.0
        for model in self.models:
            model.heard_at = 0.0

    def count_ends(self, batch: Any) -> None:
        """How often a turn is written as finished: once at most."""
        for committed in batch:
            if isinstance(committed, CommittedTurn) and committed.turn.status in FINISHED:
                next(model for model in self.models if model.id == committed.turn.turn_id).ends += 1

    def teardown(self) -> None:
        if hasattr(self, "storage"):
            self.run(self.storage.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    def written(self, model: Model, status: str, *, settling: bool = False) -> None:
        model.status, model.settling = status, settling
        model.heard_at = self.awake

    @rule()
    def another_session(self) -> None:
        self.sessions.append(self.run(self.service.create_session(PROJECT, "title")).session_id)

    @rule(target=turns, place=st.integers(0, 100))
    def create(self, place: int) -> Model:
        session = self.sessions[place % len(self.sessions)]
        head = self.run(self.service.create(PROJECT, session, "prompt"))
        model = Model(session, head.turn_id)
        self.models.append(model)
        return model

    @rule(model=turns, status=st.sampled_from(STATUSES), error=st.sampled_from([None, "why"]))
    def step(self, model: Model, status: TurnStatus, error: str | None) -> None:
        legal = {"pending": {"running", "failed", "cancelled"}, "running": FINISHED}.get(model.status, set())
        error = None if status == "running" else error  # the door refuses an error without an end
        work = self.service.set_status(PROJECT, model.session, model.id, status, error)
        if status in legal:
            self.run(work)
            self.written(model, status)
            model.error = error
        else:
            with pytest.raises(TurnFinished if model.status in FINISHED else IllegalTransition):
                self.run(work)

    @rule(model=turns, count=st.integers(1, 3), indexed=st.booleans(), off=st.sampled_from([0, 0, 0, 1, 5]))
    def append(self, model: Model, count: int, indexed: bool, off: int) -> None:
        batch = tuple(NewBlock("text", str(next(self.numbers)).encode()) for _ in range(count))
        index = len(model.blocks) + off if indexed else None
        work = self.service.append_blocks(PROJECT, model.session, model.id, batch, index)
        if indexed and off:
            with pytest.raises(BlockConflict):
                self.run(work)
        elif model.status in FINISHED:
            with pytest.raises(TurnFinished):
                self.run(work)
        else:
            answer = self.run(work)
            model.batches.append((len(model.blocks), batch, answer))
            model.blocks += [(block.type, json.loads(block.content)) for block in batch]
            self.written(model, "running")

    @rule(model=turns, place=st.integers(0, 100))
    def repeat(self, model: Model, place: int) -> None:
        if model.batches:
            index, batch, answer = model.batches[place % len(model.batches)]
            assert self.run(self.service.append_blocks(PROJECT, model.session, model.id, batch, index)) == answer
            other = (NewBlock("error", batch[0].content), *batch[1:])
            with pytest.raises(BlockConflict):
                self.run(self.service.append_blocks(PROJECT, model.session, model.id, other, index))

    @rule(
        model=turns, lines=st.integers(1, 3), back=st.integers(0, 400), cuts=st.lists(st.integers(0, 400), max_size=3)
    )
    def output(self, model: Model, lines: int, back: int, cuts: list[int]) -> None:
        """Send the next lines of the stream, in chunks, beginning some way back, as after a lost answer."""
        numbers = [next(self.numbers) for _ in range(lines)]
        new = b"".join(line(assistant(text(f"é{number}"))) for number in numbers)
        start = max(len(model.stream) - back, 0)
        if self.send(model, start, (model.stream + new)[start:], cuts):
            model.stream += new
            model.blocks += [("text", f"é{number}") for number in numbers]
            self.written(model, "running")

    @rule(model=turns, failed=st.booleans(), back=st.integers(0, 400), final=st.sampled_from([None, False, True]))
    def result(self, model: Model, failed: bool, back: int, final: bool | None) -> None:
        value = {"type": "result", "is_error": failed, "result": "said", "n": next(self.numbers)}
        new = line(value)
        start = max(len(model.stream) - back, 0)
        if self.send(model, start, (model.stream + new)[start:], [back], final):
            model.stream += new
            model.blocks.append(("result", value))
            model.result = ("failed", "said") if failed else ("completed", None)
            if final:
                self.end_by_result(model)
                assert self.send(model, start, model.stream[start:], [], final)
            else:
                self.written(model, "running", settling=final is None)

    @rule(model=turns)
    def end_of_output(self, model: Model) -> None:
        if model.status not in FINISHED:
            self.send(model, len(model.stream), b"", [], final=True)
            model.result = model.result or ("failed", "the agent's output ended without a result")
            self.end_by_result(model)

    def end_by_result(self, model: Model) -> None:
        assert model.result is not None
        status, model.error = model.result
        self.written(model, status)

    def send(self, model: Model, start: int, body: bytes, cuts: list[int], final: bool | None = None) -> bool:
        async def post() -> TurnHead:
            options = OutputOptions(final=final)
            request = await self.service.open_output(PROJECT, model.session, model.id, start, options)
            places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
            for begin, end in itertools.pairwise(places):
                await request.feed(body[begin:end])
            return await request.end()

        if model.status not in FINISHED or len(model.stream) == start + len(body):
            assert self.run(post()).output_offset == start + len(body)
            return True
        with pytest.raises(TurnFinished):
            self.run(post())
        return False

    @rule(model=turns, beyond=st.integers(1, 10**12))
    def send_with_a_gap(self, model: Model, beyond: int) -> None:
        with pytest.raises(OutputConflict):
            self.run(
                self.service.open_output(PROJECT, model.session, model.id, len(model.stream) + beyond, OutputOptions())
            )

    @rule(model=turns)
    def renew(self, model: Model) -> None:
        async def post() -> TurnHead:
            return await (await self.service.open_output(PROJECT, model.session, model.id, None, OutputOptions())).end()

        if model.status in FINISHED:
            with pytest.raises(TurnFinished):
                self.run(post())
        else:
            self.run(post())
            self.written(model, "running", settling=model.settling)

    @rule(seconds=st.sampled_from([0.0, 0.125, 0.5, 1.0, 1.875, 2.0]))  # sums of these are exact
    def let_time_pass(self, seconds: float) -> None:
        self.clock += seconds
        self.awake += seconds
        self.look()

    @rule(seconds=st.sampled_from([2.0, 7.0, 8.0, 9.5, 10_000.0]))
    def stop_the_process_for_a_while(self, seconds: float) -> None:
        self.clock += seconds
        self.awake += 2 * TICK
        self.look()

    @rule(count=st.integers(1, 9))
    def let_ticks_pass(self, count: int) -> None:
        for _ in range(count):
            self.let_time_pass(TICK)

    def look(self) -> None:
        self.run(self.silent.look())
        for model in self.models:
            if model.status == "running" and model.heard_at + (GRACE if model.settling else LEASE) <= self.awake:
                model.status, model.error = model.result or ("failed", "lease expired")

    @rule(milliseconds=st.integers(-(10**9), 10**9))
    def set_the_wall_clock(self, milliseconds: int) -> None:
        self.wall += milliseconds
        self.look()

    @rule()
    def restart(self) -> None:
        self.run(self.storage.close())
        self.run(self.open())

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        if not hasattr(self, "storage"):
            return
        for model in self.models:
            turn = self.run(self.service.read(PROJECT, model.session, model.id, 0))
            assert (turn.head.status, turn.head.error) == (model.status, model.error)
            assert [(block.type, json.loads(block.content)) for block in turn.blocks] == model.blocks
            assert [block.index for block in turn.blocks] == list(range(turn.head.block_count))
            assert self.run(self.service.head(PROJECT, model.session, model.id)) == turn.head
            assert model.ends == (model.status in FINISHED)
            assert (turn.head.completed_at is not None) == (model.status in FINISHED)
            assert turn.head.last_updated >= turn.head.created_at

    @invariant()
    def the_feed_has_every_turn_in_the_order_of_its_last_change(self) -> None:
        if not hasattr(self, "storage"):
            return
        answer = self.run(self.storage.changes_since(PROJECT, 0))
        assert answer is not None
        head, changes = answer
        assert self.sequences == list(range(1, head.sequence + 1))
        assert {change.turn_id for change in changes if isinstance(change, TurnHead)} == {m.id for m in self.models}
        assert [change.sequence for change in changes] == sorted({change.sequence for change in changes})
        times = [change.last_updated for change in changes if isinstance(change, TurnHead)]
        assert times == sorted(times)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def head_with(status: TurnStatus) -> TurnHead:
    return TurnHead("s", "t", status, 2, 7, 0, 0, None, None, None, 10, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("after", STATUSES)
def test_the_rules_know_six_steps(before: TurnStatus, after: TurnStatus) -> None:
    legal = {
        ("pending", "running"), ("pending", "failed"), ("pending", "cancelled"),
        ("running", "completed"), ("running", "failed"), ("running", "cancelled"),
    }  # fmt: skip
    try:
        change = set_status(head_with(before), after)
    except Problem:
        assert (before, after) not in legal
    else:
        assert (before, after) in legal
        assert (change.status, change.expected_sequence) == (after, 7)


@pytest.mark.parametrize("status", STATUSES)
def test_blocks_and_output_are_taken_until_the_end(status: TurnStatus) -> None:
    for rule_of in (
        lambda head: add_blocks(head, ()),
        lambda head: renew(head, settling=True),
        lambda head: take_output(head, Output(OutputPosition(5)), settling=True),
        lambda head: end_output(head, Output(OutputPosition(5), outcome=Outcome("failed")), needs_result=True),
    ):
        if status in FINISHED:
            with pytest.raises(TurnFinished):
                rule_of(head_with(status))
        else:
            assert rule_of(head_with(status)).status in ("running", "failed")


def test_leases_end_in_the_order_of_their_last_sign() -> None:
    leases = Leases(10, 3)
    heads = [head_with("running") for _ in range(3)]
    for number, head in enumerate(heads):
        leases.note(f"p{number}", head, number)
    renewed = head_with("running")
    leases.note("p0", renewed, 5)
    assert leases.expired(10.9) == []
    assert leases.expired(11) == [("p1", heads[1])]
    assert [project for project, _ in leases.expired(100)] == ["p1", "p2", "p0"]
    leases.adopt("p1", heads[0], 50)  # it is known better
    assert leases.expired(11) == [("p1", heads[1])]
    leases.note("p1", head_with("failed"), 12)
    leases.forget("p0", heads[0])  # an older one: the newest stays
    assert [project for project, _ in leases.expired(100)] == ["p2", "p0"]
    leases.forget("p0", renewed)
    assert [project for project, _ in leases.expired(100)] == ["p2"]


def test_a_settling_turn_has_a_grace_and_a_lease_again_when_it_goes_on() -> None:
    leases = Leases(10, 3)
    settling = msgspec.structs.replace(head_with("running"), settling=True)
    leases.note("p", head_with("running"), 0)
    leases.note("p", settling, 1)
    leases.adopt("p", head_with("running"), 2)  # it is known better
    assert leases.expired(3.9) == []
    assert leases.expired(4) == [("p", settling)]
    on = head_with("running")
    leases.note("p", on, 4)
    leases.forget("p", settling)
    assert leases.expired(13.9) == []
    assert leases.expired(14) == [("p", on)]


@pytest.mark.parametrize(
    ("told", "outcome", "needs_result", "ends"),
    [
        (None, None, True, ("failed", "the agent's output ended without a result")),
        (None, None, False, ("completed", None)),
        (None, Outcome("failed", "why"), True, ("failed", "why")),
        ("completed", None, True, ("completed", None)),
        ("completed", Outcome("failed", "why"), True, ("failed", "why")),
        ("failed", Outcome(), True, ("completed", None)),
    ],
)
def test_the_last_result_decides_when_the_output_ends(
    told: TurnStatus | None, outcome: Outcome | None, needs_result: bool, ends: tuple[str, str | None]
) -> None:
    head = msgspec.structs.replace(head_with("running"), result_status=told)
    change = end_output(head, Output(OutputPosition(5, b"state"), outcome=outcome), needs_result=needs_result)
    assert (change.status, change.error, change.output) == (*ends, OutputPosition(5))


def test_a_lease_that_could_not_be_ended_is_ended_later(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "turns.db")
        service = Turns(storage, Hub(storage), lease=1, grace=1, line_limit=1000)
        now = 0.0
        silent = SilentTurns(storage, 1, 1, clock=lambda: now)
        session = (await service.create_session("p", None)).session_id
        turns = [(await service.create("p", session, "")).turn_id for _ in range(3)]
        for turn in turns:
            await service.set_status("p", session, turn, "running", None)
        write_turn, full = storage.write_turn, True

        async def refuse(*arguments: Any) -> Any:
            if full:
                raise StorageFull("full")
            return await write_turn(*arguments)

        storage.write_turn = refuse  # type: ignore[method-assign]
        for _ in range(20):
            now += 0.1
            failures = silent.job.failures
            await silent.look()
            assert silent.job.failures - failures == (3 if now > 1 else 0)
        full = False
        await silent.look()
        assert [(await service.head("p", session, turn)).status for turn in turns] == ["failed"] * 3
        await storage.close()

    asyncio.run(work())


def test_ids_sort_by_time_and_fit_into_a_path() -> None:
    ids = [new_id(time, entropy) for time in (0, 1, 1_700_000_000_000, 2**48 - 1) for entropy in (0, 1, 2**80 - 1)]
    assert ids == sorted(set(ids))
    assert all(len(id) == 26 and id.isalnum() and id == id.lower() for id in ids)
