"""The description of the API holds: no server error, no answer that it does not name."""

import httpx
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import problems
from tests.support.server import GatewayProcess


@schemathesis.serializer("application/x-ndjson")
def _lines(context: schemathesis.SerializationContext, value: object) -> bytes:
    """What the schema calls a string goes out as it is."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


_CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_schema_conformance,
]
_KNOWN_PROJECT = "described"


def test_every_answer_is_as_described(shared_gateway: GatewayProcess) -> None:
    with shared_gateway.client(_KNOWN_PROJECT) as client:
        for path in ("a.md", "0"):
            client.put(f"/files/{path}", content=b"text", headers={"Content-Type": "text/plain"}).raise_for_status()
    schema = schemathesis.openapi.from_url(f"{shared_gateway.url}/openapi.json")
    described = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        described += 1

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(operation.as_strategy(), st.booleans())
        def answer_is_as_described(case: schemathesis.Case, in_known_project: bool) -> None:
            if in_known_project and "project" in case.path_parameters:
                case.path_parameters["project"] = _KNOWN_PROJECT
            if isinstance(case.query, dict) and "wait" in case.query:
                case.query["wait"] = 0
            if isinstance(case.body, dict) and "wait" in case.body:
                case.body["wait"] = 0
            case.call_and_validate(checks=_CHECKS)

        answer_is_as_described()
    assert described > 10


def test_every_code_of_a_problem_is_described(shared_gateway: GatewayProcess) -> None:
    text = httpx.get(f"{shared_gateway.url}/openapi.json").text
    codes = {
        problem.code
        for problem in vars(problems).values()
        if isinstance(problem, type) and issubclass(problem, problems.Problem) and problem is not problems.Problem
    }
    assert {code for code in codes if f"`{code}`" not in text} == set()
