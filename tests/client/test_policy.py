"""The polling policy, held to the vectors that every client runs, and to what must hold of any history."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client.policy import Answer, Decision, Deliver, Failure, Poll, PollSettings, Stop
from gateway.client.polling.schedule import PollSchedule
from tests.client import vectors
from tests.docs.markdown import PROJECT, table

VECTORS = vectors.load()
ROWS = [
    "default interval", "while something is active", "idle stop", "terminal", "errors", "deduplication",
    "result cache", "concurrency", "hidden page", "server's hint", "missing predecessors",
    "mobile, save-data, low battery", "user inactive 5 minutes", "stale answers", "fast loop", "unregister", "upgrade",
    "conditional", "enabled: false",
]  # fmt: skip


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vector(vector: dict[str, Any]) -> None:
    assert vectors.run(vector) == vector["decisions"]


def test_every_row_of_the_policy_has_vectors() -> None:
    assert list(dict.fromkeys(vector["row"] for vector in VECTORS)) == ROWS
    assert len({vector["name"] for vector in VECTORS}) == len(VECTORS)


class _Server:
    """Answers what is asked after some time, or never, and remembers what was in flight."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.schedule = PollSchedule(PollSettings(), chance.random)
        self.in_flight: dict[str, float] = {}
        self.delivering: dict[str, float] = {}
        self.polled_at: dict[str, list[float]] = {}
        self.registered: set[tuple[str, str]] = set()

    def take(self, now: float, decisions: list[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Poll(key):
                    assert key not in self.in_flight, "a key is asked twice at once"
                    assert key not in self.delivering, "a key is asked before its news was delivered"
                    self.in_flight[key] = now + self._chance.choice([0, 30, 700, 20_000])
                    self.polled_at.setdefault(key, []).append(now)
                    assert len(self.in_flight) <= 3
                case Deliver(key, to, cached):
                    assert all((key, name) in self.registered for name in to if name != "waiter")
                    if not cached:
                        self.delivering[key] = now + self._chance.choice([0, 0, 900])
                case Stop(key):
                    assert self.schedule.stop_reason(key) is not None
                case _ if type(decision).__name__ == "Abort":
                    del self.in_flight[decision.key]

    def next_event(self) -> tuple[float, str, str] | None:
        """What comes by itself next: an answer, the end of a delivery, or the timer."""
        events = [(time, "answer", key) for key, time in self.in_flight.items()]
        events += [(time, "delivered", key) for key, time in self.delivering.items()]
        if self.schedule.wake is not None:
            events.append((self.schedule.wake, "wake", ""))
        return min(events, default=None)

    def let_happen(self, now: float, what: str, key: str) -> None:
        if what == "wake":
            self.take(now, self.schedule.advance(now))
        elif what == "delivered":
            del self.delivering[key]
            self.take(now, self.schedule.delivered(now, key))
        else:
            del self.in_flight[key]
            if self._chance.random() < 0.2:
                status = self._chance.choice([None, 503, 404])
                self.take(
                    now, self.schedule.failed(now, key, Failure(status, backoff_s=self._chance.choice([None, 3])))
                )
            else:
                answer = Answer(self._chance.random() < 0.3, terminal=self._chance.random() < 0.02)
                self.take(now, self.schedule.answered(now, key, answer))


@given(st.randoms(use_true_random=False))
def test_whatever_happens_no_key_is_asked_twice_at_once_and_nobody_is_told_after_leaving(
    chance: random.Random,
) -> None:
    server, now = _Server(chance), 0.0
    keys, names = "abcdef", "xyz"
    for _ in range(60):
        until = now + chance.choice([0, 10, 600, 5_000, 60_000])
        for _ in range(500):
            event = server.next_event()
            if event is None or event[0] > until:
                break
            now = max(now, event[0])
            server.let_happen(now, *event[1:])
        now = until
        key, name = chance.choice(keys), chance.choice(names)
        known = any(each == key for each, _ in server.registered)
        match chance.choice(
            ["register", "unregister", "touch", "pause", "resume", "refresh", "signal", "note_write", "up"]
        ):
            case "register":
                server.registered.add((key, name))
                server.take(now, server.schedule.register(now, key, name, chance.choice([200, 2_000, 9_000])))
            case "unregister" if (key, name) in server.registered:
                server.registered.discard((key, name))
                if not any(each == key for each, _ in server.registered):
                    server.delivering.pop(key, None)
                server.take(now, server.schedule.unregister(now, key, name))
            case "refresh" if known:
                server.take(now, server.schedule.refresh(now, key, "waiter"))
            case "signal" | "note_write" as event_name if known:
                server.take(now, getattr(server.schedule, event_name)(now, key))
            case "up" if known:
                act = chance.choice([server.schedule.upgrade, server.schedule.downgrade])
                server.take(now, act(now, key))
            case "touch" | "pause" | "resume" as event_name:
                server.take(now, getattr(server.schedule, event_name)(now))
    for key, name in sorted(server.registered):
        server.take(now, server.schedule.unregister(now, key, name))
    assert server.in_flight == {}
    assert server.schedule.wake is None


def test_the_rules_in_the_documentation_are_those_of_the_vectors() -> None:
    rows = table(PROJECT / "docs" / "client.md", "Row")
    assert {row.split("|")[1].strip() for row in rows} == {vector["row"] for vector in VECTORS}
