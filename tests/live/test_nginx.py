"""Behind nginx, with the configuration that the documentation gives: everything live passes through."""

import copy
import http.client
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.live.clients import Waiting, event_stream, held_request, name_of, names, put, wait_for_figure
from tests.live.editors import Editor
from tests.support.nginx import CONFIGURATION, running_nginx
from tests.support.server import PATIENCE_S, GatewayProcess

_WAIT = 60


@pytest.fixture(scope="module")
def behind_nginx(shared_gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The shared gateway, as it is reached through nginx."""
    configuration = CONFIGURATION.read_text(encoding="utf-8")
    assert configuration.count(":8000;") == 1
    configuration = configuration.replace(":8000;", f":{shared_gateway.port};")
    with running_nginx(tmp_path_factory.mktemp("nginx"), configuration) as url:
        through = copy.copy(shared_gateway)
        through.url = url
        yield through


@pytest.fixture
def proxied(behind_nginx: GatewayProcess, shared_project: httpx.Client) -> Iterator[httpx.Client]:
    """A client for the shared project that goes through nginx."""
    with behind_nginx.client(name_of(shared_project)) as client:
        yield client


def test_the_demo_is_published_and_figures_are_not(behind_nginx: GatewayProcess) -> None:
    for path in ("/", "/index.html", "/demo.js", "/demo.css", "/openapi.json"):
        answer = behind_nginx.get(path)
        assert (answer.status_code, answer.headers["X-Content-Type-Options"]) == (200, "nosniff"), path
    inside = ("metrics", "healthz", "readyz")
    spellings = ("/{}", "//{}", "/./{}", "/api/../{}", "/%2e/{}", "/{}/", "/api/%2e%2e/{}", "/{}?a=demo.js")
    for path in (spelling.format(name) for name in inside for spelling in spellings):
        connection = http.client.HTTPConnection(behind_nginx.url.removeprefix("http://"))  # sends a path as it is
        connection.request("GET", path)
        found = connection.getresponse()
        assert found.status == 404, path
        assert b"gateway_" not in found.read()
        connection.close()


def test_events_pass_at_once(proxied: httpx.Client) -> None:
    put(proxied, "a", "1")
    with event_stream(proxied) as stream:
        assert len(stream.until_ready()) == 1
        for number in range(2, 20):  # each by itself: nothing that comes after it pushes it through
            put(proxied, "a", f"{number}")
            assert stream.next("change").json["version"] == number


def test_long_polls_are_held_and_answered_at_once(behind_nginx: GatewayProcess, proxied: httpx.Client) -> None:
    since = put(proxied, "a", "1")["cursor"]
    with Waiting(behind_nginx, name_of(proxied)) as waiting:
        asked = waiting.start("GET", "/changes", params={"since": since, "wait": _WAIT})
        put(proxied, "a", "2")
        assert names(asked.result().json()) == [("a", 2, "modified")]


def test_who_leaves_nginx_is_forgotten_by_the_gateway(behind_nginx: GatewayProcess, proxied: httpx.Client) -> None:
    since = put(proxied, "a", "1")["cursor"]
    wait_for_figure(behind_nginx, "gateway_waiters", 0)
    with event_stream(proxied) as stream:
        stream.until_ready()
        path = proxied.base_url.path
        with held_request(behind_nginx, f"{path}changes?since={since}&wait={_WAIT}"):
            pass
        wait_for_figure(behind_nginx, "gateway_waiters", 1)
    wait_for_figure(behind_nginx, "gateway_waiters", 0)


@pytest.mark.parametrize("size", [500, 5000], ids=["compressed by nginx", "compressed by the gateway"])
def test_a_tag_survives_compression(proxied: httpx.Client, shared_project: httpx.Client, size: int) -> None:
    put(proxied, "a", "x" * size)
    question = {"url": "/files/a", "params": {"format": "text"}}
    plain = proxied.get(**question, headers={"Accept-Encoding": "identity"})
    packed = proxied.get(**question, headers={"Accept-Encoding": "gzip"})
    direct = shared_project.get(**question, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert direct.headers.get("Content-Encoding") == ("gzip" if size > 1024 else None)
    assert packed.headers["ETag"] == "W/" + plain.headers["ETag"]
    assert packed.text == plain.text == "x" * size
    for tag in (packed.headers["ETag"], plain.headers["ETag"]):
        assert proxied.get(**question, headers={"If-None-Match": tag}).status_code == 304
    put(proxied, "a", "y" * size)
    changed = proxied.get(**question, headers={"If-None-Match": packed.headers["ETag"]})
    assert (changed.status_code, changed.text) == (200, "y" * size)


def test_a_stock_provider_works(
    open_editor: Callable[..., Editor], behind_nginx: GatewayProcess, proxied: httpx.Client
) -> None:
    first, second = (open_editor(behind_nginx, name_of(proxied), "a.md").synced() for _ in range(2))
    first.type("through ")
    second.until_text("through ")
    second.type("and back")
    first.until_text("through and back")
    first.say({"name": "first"})
    second.until_others("first")


def test_the_longest_body_passes_and_no_longer_one(proxied: httpx.Client) -> None:
    headers = {"Content-Type": "text/plain"}
    longest = 16 * 2**20
    assert proxied.put("/files/a", content=b"x" * longest, headers=headers).status_code == 201
    assert proxied.put("/files/a", content=b"x" * (longest + 1), headers=headers).status_code == 413


def test_output_of_an_agent_passes_line_by_line(proxied: httpx.Client) -> None:
    session = proxied.post("/sessions", json={}).json()["id"]
    turn = proxied.post(f"/sessions/{session}/turns", json={"prompt": "go"}).json()["id"]
    url = f"/sessions/{session}/turns/{turn}"

    def output() -> Iterator[bytes]:
        for number in range(1, 4):
            content = f'[{{"type":"text","text":"line {number}"}}]'
            yield f'{{"type":"assistant","message":{{"id":"m{number}","content":{content}}}}}\n'.encode()
            with httpx.Client(base_url=proxied.base_url, verify=False, timeout=PATIENCE_S) as other:
                answer = other.get(url, params={"after_block": number - 1, "wait": _WAIT})
                while answer.status_code != 200 or answer.json()["block_count"] < number:
                    answer = other.get(url, params={"after_block": number - 1, "wait": _WAIT})

    headers = {"Content-Type": "application/x-ndjson"}
    proxied.post(f"{url}/output", content=output(), headers=headers).raise_for_status()
    assert [block["content"] for block in proxied.get(url).json()["blocks"]] == ["line 1", "line 2", "line 3"]
