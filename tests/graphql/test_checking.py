"""Queries are parsed and validated once, and a long one beside the event loop."""

import asyncio
import threading
from typing import Any

import pytest

pytest.importorskip("strawberry")
from gateway.graphql import checking
from gateway.graphql.checking import MOST_TOKENS
from gateway.graphql.schema import schema

_SHORT = "{ __typename }"
_LONG = "{ " + "__typename " * 100 + "}"
_MERGES = "{ " + "__typename " * 900 + "}"
_TOO_LONG = "{ " + "__typename " * MOST_TOKENS + "}"
_WRONG = "{ " + "__typename " * 100


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """The queries that are checked, and whether that is in the thread of the event loop."""
    found: list[tuple[str, bool]] = []
    check = checking._check
    monkeypatch.setattr(checking, "_remembered", type(checking._remembered)())

    def noted(schema: Any, query: str) -> Any:
        found.append((query, threading.current_thread() is threading.main_thread()))
        return check(schema, query)

    monkeypatch.setattr(checking, "_check", noted)
    return found


@pytest.mark.parametrize(
    ("query", "here", "fault"),
    [
        (_SHORT, True, None),
        (_LONG, False, None),
        (_MERGES, False, "too often"),
        (_TOO_LONG, False, "tokens"),
        (_WRONG, False, "Syntax Error"),
        ("{ nothing }", True, "nothing"),
    ],
    ids=["short", "long", "merges", "too long", "syntax", "unknown"],
)
def test_a_long_query_is_checked_beside_the_event_loop(
    checks: list[tuple[str, bool]], query: str, here: bool, fault: str | None
) -> None:
    result = asyncio.run(schema.execute(query))
    assert checks == [(query, here)]
    if fault is None:
        assert (result.errors, result.data) == (None, {"__typename": "Query"})
    else:
        assert fault in str(result.errors)
        assert result.data is None


@pytest.mark.parametrize("query", [_SHORT, _LONG, _MERGES])
def test_a_query_is_checked_once_and_answered_alike(checks: list[tuple[str, bool]], query: str) -> None:
    async def work() -> list[tuple[Any, str]]:
        return [(result.data, str(result.errors)) for result in [await schema.execute(query) for _ in range(3)]]

    first, *others = asyncio.run(work())
    assert others == [first, first]
    assert len(checks) == 1


def test_few_queries_are_remembered(checks: list[tuple[str, bool]]) -> None:
    async def work() -> None:
        for number in range(checking._REMEMBERED + 1):
            await schema.execute(f"{{ a{number}: __typename }}")
        await schema.execute("{ a1: __typename }")
        await schema.execute("{ a0: __typename }")

    asyncio.run(work())
    assert len(checks) == checking._REMEMBERED + 2
    assert len(checking._remembered) == checking._REMEMBERED


def test_long_queries_of_a_crowd_are_checked_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    check, active, most = checking._check, 0, 0
    lock = threading.Lock()
    monkeypatch.setattr(checking, "_remembered", type(checking._remembered)())

    def noted(schema: Any, query: str) -> Any:
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        try:
            return check(schema, query)
        finally:
            with lock:
                active -= 1

    monkeypatch.setattr(checking, "_check", noted)

    async def work() -> None:
        queries = [f"{{ a{number}: __typename {'__typename ' * 100} }}" for number in range(8)]
        results = await asyncio.gather(*map(schema.execute, queries))
        assert {str(result.errors) for result in results} == {"None"}

    asyncio.run(work())
    assert most == 1
