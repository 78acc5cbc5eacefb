"""Queries and mutations: the same projects, files and turns as by the HTTP API, with the same problems."""

import asyncio
import base64
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from graphql import GraphQLError
from pycrdt import Doc, Text
from strawberry.types import ExecutionResult

from gateway.access.access import OPEN
from gateway.files.reader import Content
from gateway.graphql import types
from gateway.graphql.answers import EncodedText, encoded_value, result_bytes
from gateway.graphql.caller import Caller
from gateway.graphql.checking import MOST_ERRORS
from gateway.graphql.types import _Documents
from gateway.http import long_answers
from gateway.wire.json import json_bytes
from gateway.wire.problems import TooComplex
from tests.access.conftest import Subject, bearer
from tests.graphql.asking import PATH, Asker
from tests.support.server import GatewayProcess


def _put(project: httpx.Client, path: str, text: str) -> int:
    return int(project.put(f"/files/{path}", content=text).json()["version"])


def test_a_file_is_read_as_by_the_http_api(asker: Asker, project: httpx.Client, name: str) -> None:
    _put(project, "a.md", "one")
    _put(project, "a.md", "one two")
    query = """query ($id: String!) { project(id: $id) { cursor file(path: "a.md") {
        path version text whole: update increment: update(fromVersion: 1) incarnation lastModified size
        history { versions { version author deleted } next } } } }"""
    found = asker.data(query, id=name)["project"]
    status = project.post("/files/status", json={}).json()
    document = project.get("/files/a.md")
    assert found["cursor"] == status["cursor"]
    assert (found["file"]["version"], found["file"]["text"]) == (2, "one two")
    assert base64.b64decode(found["file"]["whole"]) == document.content
    increment = project.get("/files/a.md", params={"from_version": 1}).content
    assert base64.b64decode(found["file"]["increment"]) == increment
    assert found["file"]["incarnation"] == document.headers["x-incarnation"]
    assert [entry["version"] for entry in found["file"]["history"]["versions"]] == [2, 1]


def test_what_is_not_there_is_null(asker: Asker, project: httpx.Client, name: str) -> None:
    query = 'query ($id: String!) { project(id: $id) { file(path: "no.md") { version } session(id: "x") { id } } }'
    assert asker.data(query, id=name) == {"project": None}
    _put(project, "a.md", "one")
    assert asker.data(query, id=name) == {"project": {"file": None, "session": None}}


def test_files_are_listed_in_pages(asker: Asker, project: httpx.Client, name: str) -> None:
    for number in range(5):
        _put(project, f"docs/{number}.md", str(number))
    _put(project, "other.md", "")
    query = """query ($id: String!, $after: String!) { project(id: $id) {
        files(prefix: "docs/", limit: 2, after: $after) { files { path text } next cursor } } }"""
    found, after = [], ""
    while after is not None:
        page = asker.data(query, id=name, after=after)["project"]["files"]
        found += [(file["path"], file["text"]) for file in page["files"]]
        after = page["next"]
    assert found == [(f"docs/{number}.md", str(number)) for number in range(5)]


def test_text_and_edits_with_a_base_version_merge(asker: Asker, project: httpx.Client, name: str) -> None:
    put = """mutation ($p: String!, $text: String!, $base: Int) {
        putText(project: $p, path: "a.md", text: $text, baseVersion: $base) { version changed merged cursor } }"""
    assert asker.data(put, p=name, text="one\ntwo\n")["putText"]["version"] == 1
    assert asker.data(put, p=name, text="ONE\ntwo\n", base=1)["putText"]["merged"] is False
    assert asker.data(put, p=name, text="one\nTWO\n", base=1)["putText"]["merged"] is True
    edit = """mutation ($p: String!, $edits: [Edit!]!, $base: Int) {
        edit(project: $p, path: "a.md", edits: $edits, baseVersion: $base) { version } }"""
    asker.data(edit, p=name, edits=[{"old": "two", "new": "2"}], base=1)
    asker.data(edit, p=name, edits=[{"start": 0, "end": 0, "text": "# "}])
    assert project.get("/files/a.md", params={"format": "text"}).text.startswith("# ONE\n")
    assert asker.error(edit, p=name, edits=[{"old": "nowhere", "new": ""}]) == "edit_not_applicable"
    assert asker.error(edit, p=name, edits=[{"old": "x", "start": 1}]) == "invalid_body"


def test_an_update_is_merged_and_a_file_moved_and_deleted(asker: Asker, project: httpx.Client, name: str) -> None:
    doc = Doc({"content": Text("typed")})
    append = """mutation ($p: String!, $update: Base64!) {
        appendUpdate(project: $p, path: "a.md", update: $update) { version changed incomplete stateVector } }"""
    update = base64.b64encode(doc.get_update()).decode()
    assert asker.data(append, p=name, update=update)["appendUpdate"] == {
        "version": 1,
        "changed": True,
        "incomplete": False,
        "stateVector": None,
    }
    assert asker.data(append, p=name, update=update)["appendUpdate"]["changed"] is False
    assert asker.error(append, p=name, update=base64.b64encode(b"\x01\x02").decode()) == "invalid_update"
    assert "Base64" in asker.ask(append, p=name, update=update.replace("A", "-"))["errors"][0]["message"]
    move = 'mutation ($p: String!) { move(project: $p, source: "a.md", target: "b.md") { path version } }'
    assert asker.data(move, p=name)["move"] == {"path": "b.md", "version": 1}
    delete = 'mutation ($p: String!) { delete(project: $p, path: "b.md") { path version } }'
    assert asker.data(delete, p=name)["delete"] == {"path": "b.md", "version": 2}
    assert asker.error(delete, p=name) == "file_deleted"


def test_turns_are_created_read_and_ended(asker: Asker, project: httpx.Client, name: str) -> None:
    made = asker.data('mutation ($p: String!) { createSession(project: $p, title: "t") { id title } }', p=name)
    session = made["createSession"]["id"]
    create = """mutation ($p: String!, $s: String!) {
        createTurn(project: $p, session: $s, prompt: "Do it") { id status prompt blockCount } }"""
    turn = asker.data(create, p=name, s=session)["createTurn"]
    assert (turn["status"], turn["prompt"], turn["blockCount"]) == ("pending", "Do it", 0)
    url = f"/sessions/{session}/turns/{turn['id']}"
    project.post(f"{url}/blocks", json={"blocks": [{"type": "text", "content": {"n": n}} for n in range(3)]})
    read = """query ($p: String!, $s: String!, $t: String!) { project(id: $p) {
        session(id: $s) { title turns { turns { id } next } }
        turn(session: $s, id: $t) { status prompt blocks(after: 1) { index type content } } } }"""
    found = asker.data(read, p=name, s=session, t=turn["id"])["project"]
    assert [block["content"]["n"] for block in found["turn"]["blocks"]] == [1, 2]
    assert found["session"] == {"title": "t", "turns": {"turns": [{"id": turn["id"]}], "next": None}}
    end = """mutation ($p: String!, $s: String!, $t: String!, $status: String!) {
        setTurnStatus(project: $p, session: $s, id: $t, status: $status) { status } }"""
    assert asker.error(end, p=name, s=session, t=turn["id"], status="odd") == "invalid_parameter"
    ended = asker.data(end, p=name, s=session, t=turn["id"], status="completed")
    assert ended["setTurnStatus"]["status"] == "completed"
    assert asker.error(end, p=name, s=session, t=turn["id"], status="running") == "turn_finished"


def test_a_request_that_is_too_much_is_refused(asker: Asker, project: httpx.Client, name: str) -> None:
    _put(project, "a.md", "one")
    deep = "{project" + "{project" * 11 + "{id}" + "}" * 12
    assert any("depth" in error["message"] for error in asker.ask(deep)["errors"])
    aliases = "{" + " ".join(f'a{n}: project(id: "{name}") {{ cursor }}' for n in range(51)) + "}"
    assert "aliases" in asker.ask(aliases)["errors"][0]["message"]
    tokens = "{" + f'project(id: "{name}") {{ cursor }} ' * 400 + "}"
    assert "token" in asker.ask(tokens)["errors"][0]["message"]
    assert asker.ask("{" + "__typename " * 100 + "}") == {"data": {"__typename": "Query"}}
    compared = asker.ask("{" + "__typename " * 200 + "}")
    assert [error["message"] for error in compared["errors"]] == [
        "the query names the same fields too often to check whether they can be merged"
    ]
    long = 'mutation { putText(project: "demo", path: "a.md", text: "' + "x" * 100_000 + '") { version } }'
    assert asker.post(PATH, json={"query": long}).json()["code"] == "too_complex"
    many = {"query": "query ($x: [String]) { __typename }", "variables": {"x": [["x"]] * 10_001}}
    assert asker.post(PATH, json=many).json()["code"] == "too_complex"
    introspection = "{__schema{types{fields{type{fields{type{fields{type{fields{name}}}}}}}}}}"
    assert asker.ask(introspection)["errors"]


def test_a_text_is_in_the_answer_as_it_was_encoded_where_it_was_read() -> None:
    texts = ["", 'a\n"b"\\', "\u2028é🎉"]
    data = {
        "file": {
            "text": EncodedText.of(b'"as\\u0020it is"'),
            "all": [EncodedText.of(json_bytes(each)) for each in texts],
        }
    }
    assert result_bytes(ExecutionResult(data=data, errors=None)) == (
        b'{"data":{"file":{"text":"as\\u0020it is","all":[%b]}}}' % b",".join(map(json_bytes, texts))
    )
    data["file"]["long"] = EncodedText.of(long := json_bytes("long\n" * 100_000))
    assert b'"long":%b}' % long in result_bytes(ExecutionResult(data=data, errors=None))
    del data["file"]["long"]
    data["file"]["other"] = "\ud800"  # a path, as JavaScript may have it
    lone = json.loads(result_bytes(ExecutionResult(data=data, errors=None)))
    assert lone == {"data": {"file": {"text": "as it is", "all": texts, "other": "\ud800"}}}


def test_a_short_value_of_any_type_is_put_in_by_the_encoder_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EncodedText, "of", None)  # which would be asked for each of 10,000 values
    values: list[Any] = [encoded_value(json_bytes({"a": [1, None, "é"]})), encoded_value(b'"x"')]
    assert result_bytes(ExecutionResult(data={"all": values}, errors=None)) == (
        b'{"data":{"all":[{"a":[1,null,"\xc3\xa9"]},"x"]}}'
    )
    with_surrogate = ExecutionResult(data={"all": values, "path": "\ud800"}, errors=None)
    assert json.loads(result_bytes(with_surrogate))["data"]["all"] == [{"a": [1, None, "é"]}, "x"]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 10, 11, 12])
def test_bytes_are_encoded_in_pieces_as_they_are_at_once(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(long_answers, "_BYTES_IN_BASE64", 3)
    data = bytes(range(200, 200 + size))
    encoded = asyncio.run(types._as_base64(data))
    result = ExecutionResult(data={"update": types.BASE64.serialize(encoded)}, errors=None)
    assert json.loads(result_bytes(result)) == {"data": {"update": base64.b64encode(data).decode()}}
    assert types.BASE64.serialize(data) == base64.b64encode(data).decode()


@pytest.mark.parametrize("size", [0, 1, 11, 12, 13, 14, 15, 16, 17, 100])
def test_a_long_argument_in_base64_is_decoded_in_slices(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(types, "_DECODED_AT_ONCE", 16)
    decoded: list[int] = []
    decode = types._decoded
    monkeypatch.setattr(types, "_decoded", lambda text: decoded.append(len(text)) or decode(text))  # type: ignore[func-returns-value]

    async def given(text: str) -> bytes:
        return await types.bytes_of(types.BASE64.parse_value(text))

    data = bytes(range(size))
    text = base64.b64encode(data).decode()
    assert asyncio.run(given(text)) == data
    assert max(decoded, default=0) <= 16
    for wrong in (text + "!", "!" + text, text + "A", "AA==" + text, text[:20] + "A=" + text[22:] + "AAAA"):
        try:
            expected = base64.b64decode(wrong, validate=True)
        except ValueError:
            with pytest.raises(GraphQLError, match="Base64 cannot represent"):
                asyncio.run(given(wrong))
        else:
            assert asyncio.run(given(wrong)) == expected


def test_texts_with_characters_that_json_escapes_are_read_as_they_are(
    asker: Asker, project: httpx.Client, name: str
) -> None:
    text = 'line\n"quoted"\t\\ \u2028 é 🎉 \x01' * 5000
    _put(project, "a.md", text)
    query = 'query ($id: String!) { project(id: $id) { file(path: "a.md") { a: text b: text(root: "content") } } }'
    assert asker.data(query, id=name)["project"]["file"] == {"a": text, "b": text}


def test_bytes_of_one_request_are_bounded_also_of_one_file(asker: Asker, project: httpx.Client, name: str) -> None:
    _put(project, "a.md", "x" * 1_000_000)
    fields = " ".join(f"t{number}: text" for number in range(40))
    refused = asker.ask(f'query ($id: String!) {{ project(id: $id) {{ file(path: "a.md") {{ {fields} }} }} }}', id=name)
    assert {error["extensions"]["code"] for error in refused["errors"]} == {"too_complex"}


def test_a_file_is_read_once_and_one_at_a_time_however_often_it_is_asked_for() -> None:
    reads: list[str] = []
    at_once = 0

    async def read_whole(project: str, path: str) -> Content:
        nonlocal at_once
        at_once += 1
        assert at_once == 1
        reads.append(path)
        await asyncio.sleep(0)
        at_once -= 1
        return Content(b"x" * 10, "life", 1, 0)

    async def json_text_of(content: Content, root: str) -> bytes:
        return b'"x"'

    services: Any = SimpleNamespace(
        files=SimpleNamespace(read_whole=read_whole, json_text_of=json_text_of), answer_bytes=100
    )

    async def main() -> list[Any]:
        caller = Caller(services, OPEN)
        files = [_Documents("p", path, 1, None) for path in "ab"]
        texts = [each.text(caller, "content") for each in files for _ in range(6)]
        return await asyncio.gather(*texts, return_exceptions=True)

    found = asyncio.run(main())
    assert reads == ["a", "b"]
    assert [isinstance(each, TooComplex) for each in found] == [False] * 10 + [True] * 2


def test_documents_of_one_request_are_bounded(asker: Asker, project: httpx.Client, name: str) -> None:
    for number in range(101):
        _put(project, f"{number:03}.md", "x")
    query = "query ($p: String!, $n: Int!) { project(id: $p) { files(limit: $n) { files { path text } } } }"
    assert len(asker.data(query, p=name, n=100)["project"]["files"]["files"]) == 100
    refused = asker.ask(query, p=name, n=101)
    assert {error["extensions"]["code"] for error in refused["errors"]} == {"too_complex"}
    heads = "query ($p: String!) { project(id: $p) { files { files { path version } } } }"
    assert len(asker.data(heads, p=name)["project"]["files"]["files"]) == 101


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused(asker: Asker, method: str) -> None:
    answer = asker.request(method, PATH, json={"query": "{__typename}"})
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


def test_a_mutation_is_not_done_by_get_nor_under_a_condition(asker: Asker, name: str) -> None:
    mutation = f'mutation {{ putText(project: "{name}", path: "a.md", text: "x") {{ version }} }}'
    assert asker.get(PATH, params={"query": mutation}).status_code == 405
    streamed = asker.get(PATH, params={"query": mutation}, headers={"Accept": "text/event-stream"})
    assert "invalid_body" in streamed.text
    answer = asker.post(PATH, json={"query": mutation}, headers={"If-Match": '"x"'})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
    assert asker.post(PATH, content=json.dumps({"query": mutation})).status_code == 415
    assert asker.data("query ($p: String!) { project(id: $p) { id } }", p=name) == {"project": None}


def test_the_audit_of_graphql_over_http_passes(shared_gateway: GatewayProcess, stock_clients: Path) -> None:
    command = ["node", "audit.mjs", f"{shared_gateway.url}/api/graphql"]
    ran = subprocess.run(command, cwd=stock_clients, capture_output=True, text=True, timeout=300, check=True)
    audits = json.loads(ran.stdout)
    assert len(audits) > 50
    assert [audit for audit in audits if audit["status"] != "ok"] == []


def test_what_is_not_granted_does_not_exist(guarded: GatewayProcess, name: str) -> None:
    with Subject(guarded, name, bearer("owner", projects={name: "write"})) as owner:
        owner.write("docs/a.md", "open")
        owner.write("secret.md", "hidden")
    query = """query ($p: String!) { project(id: $p) { files { files { path } } a: file(path: "docs/a.md") { text }
        b: file(path: "secret.md") { text } } }"""
    reader = bearer("ann", projects={name: {"scope": "read", "paths": ["docs/"]}})
    with Asker(guarded.url, reader) as asker:
        found = asker.data(query, p=name)["project"]
        assert found == {"files": {"files": [{"path": "docs/a.md"}]}, "a": {"text": "open"}, "b": None}
        put = 'mutation ($p: String!) { putText(project: $p, path: "docs/a.md", text: "x") { version } }'
        assert asker.error(put, p=name) == "forbidden"
        turn = 'query ($p: String!) { project(id: $p) { turn(session: "s", id: "t") { status } } }'
        assert asker.error(turn, p=name) == "forbidden"
    with Asker(guarded.url, bearer("bob", projects={name: {"scope": "write", "paths": ["docs/"]}})) as asker:
        for path in ("secret.md", "never.md"):
            for mutation in (
                'putText(project: $p, path: $path, text: "x") { version }',
                'edit(project: $p, path: $path, edits: [{start: 0, end: 0, text: "x"}]) { version }',
                'appendUpdate(project: $p, path: $path, update: "AAA=") { version }',
                'move(project: $p, source: $path, target: "docs/b.md") { version }',
                'move(project: $p, source: "docs/a.md", target: $path) { version }',
                "delete(project: $p, path: $path) { version }",
            ):
                code = asker.error(f"mutation ($p: String!, $path: String!) {{ {mutation} }}", p=name, path=path)
                assert code == "file_not_found", mutation
        created = "mutation ($p: String!) { createSession(project: $p) { id } }"
        assert asker.error(created, p=name) == "forbidden"
    with Asker(guarded.url, bearer("eve", projects={"other": "admin"})) as asker:
        assert asker.data(query, p=name) == {"project": None}
        assert asker.error(put, p=name) == "project_not_found"
    with Asker(guarded.url) as asker:
        assert asker.post(PATH, json={"query": "{__typename}"}).status_code == 401


def test_the_author_is_who_asks(guarded: GatewayProcess, name: str) -> None:
    put = """mutation ($p: String!, $t: String!) { putText(project: $p, path: "a.md", text: $t) { version } }"""
    for subject, scope in (("ann", "write"), ("app", "admin")):
        with Asker(guarded.url, bearer(subject, projects={name: scope})) as asker:
            asker.headers["X-Author"] = "someone"
            asker.data(put, p=name, t=subject)
    with Asker(guarded.url, bearer("ann", projects={name: "read"})) as asker:
        history = 'query ($p: String!) { project(id: $p) { file(path: "a.md") { history { versions { author } } } } }'
        versions = asker.data(history, p=name)["project"]["file"]["history"]["versions"]
        assert [entry["author"] for entry in versions] == ["someone", "ann"]


def test_of_very_many_errors_the_first_are_told(asker: Asker) -> None:
    query = "{ " + 'project(name: "p") { idd } ' * 60 + "}"
    errors = asker.post(PATH, json={"query": query}).json()["errors"]
    assert len(errors) == MOST_ERRORS + 1  # the last one says that these are not all
    assert "Did you mean 'id'" in json.dumps(errors).replace('\\"', "'")
