"""Limits of what one client asks for, and of what a project may hold."""

import base64
import concurrent.futures
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pycrdt
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateway.access.rates import Rate, RateLimits
from gateway.http.rate_limits import Limit, address_of
from gateway.settings import Settings
from tests.access.conftest import Subject, bearer, told
from tests.access.keys import SECRET
from tests.live.clients import event_stream
from tests.live.editors import WEBSOCKET, raw_client
from tests.support.server import GatewayProcess


def test_a_bucket_gives_a_minutes_worth_and_fills_evenly() -> None:
    now = 0.0
    rate = Rate(60, lambda: now)
    for _ in range(60):
        assert rate.wait("a") == 0
        rate.take("a")
    assert rate.wait("a") == pytest.approx(1)
    assert rate.wait("b") == 0
    now += 30
    assert rate.left("a") == pytest.approx(30)
    now += 3600
    assert rate.left("a") == 60


def test_a_debt_is_paid_before_more_is_given() -> None:
    now = 0.0
    rate = Rate(100, lambda: now)
    rate.take("a", 300)
    assert rate.wait("a") == pytest.approx(0.6 * 201)
    now += 121
    assert rate.wait("a") == 0
    assert Rate(10, lambda: now).wait("a", 1000) == 0  # more than a minute brings is given where nothing was taken


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    settings: dict[str, Any] = {
        "GATEWAY_AUTH": "required",
        "GATEWAY_JWT_KEY": SECRET,
        "GATEWAY_RATE_REQUESTS": 30,
        "GATEWAY_RATE_BYTES": 20_000,
        "GATEWAY_RATE_CONNECTIONS": 2,
        "GATEWAY_RATE_FAILURES": 20,
        "GATEWAY_PROXIES": "127.0.0.0/8",
        "GATEWAY_PROJECT_FILES": 3,
        "GATEWAY_PROJECT_BYTES": 4000,
    }
    with GatewayProcess(tmp_path_factory.mktemp("limited") / "gateway.db", **settings) as gateway:
        yield gateway


def _ann(gateway: GatewayProcess, name: str, subject: str) -> Subject:
    return Subject(gateway, name, bearer(subject, projects={name: "write"}))


def test_a_subject_that_asks_too_often_is_told_when_to_come_again(limited: GatewayProcess, name: str) -> None:
    with _ann(limited, name, "often") as often, _ann(limited, name, "seldom") as seldom:
        often.write("a.md", "x")
        allowed = 0
        while (refused := often.get("/files")).status_code != 429:  # the bucket refills meanwhile
            allowed += 1
        assert allowed >= 29
        assert told(refused) == (429, "rate_limited")
        assert int(refused.headers["Retry-After"]) in range(1, 61)
        assert refused.headers["RateLimit-Policy"] == '"requests";q=30;w=60'
        assert refused.headers["RateLimit"].startswith('"requests";r=0;t=')
        assert seldom.get("/files").status_code == 200


def test_a_subject_that_writes_too_much_may_still_read(limited: GatewayProcess, name: str) -> None:
    with _ann(limited, name, "much") as much:
        assert much.put("/files/a.md", content=b"x" * 60_000, headers={"Content-Type": "text/plain"}).status_code == 507
        refused = much.write("b.md", "x")
        assert (told(refused), "bytes" in refused.json()["detail"]) == ((429, "rate_limited"), True)
        assert told(much.get("/files")) == (404, "project_not_found")


def test_a_subject_has_so_many_connections_and_no_more(limited: GatewayProcess, name: str) -> None:
    with _ann(limited, name, "many") as many:
        many.write("a.md", "x")
        token = many.headers["Authorization"].removeprefix("Bearer ")
        with event_stream(many) as stream, raw_client(limited, name, "a.md", query=f"?token={token}") as client:
            stream.until_ready()
            client.receive_sync("step_1")
            assert told(many.get("/changes", headers={"Accept": "text/event-stream"})) == (429, "rate_limited")
            url = f"{limited.project(name)}/ws/a.md?token={token}".replace("http", "ws", 1)
            with connect(url, **WEBSOCKET) as third, pytest.raises(ConnectionClosed) as closed:
                third.recv(60)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1013


def test_an_address_that_guesses_is_not_listened_to_any_more(tmp_path: Path, name: str) -> None:
    settings = {"GATEWAY_AUTH": "required", "GATEWAY_JWT_KEY": SECRET, "GATEWAY_RATE_FAILURES": "20"}
    with GatewayProcess(tmp_path / "gateway.db", **settings) as gateway, _ann(gateway, name, "known") as known:
        known.write("a.md", "x")
        with gateway.client(name) as stranger:
            guesses = (stranger.get("/files", headers={"Authorization": f"Bearer ygw_{n}"}) for n in itertools.count())
            refused = list(itertools.takewhile(lambda guess: guess.status_code == 401, guesses))
        assert len(refused) >= 20
        assert known.get("/files").status_code == 200  # a credential that is known is not a guess


def test_a_full_project_takes_no_more_until_something_is_deleted(limited: GatewayProcess, name: str) -> None:
    with _ann(limited, name, "files") as ann:
        for number in range(3):
            assert ann.write(f"{number}.md", "x").status_code == 201
        assert told(ann.write("3.md", "x")) == (507, "quota_exceeded")
        document: pycrdt.Doc[Any] = pycrdt.Doc()
        document.get("content", type=pycrdt.Text).insert(0, "x")
        update = base64.b64encode(document.get_update()).decode()
        results = ann.post("/sync", json={"updates": {"3.md": update, "0.md": update}}).json()["results"]
        assert [results[path].get("code") for path in ("3.md", "0.md")] == ["quota_exceeded", None]
        atomic = ann.post("/sync", json={"updates": {"3.md": update, "0.md": update}, "atomic": True})
        assert told(atomic)[0] in (409, 507)
        assert ann.write("0.md", "another").status_code == 200
        assert ann.post("/files/move", json={"from": "0.md", "to": "moved.md"}).status_code == 201
        assert ann.delete("/files/1.md").status_code == 204
        assert ann.write("3.md", "x").status_code == 201


def test_a_project_holds_so_many_bytes_and_no_more(limited: GatewayProcess, name: str) -> None:
    with _ann(limited, name, "bytes") as ann:
        assert ann.write("a.md", "x" * 3000).status_code == 201
        assert told(ann.write("b.md", "y" * 3000)) == (507, "quota_exceeded")
        assert told(ann.write("a.md", "x" * 6000)) == (507, "quota_exceeded")
        assert ann.write("a.md", "x" * 3100).status_code == 200
        assert ann.delete("/files/a.md").status_code == 204
        assert ann.write("b.md", "y" * 3000).status_code == 201


def test_many_first_writes_at_once_are_counted_too(limited: GatewayProcess, name: str) -> None:
    with (
        _ann(limited, name, "at-once") as ann,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        statuses = set(pool.map(lambda number: ann.write(f"{number}.md", "x").status_code, range(8)))
        assert statuses <= {201, 507}  # what is not stored yet is not counted
        assert told(ann.write("last.md", "x")) == (507, "quota_exceeded")


def test_limits_are_on_unless_the_gateway_listens_on_loopback() -> None:
    assert Settings(host="127.0.0.1").rate_limits == RateLimits(failures=600)
    assert Settings(host="0.0.0.0").rate_limits == RateLimits(30_000, 512 * 2**20, 1000, 600)
    assert Settings(host="0.0.0.0", rate_requests=0, rate_bytes=7).rate_limits == RateLimits(0, 7, 1000, 600)
    assert Settings(host="::1", rate_connections=3).rate_limits == RateLimits(0, 0, 3, 600)
    with pytest.raises(ValueError, match="proxies"):
        Settings(proxies=("everybody",))


def test_subjects_of_one_address_are_limited_together(tmp_path: Path, name: str) -> None:
    """A body larger than what an address may write in ten minutes leaves a debt that no test outlasts."""
    settings: dict[str, Any] = {
        "GATEWAY_AUTH": "required",
        "GATEWAY_JWT_KEY": SECRET,
        "GATEWAY_RATE_BYTES": 100,
        "GATEWAY_PROXIES": "127.0.0.0/8",
    }
    office, elsewhere = {"X-Forwarded-For": "192.0.2.7"}, {"X-Forwarded-For": "192.0.2.8"}
    with GatewayProcess(tmp_path / "gateway.db", **settings) as gateway:
        with _ann(gateway, name, "clerk-1") as clerk:
            assert clerk.write("a.md", "x" * 100_000, **office).status_code == 201
        with _ann(gateway, name, "clerk-2") as clerk:
            refused = clerk.write("a.md", "y", **office)
            assert told(refused) == (429, "rate_limited")
            assert refused.headers["RateLimit-Policy"] == '"bytes";q=1000;w=60'
            forged = {"X-Forwarded-For": "198.51.100.1, 192.0.2.7"}  # the client wrote the first, the proxy the last
            assert clerk.write("a.md", "y", **forged).status_code == 429
            assert clerk.write("a.md", "y", **elsewhere).status_code == 200


def test_requests_of_all_subjects_of_an_address_are_counted_together() -> None:
    now = 0.0
    limit = Limit(30, lambda: now)
    for clerk in range(10):
        for _ in range(30):
            assert limit.wait(f"clerk-{clerk}", "office")[0] == 0
            limit.take(f"clerk-{clerk}", "office")
    assert limit.wait("clerk-0", "office")[1] == 30
    assert limit.wait("clerk-10", "office") == (pytest.approx(0.2), 300)
    assert limit.wait("clerk-10", "elsewhere")[0] == 0


def test_an_address_is_that_of_the_connection_unless_it_is_a_proxy(tmp_path: Path, name: str) -> None:
    settings = {"GATEWAY_AUTH": "required", "GATEWAY_JWT_KEY": SECRET, "GATEWAY_RATE_FAILURES": "5"}
    with GatewayProcess(tmp_path / "gateway.db", **settings) as gateway, gateway.client(name) as guesser:
        for n in itertools.count():  # more guesses than five are refused, as soon as they come faster than one in 12 s
            forged = {"Authorization": f"Bearer {n}", "X-Forwarded-For": f"192.0.2.{n % 250}"}
            if (answer := guesser.get("/files", headers=forged)).status_code == 429:
                break
            assert answer.status_code == 401
        assert n >= 5


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_an_ipv6_client_is_counted_by_its_network(one: str, other: str, same: bool) -> None:
    assert (address_of({"client": (one, 1)}) == address_of({"client": (other, 2)})) is same
