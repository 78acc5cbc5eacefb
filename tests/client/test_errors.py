"""Every problem of the gateway is an exception of the client."""

from collections.abc import Iterator

import pytest

from gateway.client.errors import PROBLEMS, MissingPredecessors, ProblemAnswer, problem_from
from gateway.wire import problems
from gateway.wire.problems import Problem, ProblemDetails


def _kinds(root: type[Problem]) -> Iterator[type[Problem]]:
    yield root
    for kind in root.__subclasses__():
        yield from _kinds(kind)


def test_every_code_of_the_gateway_is_an_exception_of_the_client_and_the_other_way_round() -> None:
    assert {kind.code for kind in _kinds(Problem)} == set(PROBLEMS)


@pytest.mark.parametrize("kind", sorted(_kinds(Problem), key=lambda kind: kind.code), ids=lambda kind: kind.code)
def test_a_problem_becomes_its_exception(kind: type[Problem]) -> None:
    details = ProblemDetails("about:blank", kind.title, kind.status, "so it is", kind.code)
    error = problem_from(details)
    assert (type(error), error.code, error.status) == (PROBLEMS[kind.code], kind.code, kind.status)
    assert kind.title in str(error)
    assert "so it is" in str(error)


def test_an_unknown_code_is_a_problem_all_the_same() -> None:
    error = problem_from(ProblemDetails("about:blank", "New", 418, "of a newer gateway", "teapot"))
    assert type(error) is ProblemAnswer
    assert (error.status, error.problem.code) == (418, "teapot")


def test_the_state_vector_of_missing_predecessors_is_what_the_gateway_has() -> None:
    error = problem_from(problems.MissingPredecessors(b"\x01\xff\xfe\x07").details())
    assert isinstance(error, MissingPredecessors)
    assert error.state_vector == b"\x01\xff\xfe\x07"
