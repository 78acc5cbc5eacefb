"""Whatever is sent: a clear answer below 500, nothing stored, and the gateway goes on."""

import json
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import pycrdt
import pytest

from tests.support.server import GatewayProcess

_OCTETS = {"Content-Type": "application/octet-stream"}
_PLAIN = {"Content-Type": "text/plain"}
_JSON = {"Content-Type": "application/json"}


def _refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"


def _real_updates() -> list[bytes]:
    """Updates of all kinds."""
    document: pycrdt.Doc[object] = pycrdt.Doc()
    updates: list[bytes] = []
    subscription = document.observe(lambda event: updates.append(event.update))
    text = document.get("content", type=pycrdt.Text)
    text.insert(0, "some text, ä and 😀")
    text.format(0, 4, {"bold": True})
    del text[2:5]
    document.get("map", type=pycrdt.Map)["key"] = pycrdt.Map({"a": [1, None, "x"], "t": pycrdt.Text("nested")})
    document.get("array", type=pycrdt.Array).extend([1.5, "two", {"three": 3}])
    document.get("xml", type=pycrdt.XmlFragment).children.append(pycrdt.XmlElement("p", {"id": "1"}))
    document.unobserve(subscription)
    return [*updates, document.get_update()]


def _mutated(update: bytes, randomness: random.Random) -> bytes:
    mutated = bytearray(update)
    for _ in range(randomness.randint(1, 4)):
        place = randomness.randrange(len(mutated)) if mutated else 0
        match randomness.randrange(5):
            case 0 if mutated:
                mutated[place] = randomness.randrange(256)
            case 1:
                mutated[place:place] = randomness.randbytes(randomness.randint(1, 3))
            case 2:
                del mutated[place : place + randomness.randint(1, 3)]
            case 3:
                del mutated[place:]
            case _ if mutated:
                mutated[place] ^= 1 << randomness.randrange(8)
    return bytes(mutated)


def test_mutated_updates_never_break_a_file(shared_project: httpx.Client) -> None:
    updates = _real_updates()

    def attack(seed: int) -> None:
        randomness = random.Random(seed)
        path = f"/files/{seed}.md"
        good: pycrdt.Doc[object] = pycrdt.Doc()
        with httpx.Client(base_url=shared_project.base_url, timeout=120) as client:
            for number in range(400):
                answer = client.patch(path, content=_mutated(randomness.choice(updates), randomness), headers=_OCTETS)
                assert answer.status_code in (200, 201, 400, 409), answer.text
                if answer.status_code >= 400:
                    assert answer.json()["code"] in ("invalid_update", "missing_predecessors")
                if number % 50 == 0:  # the writer after it
                    state = good.get_state()
                    good.get("good", type=pycrdt.Array).append(number)
                    answer = client.patch(path, content=good.get_update(state), headers=_OCTETS)
                    assert answer.json()["changed"], answer.text
            whole = client.get(path).raise_for_status()
            for version in range(1, int(whole.headers["X-Version"]) + 1):
                pycrdt.Doc().apply_update(client.get(f"{path}?at_version={version}").raise_for_status().content)
            replica: pycrdt.Doc[object] = pycrdt.Doc()
            replica.apply_update(whole.content)
            assert replica.get("good", type=pycrdt.Array).to_py() == [float(n) for n in range(0, 400, 50)]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(attack, range(8)))


def test_ten_megabytes_of_noise_are_refused(shared_project: httpx.Client) -> None:
    noise = random.Random(1).randbytes(10 * 2**20)
    _refused(shared_project.patch("/files/a.md", content=noise, headers=_OCTETS), 400, "invalid_update")
    _refused(shared_project.put("/files/a.md", content=noise, headers=_PLAIN), 400, "invalid_text")
    _refused(shared_project.post("/files/status", content=noise, headers=_JSON), 400, "invalid_body")


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_refused(shared_project: httpx.Client, declared: bool) -> None:
    body = bytes(17 * 2**20)
    content = body if declared else (body[start : start + 2**20] for start in range(0, len(body), 2**20))
    try:
        answer = shared_project.patch("/files/a.md", content=content, headers=_OCTETS)
    except (httpx.WriteError, httpx.ReadError):  # the gateway answered and closed before it was sent all
        return
    _refused(answer, 413, "body_too_large")


PATHS = {
    "..": "..%2f..%2fetc/passwd",
    "encoded dots": "%2e%2e/x",
    "null": "a%00b",
    "line feed": "a%0ab",
    "not UTF-8": "a%ffb",
    "not NFC": quote("e\u0301"),
    "too long": "a" * 1025,
    "too long in UTF-8": quote("ä" * 513),
    "empty segment": "a//b",
    "slash at the end": "a/",
    "slash at the start": "/a",
    "dot": "a/./b",
    "delete": "a%7fb",
    "C1 control": quote("a\x85b"),
    "right-to-left override": quote("a\u202eb"),
    "line separator": quote("a\u2028b"),
    "nothing": "",
}


@pytest.mark.parametrize("kind", PATHS)
def test_what_is_no_path_is_refused_by_every_request(shared_gateway: GatewayProcess, kind: str) -> None:
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        answer = _raw(
            shared_gateway, f"{method} /api/projects/hostile/files/{PATHS[kind]} HTTP/1.1", b"Content-Length: 0"
        )
        assert answer.startswith(b"HTTP/1.1 400 "), (method, answer)
        assert b'"code":"invalid_path"' in answer
    with shared_gateway.client("hostile") as client:
        assert client.get("/files").status_code == 404


def _raw(gateway: GatewayProcess, line: str, *headers: bytes, body: bytes = b"") -> bytes:
    """A request as it is written here, and all that comes back."""
    with socket.create_connection(("127.0.0.1", gateway.port), 120) as connection:
        lines = [line.encode(), b"Host: localhost", *headers, b"Connection: close", b"", body]
        connection.sendall(b"\r\n".join(lines))
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


@pytest.mark.parametrize(
    "path", ["ok.md", "\ufffd", "ä/ö/ü.md", "a b", "%41", "status", "move", "a\\b", "x" * 1024, "…"]
)
def test_odd_but_valid_paths_are_files(shared_project: httpx.Client, path: str) -> None:
    url = f"/files/{quote(path)}"
    assert shared_project.put(url, content=b"text", headers=_PLAIN).json()["path"] == path
    assert shared_project.get(url + "?format=text").text == "text"
    assert [entry["path"] for entry in shared_project.get("/files").json()["files"]] == [path]


@pytest.mark.parametrize("project", ["a b", "ä", "x" * 129, "a%2fb", "*", "%2e", "%2e%2e"])
def test_what_is_no_project_is_refused(shared_gateway: GatewayProcess, project: str) -> None:
    answer = httpx.get(f"{shared_gateway.url}/api/projects/{quote(project, safe='%*')}/files")
    assert answer.status_code in (400, 404)
    assert answer.json()["code"] in ("invalid_project", "not_found")


@pytest.mark.parametrize("number", ["-1", "1e3", "9" * 31, "9" * 5000, "٣", "", "0x1", "1.5", "null", " 1", "NaN"])
def test_absurd_numbers_are_refused_or_beyond(shared_project: httpx.Client, number: str) -> None:
    shared_project.put("/files/a.md", content=b"text", headers=_PLAIN)
    session = shared_project.post("/sessions", json={}).json()["id"]
    turn = shared_project.post(f"/sessions/{session}/turns", json={"prompt": ""}).json()["id"]
    places = {
        "/files/a.md": ["from_version", "at_version", "wait"],
        "/files": ["limit"],
        "/changes": ["limit", "wait"],
        "/history/a.md": ["limit", "before", "group"],
        f"/sessions/{session}/turns": ["limit"],
        f"/sessions/{session}/turns/{turn}": ["after_block", "wait"],
        f"/sessions/{session}/turns/{turn}/status": ["wait"],
    }
    for path, names in places.items():
        for name in names:
            answer = shared_project.get(path, params={name: number})
            if number == "9" * 31 and name in ("from_version", "at_version", "before", "after_block"):
                assert answer.status_code in (200, 404, 409), (path, name, answer.text)
            elif number == "1.5" and name == "wait":
                assert answer.status_code == 200
            else:
                _refused(answer, 400, "invalid_parameter")


CURSORS = [
    "x",
    "",
    "x.",
    ".1",
    "x.-1",
    "x.1e3",
    "x.٣",
    "x." + "9" * 31,
    "x.1.1.1",
    "\x00",
    "\n",
    "ä.1",
    " x.1",
    "x" * 10_000,
]


@pytest.mark.parametrize("cursor", CURSORS)
def test_what_is_no_cursor_is_refused(shared_project: httpx.Client, cursor: str) -> None:
    shared_project.put("/files/a.md", content=b"text", headers=_PLAIN)
    _refused(shared_project.get("/changes", params={"since": cursor}), 400, "invalid_cursor")
    for path in ("/files/status", "/sync"):
        _refused(shared_project.post(path, json={"since": cursor}), 400, "invalid_cursor")


@pytest.mark.parametrize("cursor", ["x.1", "0123456789abcdef.0", "0123456789." + "9" * 15])
def test_a_cursor_of_another_life_starts_over(shared_project: httpx.Client, cursor: str) -> None:
    shared_project.put("/files/a.md", content=b"text", headers=_PLAIN)
    answer = shared_project.get("/changes", params={"since": cursor}).json()
    assert (answer["reset"], [change["path"] for change in answer["changes"]]) == (True, ["a.md"])


BODIES = {
    "not JSON": b"{",
    "not an object": b"[]",
    "nothing but a number": b"1",
    "deeply nested": b'{"paths":' + b"[" * 100_000,
    "unknown member": b'{"path":"a.md"}',
    "wrong type": b'{"paths":"a.md"}',
    "version as text": b'{"versions":{"a.md":"1"}}',
    "lone surrogate": b'{"paths":["\\ud800"]}',
    "not UTF-8": b'{"paths":["\xff"]}',
    "null path": b'{"paths":[null]}',
    "infinite wait": b'{"wait":1e999}',
    "not a number": b'{"wait":NaN}',
    "negative wait": b'{"wait":-1}',
    "long wait": b'{"wait":61}',
    "negative version": b'{"versions":{"a.md":-1}}',
    "fraction": b'{"versions":{"a.md":1.5}}',
    "bad path": b'{"paths":["../x"]}',
    "bad cursor": b'{"since":"not a cursor"}',
    "empty cursor": b'{"since":""}',
    "huge cursor": b'{"since":"abc.' + b"9" * 100 + b'"}',
}


@pytest.mark.parametrize("kind", BODIES)
def test_malformed_questions_are_refused(shared_project: httpx.Client, kind: str) -> None:
    shared_project.put("/files/a.md", content=b"text", headers=_PLAIN)
    answer = shared_project.post("/files/status", content=BODIES[kind], headers=_JSON)
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"].startswith("invalid_")


MALFORMED = [
    b" ", b"{", b"}", b"[]", b"1", b"null", b'"x"', b"{}{}", b"{'a': 1}", b'{"a" 1}', b'{"a": 1,}', b"{" * 200_000,
    b"[" * 200_000, b'{"a":' * 200_000, b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"\x00", b'{"from": "\\ud800", "to": "b"}',
    b'{"from": "a.md", "to": "\\udc00\\ud800"}', b'{"from": 1, "to": 2}', b'{"from": "a.md"}',
    b'{"from": "a.md", "to": ""}',
    b'{"version": -1}', b'{"version": 1e400}', b'{"version": true}', b'{"version": "1"}', b'{"version": 1.5}',
    b'{"updates": {"b.md": "not base64!"}}', b'{"updates": {"b.md": 1}}', b'{"updates": [1]}', b'{"versions": [1]}',
    b'{"versions": {"a.md": -1}}', b'{"versions": {"a.md": 99999999999999999999999999.5}}', b'{"wait": "1"}',
    b'{"max_bytes": -1}', b'{"atomic": "yes"}', b'{"title": 1}', b'{"prompt": null}', b'{"prompt": "\\ud800"}',
    b'{"status": "done"}', b'{"status": 1}', b'{"blocks": 1}', b'{"blocks": [1]}', b'{"blocks": [{"type": "no"}]}',
    b'{"blocks": [{"type": "text", "content": "x"}], "first_index": -1}', b'{"blocks": [{"type": "text"}]}',
]  # fmt: skip


def test_malformed_bodies_are_refused_everywhere_and_change_nothing(shared_project: httpx.Client) -> None:
    shared_project.put("/files/a.md", content=b"text", headers=_PLAIN)
    session = shared_project.post("/sessions", json={}).json()["id"]
    turn = shared_project.post(f"/sessions/{session}/turns", json={"prompt": ""}).json()["id"]
    before = shared_project.get("/changes").json()
    for body in MALFORMED:
        for method, path in (
            ("POST", "/files/status"),
            ("POST", "/files/move"),
            ("POST", "/sync"),
            ("POST", "/history/a.md/restore"),
            ("POST", "/sessions"),
            ("POST", f"/sessions/{session}/turns"),
            ("POST", f"/sessions/{session}/turns/{turn}/blocks"),
            ("PATCH", f"/sessions/{session}/turns/{turn}"),
        ):
            answer = shared_project.request(method, path, content=body, headers=_JSON)
            assert answer.status_code == 400, (path, body[:50], answer.text)
            assert answer.json()["code"].startswith("invalid_")
            assert answer.headers["Content-Type"] == "application/problem+json"
    assert shared_project.get("/changes").json() == before


def test_huge_versions_and_repeated_members_are_understood(shared_project: httpx.Client) -> None:
    shared_project.put("/files/a.md", content=b"text", headers=_PLAIN)
    ahead = shared_project.post("/files/status", content=b'{"versions":{"a.md":%d}}' % 10**30, headers=_JSON)
    assert [change["reset"] for change in ahead.json()["changes"]] == [True]
    twice = shared_project.post("/files/status", content=b'{"versions":{"a.md":9,"a.md":1}}', headers=_JSON)
    assert twice.json()["changes"] == []
    many = {"paths": [f"{number}.md" for number in range(10_001)]}
    _refused(shared_project.post("/files/status", json=many), 413, "too_many_paths")


@pytest.mark.parametrize("text", ["AQ", "!!!!", "AQE", "____________", "", "A", "AQAAAA", "ä"])
def test_what_is_no_state_vector_is_refused(shared_project: httpx.Client, text: str) -> None:
    shared_project.put("/files/a.md", content=b"text", headers=_PLAIN)
    _refused(shared_project.get("/files/a.md", params={"state_vector": text}), 400, "invalid_state_vector")


@pytest.mark.parametrize("tag", ['"', '"a" "b"', "W/", '"a", "b', '"a"\\"', '"a", W/'])
def test_malformed_entity_tags_are_refused(shared_project: httpx.Client, tag: str) -> None:
    shared_project.put("/files/a.md", content=b"text", headers=_PLAIN)
    for name in ("If-None-Match", "If-Match"):
        answer = shared_project.put("/files/a.md", content=b"new", headers={**_PLAIN, name: tag})
        assert answer.status_code in (400, 412), (name, answer.text)
    assert shared_project.get("/files/a.md?format=text").text == "text"


@pytest.mark.parametrize(
    ("method", "path", "content_type"),
    [
        ("PATCH", "/files/a.md", "text/plain"),
        ("PATCH", "/files/a.md", "application/json"),
        ("PUT", "/files/a.md", "application/octet-stream"),
        ("PUT", "/files/a.md", "text/plain; charset=latin-1"),
        ("PUT", "/files/a.md", "text/html"),
        ("POST", "/files/status", "text/plain"),
        ("POST", "/files/move", "a/b"),
        ("POST", "/sync", "text/plain"),
    ],
)
def test_a_wrong_type_is_refused(shared_project: httpx.Client, method: str, path: str, content_type: str) -> None:
    answer = shared_project.request(method, path, content=b"x", headers={"Content-Type": content_type})
    _refused(answer, 415, "unsupported_media_type")
    encoded = shared_project.patch("/files/a.md", content=b"x", headers={**_OCTETS, "Content-Encoding": "gzip"})
    _refused(encoded, 415, "unsupported_media_type")


def test_of_two_writers_with_the_same_base_one_wins(shared_project: httpx.Client) -> None:
    shared_project.put("/files/a.md", content=b"0", headers=_PLAIN)

    def write(number: int, tag: str) -> int:
        with httpx.Client(base_url=shared_project.base_url, timeout=120) as client:
            return client.put(
                "/files/a.md", content=f"{number}".encode(), headers={**_PLAIN, "If-Match": tag}
            ).status_code

    with ThreadPoolExecutor(8) as pool:
        for round_ in range(10):
            tag = shared_project.get("/files/a.md").headers["ETag"]
            statuses = list(pool.map(lambda number, tag=tag, base=round_ * 8 + 1: write(base + number, tag), range(8)))
            assert sorted(statuses) == [200] + [412] * 7
    assert json.loads(shared_project.get("/files/a.md?format=text").text) > 0
