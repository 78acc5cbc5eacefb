"""Whole editing histories, replayed by npm's Yjs over HTTP: recorded ones, and generated ones of harder text."""

import base64
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pycrdt
import pytest
from msgspec import Struct

from tests.support.oracle import Oracle
from tests.support.server import GatewayProcess
from tests.yjs.generated_traces import typed_alone, typed_together
from tests.yjs.scripts import Script

_ONE_BY_ONE, _BATCHES, _TOGETHER = _PATHS = ("one-by-one.md", "in batches.md", "two/authors.md")
_BATCH = 50


class Replayed(Struct):
    """What came of replaying traces: one file each."""

    project: httpx.Client
    traces: dict[str, dict[str, Any]]
    results: dict[str, dict[str, Any]]

    def text(self, path: str) -> str:
        """The text that the trace of a file ends with."""
        text: str = self.traces[path]["endContent"]
        return text

    def get(self, path: str, headers: dict[str, str] | None = None, **parameters: object) -> httpx.Response:
        response = self.project.get(f"/files/{path}", params=parameters, headers=headers)  # type: ignore[arg-type]
        response.raise_for_status()
        return response

    def version(self, path: str) -> int:
        return int(self.get(path).headers["X-Version"])


@pytest.fixture(scope="module", params=["recorded", "generated"])
def replayed(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    node: str,
    trace: Callable[[str], dict[str, Any]],
) -> Iterator[Replayed]:
    """A gateway that traces have been replayed against, all at the same time."""
    if request.param == "recorded":
        alone, together = trace("sveltecomponent"), trace("friendsforever")
    else:
        alone, together = typed_alone(7, 1000), typed_together(7, 1500)
    traces = {_ONE_BY_ONE: alone, _BATCHES: alone, _TOGETHER: together}
    options = {
        _ONE_BY_ONE: {"batch": 1},
        _BATCHES: {"batch": _BATCH},
        _TOGETHER: {"batch": 4, "late_every": 20},
    }
    with GatewayProcess(tmp_path_factory.mktemp("traces") / "gateway.db") as gateway:
        scripts = {
            path: Script(
                node,
                "traces.mjs",
                project=gateway.project(),
                path=path.replace(" ", "%20"),
                trace=traces[path],
                **options[path],
            )
            for path in _PATHS
        }
        try:
            results = {path: script.result() for path, script in scripts.items()}
        finally:
            for script in scripts.values():
                script.stop()
        with gateway.client() as project:
            yield Replayed(project, traces, results)


def test_every_update_of_a_trace_is_a_version(replayed: Replayed) -> None:
    result = replayed.results[_ONE_BY_ONE]
    assert result["text"] == replayed.text(_ONE_BY_ONE)
    assert result["versions"] == replayed.version(_ONE_BY_ONE)


def test_many_transactions_sent_as_one_update_are_one_version(replayed: Replayed) -> None:
    result = replayed.results[_BATCHES]
    assert result["text"] == replayed.text(_BATCHES)
    assert result["versions"] == replayed.version(_BATCHES)
    assert result["versions"] <= len(replayed.traces[_BATCHES]["txns"]) // _BATCH + 1


def test_two_clients_that_fetch_increments_and_follow_refusals_end_with_the_text(replayed: Replayed) -> None:
    result = replayed.results[_TOGETHER]
    assert result["texts"] == [replayed.text(_TOGETHER)] * 2
    assert not result["pending"]
    assert min(result["healed"]) > 0, "no update came out of order"
    assert min(result["increments"]) > 10


@pytest.mark.parametrize("path", _PATHS)
def test_every_way_of_fetching_a_document_gives_the_text(replayed: Replayed, oracle: Oracle, path: str) -> None:
    version = replayed.version(path)
    bodies = {
        "whole": replayed.get(path),
        "at_version": replayed.get(path, at_version=version),
        "from_version": replayed.get(path, from_version=0),
        "state_vector": replayed.get(path, state_vector="AA"),
    }
    assert {name: oracle.text([body.content]) for name, body in bodies.items()} == dict.fromkeys(
        bodies, replayed.text(path)
    )
    assert {name: _text([body.content]) for name, body in bodies.items()} == dict.fromkeys(bodies, replayed.text(path))
    assert {int(body.headers["X-Version"]) for body in bodies.values()} == {version}


@pytest.mark.parametrize("path", _PATHS)
def test_every_way_of_fetching_text_gives_the_text(replayed: Replayed, path: str) -> None:
    text = replayed.text(path)
    assert replayed.get(path, format="text").content.decode() == text
    assert replayed.get(path, format="text", at_version=replayed.version(path)).content.decode() == text
    assert replayed.get(path, headers={"Accept": "text/plain"}).content.decode() == text
    assert replayed.get(path, format="json").json() == {"content": text}


@pytest.mark.parametrize("path", _PATHS)
def test_whoever_is_behind_gets_what_is_lacking(replayed: Replayed, oracle: Oracle, path: str) -> None:
    newest = replayed.version(path)
    for version in {1, 2, newest // 4, newest // 2, max(newest - 40, 3), newest - 1}:
        old = replayed.get(path, at_version=version).content
        increment = replayed.get(path, from_version=version)
        assert increment.headers["X-From-Version"] in (str(version), "0")
        vector = base64.urlsafe_b64encode(oracle.state_vector([old])).decode()
        lacking = replayed.get(path, state_vector=vector)
        for news in (increment, lacking):
            assert oracle.text([old, news.content]) == replayed.text(path), version
            assert _text([old, news.content]) == replayed.text(path), version


def test_the_last_edits_are_fetched_without_what_was_there_before(replayed: Replayed) -> None:
    newest = replayed.version(_ONE_BY_ONE)
    increment = replayed.get(_ONE_BY_ONE, from_version=newest - 10)
    assert increment.headers["X-From-Version"] == str(newest - 10)
    assert len(increment.content) < 1000


def _text(updates: list[bytes]) -> str:
    """The text that updates make in yrs."""
    document = pycrdt.Doc[Any]()
    for update in updates:
        document.apply_update(update)
    return str(document.get("content", type=pycrdt.Text))
