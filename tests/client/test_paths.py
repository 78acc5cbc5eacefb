"""No method of the client builds a URL outside of its project, whatever names it is given."""

import asyncio
import contextlib
import inspect
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client import GatewayClient, GatewayError, Project
from gateway.client.errors import InvalidParameter, InvalidPath, InvalidProject, ProblemAnswer
from gateway.client.paths import project_path, quoted_id, quoted_path

_OUTSIDE = [
    "..",
    ".",
    "../x",
    "../../victim/files/a.md",
    "a/../../b",
    "./a.md",
    "a//b",
    "/a",
    "a/",
    "",
    "a/..",
    "..\x00",
]
_NAMES = st.one_of(st.sampled_from(_OUTSIDE), st.text(alphabet="./%2e\\a?#:@\x00é", max_size=12), st.text(max_size=8))


async def _drain(outcome: Any) -> None:
    if inspect.isawaitable(outcome):
        await outcome
    elif isinstance(outcome, AsyncGenerator):
        await anext(outcome)


def _arguments(method: Callable[..., Any], name: str) -> list[Any]:
    """The name, for every positional text; something harmless for the others."""
    values: list[Any] = []
    for parameter in inspect.signature(method).parameters.values():
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD or parameter.default is not parameter.empty:
            continue
        kind = parameter.annotation
        values.append(name if kind is str else b"" if "bytes" in str(kind) else 1 if kind is int else [])
    return values


_METHODS = sorted(
    name
    for name, method in inspect.getmembers(Project, inspect.isfunction)
    if not name.startswith("_") and any(p.annotation is str for p in inspect.signature(method).parameters.values())
)


def test_the_methods_that_take_names_are_found() -> None:
    assert {"read_text", "put_text", "delete", "move", "history", "restore", "create_turn", "read_turn"} <= {*_METHODS}


def _with_project(work: Callable[[Project], Awaitable[None]]) -> list[str]:
    """Do it with the project `mine` of a gateway that answers 404 to all; returns the URLs that were asked for."""
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(404, json={})

    async def main() -> None:
        async with GatewayClient("http://gateway", transport=httpx.MockTransport(answer)) as client:
            await work(client.project("mine"))

    asyncio.run(main())
    return seen


@given(name=_NAMES)
@pytest.mark.parametrize("method", _METHODS)
def test_no_url_leaves_the_project(method: str, name: str) -> None:
    async def call(project: Project) -> None:
        bound = getattr(project, method)
        with contextlib.suppress(GatewayError):
            await _drain(bound(*_arguments(bound, name)))

    for url in _with_project(call):
        path = unquote(urlsplit(url).path)
        assert path.startswith("/api/projects/mine/")
        assert not {".", ".."} & {*path.split("/")}


@pytest.mark.parametrize("path", _OUTSIDE)
def test_a_path_that_could_leave_the_project_is_refused_before_anything_is_sent(path: str) -> None:
    async def call(project: Project) -> None:
        for attempt in (
            project.put_text(path, "x"), project.delete(path), project.move("a", path), project.history(path)
        ):  # fmt: skip
            with pytest.raises(InvalidPath):
                await attempt

    assert _with_project(call) == []


@pytest.mark.parametrize("name", [".", "..", "", "a/b", "a" * 129, "ä"])
def test_a_project_id_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidProject):
        GatewayClient("http://gateway").project(name)


@pytest.mark.parametrize("name", [".", "..", ""])
def test_an_id_of_a_session_or_turn_cannot_be_a_step_in_a_path(name: str) -> None:
    async def call(project: Project) -> None:
        for attempt in (project.read_session(name), project.read_turn("s", name), project.create_turn(name, "x")):
            with pytest.raises(InvalidParameter):
                await attempt

    assert _with_project(call) == []


_VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "paths.json").read_text(encoding="utf-8"))
_CHECKS: dict[str, Callable[[str], object]] = {
    "path": quoted_path,
    "project": project_path,
    "id": lambda name: quoted_id(name, "session"),
}


@pytest.mark.parametrize("vector", _VECTORS, ids=[vector["name"] for vector in _VECTORS])
def test_names_are_taken_and_refused_as_in_the_other_client(vector: dict[str, Any]) -> None:
    ((kind, name),) = ((kind, vector[kind]) for kind in _CHECKS if kind in vector)
    if "code" in vector:
        with pytest.raises(ProblemAnswer) as refused:
            _CHECKS[kind](name)
        assert refused.value.code == vector["code"]
    else:
        checked = str(_CHECKS[kind](name))
        assert unquote(checked).endswith(name)
