"""Which path takes which method, and what a write is told that it does not know."""

import httpx
import pytest

from tests.support.server import GatewayProcess

_PLAIN = {"Content-Type": "text/plain"}
_FILE = ["DELETE", "GET", "HEAD", "PATCH", "PUT"]
_KNOWN = {
    "/files/a": _FILE,
    "/files/status": sorted([*_FILE, "POST"]),
    "/files/move": sorted([*_FILE, "POST"]),
    "/files/status/x": _FILE,
    "/files/status%0A": _FILE,
    "/files/x/status": _FILE,
    "/files": ["GET", "HEAD"],
    "/changes": ["GET", "HEAD"],
    "/sync": ["POST"],
    "/presence/a": ["GET", "HEAD"],
    "/presence/a/7": ["DELETE", "GET", "HEAD", "PUT"],
    "/history/a": ["GET", "HEAD"],
    "/history/restore": ["GET", "HEAD"],
    "/history/a/restore": ["GET", "HEAD", "POST"],
    "/history/a/restore%0A": ["GET", "HEAD"],
    "/history/x/files/status": ["GET", "HEAD"],
    "/sessions": ["GET", "HEAD", "POST"],
    "/sessions/s": ["GET", "HEAD"],
    "/sessions/s/turns": ["GET", "HEAD", "POST"],
    "/sessions/s/turns/t": ["GET", "HEAD", "PATCH"],
    "/sessions/s/turns/t/status": ["GET", "HEAD"],
    "/sessions/s/turns/t/blocks": ["POST"],
    "/sessions/s/turns/t/output": ["POST"],
}
_UNKNOWN = [
    "/nothing", "/nothing/files/status", "/nothing/files/move", "/sync/files/status", "/changes/files/status",
    "/sessions/s/files/status", "/sessions/s/turns/t/files/status", "/changes/", "/sync/", "/sync%0A", "/sessions/",
    "/sessions/s/turns/t/status/x", "/",
]  # fmt: skip
_METHODS = ["GET", "HEAD", "PATCH", "PUT", "DELETE", "POST", "OPTIONS", "TRACE", "PROPFIND"]


@pytest.mark.parametrize("path", _KNOWN)
def test_a_method_that_a_path_does_not_take_is_told_all_that_it_takes(shared_project: httpx.Client, path: str) -> None:
    for method in set(_METHODS) - set(_KNOWN[path]):
        answer = shared_project.request(method, path)
        assert answer.status_code == 405, method
        assert answer.headers["Allow"].split(", ") == _KNOWN[path]
    for method in _KNOWN[path]:
        assert shared_project.request(method, path).status_code != 405, method


def test_a_project_itself_is_only_deleted(shared_project: httpx.Client) -> None:
    shared_project.put("/files/a", content="1", headers=_PLAIN)
    url = str(shared_project.base_url).rstrip("/")
    for method in set(_METHODS) - {"DELETE"}:
        answer = shared_project.request(method, url)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "DELETE"), method
    assert shared_project.delete(url).status_code == 204


@pytest.mark.parametrize("path", _UNKNOWN)
def test_what_is_no_path_of_the_api_is_not_found_whatever_it_ends_with(shared_project: httpx.Client, path: str) -> None:
    shared_project.put("/files/a", content="1", headers=_PLAIN)
    since = shared_project.get("/files").json()["cursor"]
    url = f"{str(shared_project.base_url).rstrip('/')}{path}"
    for method in _METHODS:
        for body in ({}, {"since": since}):
            answer = shared_project.request(method, url, json=body)
            assert answer.status_code == 404, (method, body)


def test_only_the_status_of_a_project_is_answered_as_one(shared_project: httpx.Client) -> None:
    shared_project.put("/files/a", content="1", headers=_PLAIN)
    question = {"since": shared_project.get("/files").json()["cursor"]}
    for _ in range(2):
        assert shared_project.post("/files/status", json=question).json()["changes"] == []
        assert shared_project.post("/history/x/files/status", json=question).status_code == 405
        assert shared_project.post("/files/x/files/status", json=question).status_code == 405


def test_a_file_may_have_the_name_of_a_request(shared_project: httpx.Client) -> None:
    for name in ("status", "move", "x/restore"):
        assert shared_project.put(f"/files/{name}", content="one", headers=_PLAIN).status_code == 201
        assert shared_project.put(f"/files/{name}", content="two", headers=_PLAIN).status_code == 200
        assert len(shared_project.get(f"/history/{name}").json()["versions"]) == 2
        assert shared_project.post(f"/history/{name}/restore", json={"version": 1}).status_code == 200
        assert shared_project.get(f"/files/{name}?format=text").text == "one"


@pytest.fixture
def writes(shared_project: httpx.Client) -> list[tuple[str, str, dict[str, object]]]:
    """Every write, as it would be done."""
    shared_project.put("/files/a", content="one", headers=_PLAIN)
    session = shared_project.post("/sessions", json={}).json()["id"]
    turn = (
        f"/sessions/{session}/turns/"
        + shared_project.post(f"/sessions/{session}/turns", json={"prompt": ""}).json()["id"]
    )
    return [
        ("PUT", "/files/a", {"content": "two", "headers": _PLAIN}),
        ("PATCH", "/files/a", {"content": b"\0\0"}),
        ("DELETE", "/files/a", {}),
        ("POST", "/files/move", {"json": {"from": "a", "to": "b"}}),
        ("POST", "/files/status", {"json": {}}),
        ("POST", "/sync", {"json": {}}),
        ("POST", "/history/a/restore", {"json": {"version": 1}}),
        ("POST", "/sessions", {"json": {}}),
        ("POST", f"/sessions/{session}/turns", {"json": {"prompt": ""}}),
        ("POST", f"{turn}/blocks", {"json": {"blocks": [{"type": "text", "content": ""}]}}),
        ("POST", f"{turn}/output", {"content": b"x\n"}),
        ("PATCH", turn, {"json": {"status": "running"}}),
    ]


@pytest.mark.parametrize("query", ["no_such=1", "no_such", "=1", "Root=content", "wait=0&no_such=%FF", "%00=1"])
def test_a_parameter_that_a_write_does_not_know_stops_the_write(
    shared_project: httpx.Client, writes: list[tuple[str, str, dict[str, object]]], query: str
) -> None:
    before = shared_project.get("/changes").json()
    for method, path, request in writes:
        answer = shared_project.request(method, f"{path}?{query}", **request)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter"), (method, path)
    assert shared_project.get("/changes").json() == before
    assert shared_project.get(f"/files/a?{query}").status_code == 200


def test_a_parameter_that_is_there_twice_stops_the_write(shared_project: httpx.Client) -> None:
    answer = shared_project.put("/files/a?root=a&root=b", content="x", headers=_PLAIN)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


def test_a_member_that_a_write_does_not_know_stops_the_write(
    shared_project: httpx.Client, writes: list[tuple[str, str, dict[str, object]]]
) -> None:
    before = shared_project.get("/changes").json()
    for method, path, request in writes:
        if "json" in request:
            answer = shared_project.request(method, path, json={**request["json"], "no_such": 1})  # type: ignore[dict-item]
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_body"), (method, path)
    assert shared_project.get("/changes").json() == before


@pytest.mark.parametrize("name", ["If-Match", "If-Unmodified-Since", "X-Incarnation"])
def test_a_condition_that_a_write_does_not_know_stops_the_write(
    shared_project: httpx.Client, writes: list[tuple[str, str, dict[str, object]]], name: str
) -> None:
    before = shared_project.get("/changes").json()
    for method, path, request in writes:
        value = '"x.1"' if name == "If-Match" else "Mon, 01 Jan 2001 00:00:00 GMT"
        headers = {**request.get("headers", {}), name: value}  # type: ignore[dict-item]
        answer = shared_project.request(method, path, **{**request, "headers": headers})  # type: ignore[arg-type]
        known = path.startswith(("/files/a", "/history/"))
        assert answer.status_code in ((410, 412) if known else (400,)), (method, path, answer.text)
    assert shared_project.get("/changes").json() == before


@pytest.mark.parametrize("author", ["a\tb", "\x9b31m", "\u202etxt", "\u2066x", "a\u200bb", "\ufeffada", "a\u2028b"])
def test_an_author_that_would_control_a_terminal_is_refused(shared_project: httpx.Client, author: str) -> None:
    headers = {b"Content-Type": b"text/plain", b"X-Author": author.encode()}
    answer = shared_project.put("/files/a", content="x", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


@pytest.mark.parametrize("author", ["Zoë 😀", "نامه\u200cنگار", "👩\u200d💻", "O'Neil <o@x.org>"])
def test_an_author_is_kept_as_it_is(shared_project: httpx.Client, author: str) -> None:
    headers = {b"Content-Type": b"text/plain", b"X-Author": author.encode()}
    assert shared_project.put("/files/a", content="x", headers=headers).status_code == 201
    assert shared_project.get("/history/a").json()["versions"][0]["author"] == author


_NUMBERS = [-(10**30), -(2**63), -1, 0, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**30]


def test_no_number_is_too_large_for_an_answer(shared_gateway: GatewayProcess, shared_project: httpx.Client) -> None:
    """Every integer that `/openapi.json` names, in a request that is else as it should be."""
    shared_project.put("/files/a", content="one", headers=_PLAIN)
    session = shared_project.post("/sessions", json={}).json()["id"]
    turn = shared_project.post(f"/sessions/{session}/turns", json={"prompt": ""}).json()["id"]
    names = {"path": "a", "session": session, "turn": turn, "client_id": "7", "token": "x", "hook": "x", "client": "x"}
    names["project"] = shared_project.base_url.path.strip("/").rpartition("/")[2]
    blocks = [{"type": "text", "content": ""}]
    bodies = {"BlockBatch": {"blocks": blocks}, "StatusQuestion": {}, "SyncRequest": {}, "RestoreRequest": {}}
    description = httpx.get(f"{shared_gateway.url}/openapi.json").json()
    schemas = description["components"]["schemas"]
    asked = set()
    for template, operations in description["paths"].items():
        for method, operation in operations.items():
            url = f"{shared_gateway.url}{template.format(**names)}"
            for parameter in operation["parameters"]:
                if parameter["schema"].get("type") in ("integer", "number") and parameter["in"] == "query":
                    for number in _NUMBERS:
                        query = {parameter["name"]: number} if parameter["name"] != "wait" else {"wait": number * 100}
                        content = b"x\n" if method == "post" else None
                        # The head alone is read: the events of a turn that goes on have no end.
                        with httpx.stream(method, url, params=query, content=content) as answer:
                            assert answer.status_code < 500, (method, template, query)
                        asked.add(parameter["name"])
            for described in operation.get("requestBody", {}).get("content", {}).values():
                shape = described["schema"].get("$ref", "").rpartition("/")[2]
                if shape not in bodies or "json" not in str(operation["requestBody"]["content"].keys()):
                    continue
                for member, schema in schemas[shape]["properties"].items():
                    for number in _NUMBERS:
                        value = {"a": number} if member == "versions" else number
                        if "integer" in str(schema):
                            answer = httpx.request(method, url, json={**bodies[shape], member: value})
                            assert answer.status_code < 500, (method, template, member, number, answer.text)
                            asked.add(f"{shape}.{member}")
    assert asked >= {
        "from_version", "at_version", "before", "limit", "group", "after_block", "offset", "wait",
        "BlockBatch.first_index", "StatusQuestion.versions", "SyncRequest.versions", "SyncRequest.max_bytes",
        "RestoreRequest.version",
    }  # fmt: skip
