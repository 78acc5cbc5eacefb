"""(a) What a poll costs when nothing has changed.

Three questions: a GET of a file with the tag of its newest state (304); "what changed since this cursor?"; "are these
100 files still at these versions?". Each is compared with a raw ASGI callable that reads the same request on the same
uvicorn and gives the very same answer, byte for byte, without looking at anything: no gateway can be faster than that.
The second line of each, without an aim, is against one that answers 204 without a header.

The gateway remembers its answer to a status question until the project changes. That helps whoever asks again in the
same words while nobody writes, and not the first one who asks. So status is measured both ways: "first time" are
questions that mean the same and whose bytes the gateway has not seen before (the white space differs).
"""

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

from benchmarks.documents import keystrokes
from benchmarks.harness import Aim, Plan, Row, folder, take_turns
from benchmarks.load import Answer, Load, compare_rates, fetch, put_under_load, request
from benchmarks.servers import Server, baseline, gateway

_PROJECT = "/api/projects/demo"
_FILES = 100
_CONNECTIONS = 16
_SPACES = (b", ", b" ,")


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    with ExitStack() as stack:
        ours = stack.enter_context(gateway(stack.enter_context(folder()) / "gateway.db"))
        silent = stack.enter_context(baseline("silent"))
        questions = _questions(ours)
        replays = [stack.enter_context(_replay(fetch(ours, next(ask())))) for _, ask, _ in questions]
        for (what, ask, aim), replay in zip(questions, replays, strict=True):
            yield from _compared(plan, what, ask, aim, {"ours": ours, "replay": replay, "silent": silent})


_Ask = Callable[[], Iterator[bytes]]
"""Makes requests without end."""


def _questions(ours: Server) -> list[tuple[str, _Ask, float]]:
    """What is asked, in words and as requests, and the aim."""
    (update,) = keystrokes(1)
    paths = [f"docs/chapter-{number:03}.md" for number in range(_FILES)]
    for path in paths:
        written = fetch(ours, request("PATCH", f"{_PROJECT}/files/{path}", update))
    tag, cursor = written.header("etag"), written.json()["cursor"]
    poll = request("GET", f"{_PROJECT}/files/{paths[-1]}", if_none_match=tag)
    by_cursor, by_versions = {"since": cursor, "paths": paths[:20]}, {"versions": dict.fromkeys(paths, 1)}
    return [
        ("304 of a file", partial(itertools.repeat, poll), 0.85),
        ("status by cursor, asked again", partial(itertools.repeat, _status(by_cursor)), 0.9),
        ("status by cursor, first time", partial(_in_new_words, by_cursor), 0.9),
        ("status of 100 versions, asked again", partial(itertools.repeat, _status(by_versions)), 0.6),
        ("status of 100 versions, first time", partial(_in_new_words, by_versions), 0.6),
    ]


def _replay(answer: Answer) -> Server:
    headers = [(name, value) for name, value in answer.headers if name != "date"]
    return baseline("replay", status=answer.status, headers=headers, body=answer.body.decode())


def _compared(plan: Plan, what: str, ask: _Ask, aim: float, servers: dict[str, Server]) -> Iterator[Row]:
    streams = {server: ask() for server in servers.values()}

    def load(server: Server) -> Load:
        shared = [streams[server]] * _CONNECTIONS
        return put_under_load(server, shared, seconds=plan.seconds, statuses=(200, 204, 304))

    taken = take_turns(plan, {name: partial(load, server) for name, server in servers.items()})
    yield compare_rates(what, taken["ours"], "raw ASGI, same answer", taken["replay"], aim=Aim(">=", aim))
    yield compare_rates("", taken["ours"], "raw ASGI, 204", taken["silent"])


def _status(question: object) -> bytes:
    body = json.dumps(question).encode()
    return request("POST", f"{_PROJECT}/files/status", body, content_type="application/json")


def _in_new_words(question: object) -> Iterator[bytes]:
    """The same question again and again, each time as bytes that were not sent before, of the same length."""
    *parts, rest = _status(question).split(_SPACES[0], 20)
    for spaces in itertools.product(_SPACES, repeat=len(parts)):
        yield b"".join(itertools.chain.from_iterable(zip(parts, spaces, strict=True))) + rest
