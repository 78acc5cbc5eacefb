"""(a) What a poll costs when nothing has changed.

Three questions: a GET of a file with the tag of its newest state (304); "what changed since this cursor?"; "are these
100 files still at these versions?". Each is compared with a raw ASGI callable that reads the same request on the same
uvicorn and gives the very same answer, byte for byte, without looking at anything: no gateway can be faster than that.
The second line of each is against the same callable on uvicorn's own class for HTTP/1.1 in the place of the gateway's,
the third against one that answers 204 without a header; neither has an aim.

The gateway remembers its answer to a status question until the project changes. That helps whoever asks again in the
same words while nobody writes, and not the first one who asks. So status is measured both ways: "first time" are
questions that mean the same and whose bytes the gateway has not seen before (the white space differs).

The rows "with a JWT" and "with a token" ask a gateway that demands credentials. The raw callable reads the same
request.
"""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import jwt

from benchmarks.documents import keystrokes
from benchmarks.harness import Aim, Plan, Row, folder, take_turns
from benchmarks.load import Answer, Load, compare_rates, fetch, put_under_load, request
from benchmarks.servers import Server, baseline, gateway

_PROJECT = "/api/projects/demo"
_FILES = 100
_SECRET = "a secret that the backend and the gateway share"
_CONNECTIONS = 16
_SPACES = (b", ", b" ,")


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    with ExitStack() as stack:
        open_to_all = stack.enter_context(gateway(stack.enter_context(folder()) / "gateway.db"))
        asking = stack.enter_context(
            gateway(stack.enter_context(folder()) / "gateway.db", GATEWAY_AUTH="required", GATEWAY_JWT_KEY=_SECRET)
        )
        silent = stack.enter_context(baseline("silent"))
        questions = [(open_to_all, *question) for question in _questions(open_to_all)]
        for name, credential in (("a JWT", _jwt()), ("a token", _token(asking))):
            found = _questions(asking, authorization=f"Bearer {credential}")[:3]
            questions += [(asking, f"{what}, with {name}", ask, aim) for what, ask, aim in found]
        for ours, what, ask, aim in questions:
            answer = fetch(ours, next(ask()))
            with _replay(answer) as replay, _replay(answer, of_uvicorn=True) as of_uvicorn:
                servers = {"ours": ours, "replay": replay, "uvicorn": of_uvicorn, "silent": silent}
                yield from _compared(plan, what, ask, aim, servers)


def _jwt() -> str:
    """What an application's backend signs for a writer of the project."""
    claims = {"sub": "ann", "exp": time.time() + 86_400, "yjs_gateway": {"projects": {"demo": "write"}}}
    return jwt.encode(claims, _SECRET, algorithm="HS256")


def _token(asking: Server) -> str:
    """A token of the gateway for the same."""
    admin = {"sub": "root", "exp": time.time() + 600, "yjs_gateway": {"admin": True}}
    signed = jwt.encode(admin, _SECRET, algorithm="HS256")
    body = json.dumps({"name": "ann", "projects": {"demo": "write"}}).encode()
    made = request("POST", "/api/tokens", body, content_type="application/json", authorization=f"Bearer {signed}")
    token: str = fetch(asking, made).json()["token"]
    return token


_Ask = Callable[[], Iterator[bytes]]
"""Makes requests without end."""


def _questions(ours: Server, **headers: str) -> list[tuple[str, _Ask, float]]:
    """What is asked, in words and as requests, and the aim. `headers` go with each request."""
    (update,) = keystrokes(1)
    paths = [f"docs/chapter-{number:03}.md" for number in range(_FILES)]
    for path in paths:
        written = fetch(ours, request("PATCH", f"{_PROJECT}/files/{path}", update, **headers))
    tag, cursor = written.header("etag"), written.json()["cursor"]
    poll = request("GET", f"{_PROJECT}/files/{paths[-1]}", if_none_match=tag, **headers)
    by_cursor, by_versions = {"since": cursor, "paths": paths[:20]}, {"versions": dict.fromkeys(paths, 1)}
    return [
        ("304 of a file", partial(itertools.repeat, poll), 0.85),
        ("status by cursor, asked again", partial(itertools.repeat, _status(by_cursor, **headers)), 0.9),
        ("status by cursor, first time", partial(_in_new_words, by_cursor, **headers), 0.9),
        ("status of 100 versions, asked again", partial(itertools.repeat, _status(by_versions, **headers)), 0.6),
        ("status of 100 versions, first time", partial(_in_new_words, by_versions, **headers), 0.6),
    ]


def _replay(answer: Answer, *, of_uvicorn: bool = False) -> Server:
    headers = [(name, value) for name, value in answer.headers if name != "date"]
    return baseline("replay", of_uvicorn=of_uvicorn, status=answer.status, headers=headers, body=answer.body.decode())


def _compared(plan: Plan, what: str, ask: _Ask, aim: float, servers: dict[str, Server]) -> Iterator[Row]:
    streams = {server: ask() for server in servers.values()}

    def load(server: Server) -> Load:
        shared = [streams[server]] * _CONNECTIONS
        return put_under_load(server, shared, seconds=plan.seconds, statuses=(200, 204, 304))

    taken = take_turns(plan, {name: partial(load, server) for name, server in servers.items()})
    yield compare_rates(what, taken["ours"], "raw ASGI, same answer", taken["replay"], aim=Aim(">=", aim))
    yield compare_rates("", taken["ours"], "the same, uvicorn's own class", taken["uvicorn"])
    yield compare_rates("", taken["ours"], "raw ASGI, 204", taken["silent"])


def _status(question: object, **headers: str) -> bytes:
    body = json.dumps(question).encode()
    return request("POST", f"{_PROJECT}/files/status", body, content_type="application/json", **headers)


def _in_new_words(question: object, **headers: str) -> Iterator[bytes]:
    """The same question again and again, each time as bytes that were not sent before, of the same length."""
    *parts, rest = _status(question, **headers).split(_SPACES[0], 20)
    for spaces in itertools.product(_SPACES, repeat=len(parts)):
        yield b"".join(itertools.chain.from_iterable(zip(parts, spaces, strict=True))) + rest
