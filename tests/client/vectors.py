"""Runs the vectors of the polling policy; `tests/vectors/README.md` says how."""

import json
from pathlib import Path
from typing import Any

import msgspec

from gateway.client.policy import Answer, Decision, Deliver, Failure, PollSettings, after_refused_write
from gateway.client.polling.schedule import PollSchedule

FILE = Path(__file__).parent.parent / "vectors" / "polling.json"


def load() -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return vectors


def run(vector: dict[str, Any]) -> list[dict[str, Any]]:
    """What is decided."""
    runner = _Runner(vector)
    for event in vector["events"]:
        runner.advance_to(event["at"])
        runner.play(dict(event))
    return runner.noted


class _Runner:
    def __init__(self, vector: dict[str, Any]) -> None:
        self._settings = msgspec.convert(vector["settings"], PollSettings)
        self._schedule = PollSchedule(self._settings, lambda: vector.get("random", 0.5))
        self.noted: list[dict[str, Any]] = []

    def advance_to(self, time: float) -> None:
        while (wake := self._schedule.wake) is not None and wake <= time:
            self._note(wake, self._schedule.advance(wake))

    def play(self, event: dict[str, Any]) -> None:
        at, name, held = event.pop("at"), event.pop("event"), event.pop("held", False)
        match name:
            case "end":
                return
            case "refused_write":
                do = after_refused_write(event["code"], difference_sent=event["difference_sent"])
                self.noted.append({"at": at, "do": do})
                return
            case "answer":
                decisions = self._schedule.answered(at, event.pop("key"), msgspec.convert(event, Answer))
            case "failure":
                decisions = self._schedule.failed(at, event.pop("key"), msgspec.convert(event, Failure))
            case "register" | "enable":
                interval = event.pop("interval_ms", None)
                if interval is None:
                    interval = getattr(self._settings, f"{event.pop('kind')}_interval_ms")
                decisions = getattr(self._schedule, name)(at, interval=interval, **event)
            case _:
                decisions = getattr(self._schedule, name)(at, **event)
        self._note(at, decisions, held=held)

    def _note(self, at: float, decisions: list[Decision], *, held: bool = False) -> None:
        for decision in decisions:
            self.noted.append({"at": at, **msgspec.to_builtins(decision)})
            if isinstance(decision, Deliver) and not decision.cached and not held:
                self._note(at, self._schedule.delivered(at, decision.key))
