"""The description of the API holds: what it names is done, no server error, no answer that it does not name."""

import httpx
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.wire import problems
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


def _known(gateway: GatewayProcess) -> dict[str, str]:
    """The names of what there is in a project, as the templates of paths call them."""
    with gateway.client(_KNOWN_PROJECT) as client:
        for _ in range(2):
            client.put("/files/a.md", content=b"text", headers={"Content-Type": "text/plain"}).raise_for_status()
        client.put("/hooks/ci", json={"url": "https://receiver.invalid/"}).raise_for_status()
        session = client.post("/sessions", json={}).raise_for_status().json()["id"]
        turn = client.post(f"/sessions/{session}/turns", json={"prompt": ""}).raise_for_status().json()["id"]
        made = client.post(f"{gateway.url}/api/tokens", json={"name": "known", "admin": True}).raise_for_status().json()
    return {
        "project": _KNOWN_PROJECT,
        "path": "a.md",
        "session": session,
        "turn": turn,
        "token": made["id"],
        "client_id": "7",
        "hook": "ci",
        "client": "browser",
    }


def _finish(gateway: GatewayProcess, known: dict[str, str]) -> None:
    """End the turn, if it has not ended."""
    path = "/sessions/{session}/turns/{turn}".format_map(known)
    with gateway.client(_KNOWN_PROJECT) as client:
        assert client.patch(path, json={"status": "failed"}).status_code in (200, 409)


def test_every_answer_is_as_described(shared_gateway: GatewayProcess) -> None:
    known = _known(shared_gateway)
    schema = schemathesis.openapi.from_url(f"{shared_gateway.url}/openapi.json")
    described = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        described += 1
        if operation.path.endswith("/events"):  # else the stream would not end
            _finish(shared_gateway, known)

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(operation.as_strategy(), st.sets(st.sampled_from(sorted(known))))
        def answer_is_as_described(case: schemathesis.Case, named: set[str]) -> None:
            for name in named & set(case.path_parameters):
                case.path_parameters[name] = known[name]
            if isinstance(case.query, dict) and "wait" in case.query:
                case.query["wait"] = 0
            if isinstance(case.body, dict) and "wait" in case.body:
                case.body["wait"] = 0
            case.call_and_validate(checks=_CHECKS, timeout=120)

        answer_is_as_described()
    assert described > 10


_BODIES = {
    "createToken": ("application/json", b'{"name": "a", "admin": true}'),
    "putText": ("text/plain", b"text"),
    "appendUpdate": ("application/octet-stream", b"\0\0"),
    "editText": ("application/json", b'{"edits": [{"old": "text", "new": "another"}]}'),
    "putPresence": ("application/json", b'{"state": {}}'),
    "putHook": ("application/json", b'{"url": "https://receiver.invalid/"}'),
    "replayHook": ("application/json", b'{"since": "0.0"}'),
    "putPush": (
        "application/json",
        b'{"subscription": {"endpoint": "https://updates.push.services.mozilla.com/wpush/v2/x", "keys": {"p256dh":'
        b' "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",'
        b' "auth": "BTBZMqHH6r4Tts7J_aSIgg"}}}',
    ),
    "moveFile": ("application/json", b'{"from": "a.md", "to": "b.md"}'),
    "fileStatus": ("application/json", b"{}"),
    "sync": ("application/json", b"{}"),
    "restore": ("application/json", b'{"version": 1}'),
    "createSession": ("application/json", b"{}"),
    "createTurn": ("application/json", b'{"prompt": ""}'),
    "appendBlocks": ("application/json", b'{"blocks": [{"type": "text", "content": ""}]}'),
    "appendOutput": ("application/x-ndjson", b"{}\n"),
    "setTurnStatus": ("application/json", b'{"status": "running"}'),
    "runTurnEvents": ("application/json", b'{"threadId": "t", "runId": "r", "messages": []}'),
}
"""What each operation with a body takes."""


def test_every_operation_is_done_at_the_path_that_is_described(gateway: GatewayProcess) -> None:
    description = httpx.get(f"{gateway.url}/openapi.json").json()
    done = set()
    for template, operations in description["paths"].items():
        for method, operation in operations.items():
            known = _known(gateway)
            if template.endswith("/events"):
                _finish(gateway, known)
            url = gateway.url + template.format(**known)
            headers = {}
            name, content = operation["operationId"], None
            if "requestBody" in operation:
                headers["Content-Type"], content = _BODIES[name]
                assert headers["Content-Type"] in operation["requestBody"]["content"]
            answer = httpx.request(method, url, content=content, headers=headers)
            assert answer.is_success, (name, answer.text)
            assert str(answer.status_code) in operation["responses"], name
            for header in operation["responses"][str(answer.status_code)].get("headers", {}):
                assert header in answer.headers, (name, header)
            done.add(name)
    assert done >= set(_BODIES)


def test_every_code_of_a_problem_is_described(shared_gateway: GatewayProcess) -> None:
    text = httpx.get(f"{shared_gateway.url}/openapi.json").text
    codes = {
        problem.code
        for problem in vars(problems).values()
        if isinstance(problem, type) and issubclass(problem, problems.Problem) and problem is not problems.Problem
    }
    assert {code for code in codes if f"`{code}`" not in text} == set()
