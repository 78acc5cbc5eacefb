"""(g) A day in the incarnation: what people cost who poll by the client's rules, and how many of them fill one process.

Four people share a project of three files of 20 KB. Each works in spells of 20 minutes on average with breaks of 10,
types a burst of ten edits every five minutes or so while at work, and in half of the breaks has the page hidden. Their
polls are those of `gateway.client.polling.schedule`, the client's own rules, in virtual time. Every request that they
make is sent to a real gateway, as fast as it answers, in the order of each project: polls of the change feed with
cursor and tag, increments of the files that changed, edits.

Beside them stand clients as they are often written: every 2 seconds, as long as the page is open, each of the three
files as a whole, unconditionally. Nothing is compressed on either side. The edits would be the same, and are not
counted as requests of either.

How many users fill a process is the rate at which it answers their mix of requests, edits among them, by how often a
user asks for one. All of them are then in that one process, and the load generator's core has no share in it.
"""

import heapq
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import pycrdt

from benchmarks.documents import pasted
from benchmarks.harness import Aim, Plan, Row, compare, folder, take_turns
from benchmarks.load import Load, fetch, put_under_load, request
from benchmarks.servers import Server, gateway
from gateway.client.policy import Answer, Decision, Poll, PollSettings
from gateway.client.polling.schedule import PollSchedule

_TEAM = 4
_FILES = 3
_FILE_BYTES = 20_000
_NAIVE_S = 2.0
_SPELL_S, _BREAK_S, _HIDDEN = 1200.0, 600.0, 0.5
_BURST_EVERY_S, _BURST_EDITS, _EDIT_EVERY_S = 300.0, 10, 2.0
_TOUCH_S = 20.0
_SETTLE_S, _WARM_UP_S = 60.0, 120.0
_STRETCH_S = 5.0
"""So much of the day is sent at once where there are many users."""
_CONNECTIONS = 64
_STATUSES = (200, 204, 304)
_KEY = "files"


@dataclass
class Traffic:
    """The requests of a stretch of time, by project, in order."""

    streams: list[list[bytes]] = field(default_factory=list)
    reads: int = 0
    edits_only: bool = False

    def read(self, message: bytes) -> None:
        """A request of the last project that is no edit."""
        if not self.edits_only:
            self.reads += 1
            self.streams[-1].append(message)


class Team:
    """A project and its people, in virtual milliseconds. `run` goes on where it stopped."""

    def __init__(self, path: str, cursor: str, edits: Sequence[bytes], seed: int) -> None:
        self.path = path
        self._epoch, _, sequence = cursor.rpartition(".")
        self.sequence = int(sequence)
        self.versions = [1] * _FILES
        self._edits = [iter(edits) for _ in range(_FILES)]
        self.chance = random.Random(seed)
        self._events: list[tuple[float, int, int, str]] = []
        self._order = itertools.count()
        self._people = [Person(self) for _ in range(_TEAM)]
        for number in range(_TEAM):
            resting = self.chance.random() < _BREAK_S / (_SPELL_S + _BREAK_S)
            begin = self.chance.expovariate(1 / _BREAK_S) if resting else self.chance.random() * _SETTLE_S
            self.plan(begin * 1000, number, "begin")

    def plan(self, time: float, person: int, what: str) -> None:
        """Something is to happen."""
        heapq.heappush(self._events, (time, next(self._order), person, what))

    def run(self, until: float, traffic: Traffic) -> None:
        """Let time pass, and note what is asked."""
        traffic.streams.append([])
        while self._events[0][0] <= until:
            time, _, number, what = heapq.heappop(self._events)
            person = self._people[number]
            getattr(self, f"_{what}")(time, number, person, traffic)
            person.ask(person.schedule.advance(time), time, traffic)
            wake = person.schedule.wake
            if wake is not None and wake != person.planned:
                person.planned = wake
                self.plan(max(wake, time), number, "tick")

    def cursor(self, sequence: int) -> str:
        return f"{self._epoch}.{sequence}"

    # What happens

    def _tick(self, time: float, number: int, person: "Person", traffic: Traffic) -> None:
        person.planned = None

    def _begin(self, time: float, number: int, person: "Person", traffic: Traffic) -> None:
        person.at_work = True
        person.ask(person.schedule.resume(time), time, traffic)
        self.plan(time + self.chance.expovariate(1 / _SPELL_S) * 1000, number, "leave")
        self.plan(time + _TOUCH_S * 1000, number, "touch")
        self.plan(time + self.chance.expovariate(1 / _BURST_EVERY_S) * 1000, number, "type")

    def _leave(self, time: float, number: int, person: "Person", traffic: Traffic) -> None:
        person.at_work = False
        if self.chance.random() < _HIDDEN:
            person.ask(person.schedule.pause(time), time, traffic)
        self.plan(time + self.chance.expovariate(1 / _BREAK_S) * 1000, number, "begin")

    def _touch(self, time: float, number: int, person: "Person", traffic: Traffic) -> None:
        if person.at_work:
            person.ask(person.schedule.touch(time), time, traffic)
            self.plan(time + _TOUCH_S * 1000, number, "touch")

    def _type(self, time: float, number: int, person: "Person", traffic: Traffic) -> None:
        if not person.at_work:
            return
        person.burst, person.file = (person.burst or _BURST_EDITS) - 1, self.chance.randrange(_FILES)
        update = next(self._edits[person.file], None) if time > _SETTLE_S * 1000 else None
        if update is not None:
            self.sequence += 1
            self.versions[person.file] += 1
            path = f"{self.path}/files/{person.file}"
            traffic.streams[-1].append(request("PATCH", path, update, content_type="application/octet-stream"))
            person.ask(person.schedule.note_write(time, _KEY), time, traffic)
        pause = _EDIT_EVERY_S if person.burst else self.chance.expovariate(1 / _BURST_EVERY_S)
        self.plan(time + pause * 1000, number, "type")


class Person:
    """One who has the project's files open."""

    def __init__(self, team: Team) -> None:
        self._team = team
        self.schedule = PollSchedule(PollSettings(), team.chance.random)
        self.at_work = False
        self.burst = self.file = 0
        self.planned: float | None = None
        self._sequence = team.sequence
        self._versions = list(team.versions)
        self.schedule.pause(0)  # the page is in the background until work begins
        self.schedule.register(0, _KEY, "page", PollSettings().document_interval_ms)

    def ask(self, decisions: Sequence[Decision], time: float, traffic: Traffic) -> None:
        """Do what the schedule decided. Answers take no time."""
        for decision in decisions:
            if isinstance(decision, Poll):
                changed = self._poll(traffic)
                answer = Answer(changed, cursor=str(self._sequence))
                more = self.schedule.answered(time, _KEY, answer)
                if any(type(each).__name__ == "Deliver" for each in more):
                    more += self.schedule.delivered(time, _KEY)
                self.ask(more, time, traffic)

    def _poll(self, traffic: Traffic) -> bool:
        team, cursor = self._team, self._team.cursor(self._sequence)
        traffic.read(request("GET", f"{team.path}/changes?kinds=file&since={cursor}", if_none_match=f'"{cursor}"'))
        if self._sequence == team.sequence:
            return False
        for file, (had, there) in enumerate(zip(self._versions, team.versions, strict=True)):
            if had != there:
                traffic.read(request("GET", f"{team.path}/files/{file}?from_version={had}"))
        self._sequence, self._versions = team.sequence, list(team.versions)
        return True


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    edits = plan.size(2000, 100)
    updates = pasted(_FILE_BYTES, edits)
    whole, keystrokes = pycrdt.merge_updates(*updates[:-edits]), updates[-edits:]
    for users in (100, plan.size(10_000, 200)):
        with folder() as place, gateway(place / "gateway.db") as ours:
            yield from _measure(plan, ours, _teams(ours, users, whole, keystrokes))


def _measure(plan: Plan, ours: Server, teams: Sequence[Team]) -> Iterator[Row]:
    """Both take turns, with one stretch of the day after the other."""
    users = len(teams) * _TEAM
    seconds = max(_STRETCH_S, plan.size(20_000, 2_000) / users)
    for team in teams:  # until those who work are at it; nobody types yet, and nothing is sent
        team.run(_SETTLE_S * 1000, Traffic())
    start = _SETTLE_S + _WARM_UP_S
    _send(ours, teams, start * 1000, Traffic(edits_only=True))  # until there is as much typing as ever
    ends = itertools.count(1)
    both = take_turns(
        plan,
        {
            "policy": lambda: _send(ours, teams, (start + next(ends) * seconds) * 1000, Traffic()),
            "naive": partial(_send_naive, ours, teams, plan),
        },
    )
    yield from _rows(users, both["policy"], [_cost(each, users, seconds) for each in both["policy"]], both["naive"])


def _rows(
    users: int, taken: "Sequence[tuple[Traffic, Load]]", per_user: Sequence["Cost"], naive: Sequence[Load]
) -> Iterator[Row]:
    asks = _FILES / _NAIVE_S
    whole = [asks * 3600 * load.received / load.answers for load in naive]
    yield compare(
        f"{users:,} users: requests", "/user-hour", [cost.requests for cost in per_user], "whole files, every 2 s",
        [asks * 3600] * len(per_user), aim=Aim("<=", 0.75),
    )  # fmt: skip
    yield compare(
        f"{users:,} users: received", "KB/user-hour", [cost.received / 1e3 for cost in per_user],
        "whole files, every 2 s", [size / 1e3 for size in whole], aim=Aim("<=", 0.02),
    )  # fmt: skip
    sustained = [load.per_second / cost.all_per_second for (_, load), cost in zip(taken, per_user, strict=True)]
    yield compare(
        f"{users:,} users: one process is full at", "users", sustained, "whole files, every 2 s",
        [load.per_second / asks for load in naive], aim=Aim(">=", 1_000, "ours"),
        details={
            "requests_per_second": [load.per_second for _, load in taken],
            "client_busy": [load.client_busy for _, load in taken],
            "p99_us": [load.p99 * 1e6 for _, load in taken],
        },
    )  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Of one user."""

    requests: float
    """Reads in an hour."""
    received: float
    """Bytes in an hour, receipts of edits included."""
    all_per_second: float
    """Reads and edits."""


def _cost(taken: tuple[Traffic, Load], users: int, seconds: float) -> Cost:
    traffic, load = taken
    everything = sum(map(len, traffic.streams))
    hours = users * seconds / 3600
    return Cost(traffic.reads / hours, load.received * everything / load.answers / hours, everything / users / seconds)


def _teams(server: Server, users: int, whole: bytes, edits: Sequence[bytes]) -> list[Team]:
    """The projects, each with its files and people."""
    paths = [f"/api/projects/team-{number}" for number in range(users // _TEAM)]
    creations = [
        [request("PATCH", f"{path}/files/{file}", whole, content_type="application/octet-stream")]
        for path in paths
        for file in range(_FILES)
    ]
    count = min(_CONNECTIONS, len(creations) // 2)
    streams = [itertools.chain.from_iterable(creations[number::count]) for number in range(count)]
    put_under_load(server, streams, seconds=3600, statuses=(201,))
    teams = []
    for number, path in enumerate(paths):
        cursor = fetch(server, request("GET", f"{path}/changes?kinds=file")).json()["cursor"]
        teams.append(Team(path, cursor, edits, seed=number))
    return teams


def _send(server: Server, teams: Sequence[Team], until: float, traffic: Traffic) -> tuple[Traffic, Load]:
    """Let time pass for all teams, then send what they ask. Each project's requests go in order, on one connection."""
    for team in teams:
        team.run(until, traffic)
    streams = _on_connections(traffic.streams)
    load = put_under_load(server, streams, seconds=3600, statuses=_STATUSES)
    _check(server, teams[0])
    return traffic, load


def _on_connections(projects: Sequence[list[bytes]]) -> list[list[bytes]]:
    """The requests of each connection: as many connections as have two requests at least."""
    count = min(_CONNECTIONS, len(projects))
    while True:
        streams = [list(itertools.chain.from_iterable(projects[number::count])) for number in range(count)]
        if count == 1 or min(map(len, streams)) >= 2:
            return streams
        count //= 2


def _check(server: Server, team: Team) -> None:
    """The simulation knows where the project stands: else what it took for a 304 was none."""
    cursor = team.cursor(team.sequence)
    answer = fetch(server, request("GET", f"{team.path}/changes?kinds=file&since={cursor}"))
    found = answer.json()
    if found["changes"] or found["cursor"] != cursor:
        raise RuntimeError(f"the project stands at {found['cursor']}, and not at {cursor}")


def _send_naive(server: Server, teams: Sequence[Team], plan: Plan) -> Load:
    reads = [[request("GET", f"{team.path}/files/{file}") for file in range(_FILES)] for team in teams[:_CONNECTIONS]]
    return put_under_load(server, [itertools.cycle(each) for each in reads], seconds=plan.seconds)
