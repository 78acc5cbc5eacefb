"""Webhooks: what they are sent, when, and how it goes on after failures, in virtual time over real sockets."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.access.access import OPEN, Access
from gateway.access.grants import ALL, Paths, View
from gateway.readers.delivery import RETRIES_S
from gateway.readers.hosts import Hosts, Refused, Unreachable, is_public
from gateway.readers.outside import Outside
from gateway.wire.problems import Forbidden, HookNotFound, InvalidParameter, QuotaExceeded
from storage import AccessToken, Milliseconds
from tests.readers.conftest import VirtualClock, place
from tests.support.receiver import Received, receiver

Work = Callable[[], Coroutine[Any, Any, None]]


def run(work: Work) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await work()

    asyncio.run(main())


def message(received: Received) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(received.body)
    return content


def paths(received: Received) -> list[str]:
    return [entry["path"] for entry in message(received)["changes"]]


def test_a_change_is_posted_and_signed_as_standard_webhooks_has_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with place(tmp_path) as here, receiver() as there:
            since = await here.put("before.md", "x")
            hook = await here.hook("ci", f"{there.url}/in?x=1")
            assert isinstance(hook.secret, str)
            cursor = await here.put("a.md", "one")
            got = await there.wait_for(1)
            verified = Webhook(hook.secret).verify(got.body, got.headers)
            assert (verified["type"], verified["project"], verified["hook"]) == ("changes", "demo", "ci")
            assert (verified["since"], verified["cursor"], verified["more"]) == (since, cursor, False)
            assert [entry["change_type"] for entry in verified["changes"]] == ["created"]
            assert (got.method, got.path) == ("POST", "/in?x=1")
            other = Webhook((await here.hook("other", there.url)).secret or "")  # type: ignore[arg-type]
            with pytest.raises(WebhookVerificationError):
                other.verify(got.body, got.headers)
            done = await here.settled("ci", cursor=cursor, lag=0)
            assert done.secret is not hook.secret
            assert done.last_answer is not None
            assert done.last_answer.status == 204

    run(work)


def test_messages_come_in_order_and_compacted_while_the_receiver_is_down_for_an_hour(tmp_path: Path) -> None:
    async def work() -> None:
        async with place(tmp_path) as here, receiver() as there:
            start = await here.put("a.md", "0")
            await here.hook("ci", there.url)
            there.status = 500
            await here.put("a.md", "1")
            await there.wait_for(1)
            for attempt, pause in enumerate((5, 300, 1800), start=2):
                failed = await here.settled("ci", attempts=attempt - 1)
                assert failed.cursor == start
                for number in range(20):
                    await here.put(f"{number % 3}.md", f"{attempt} {number}")
                here.clock.advance(pause - 1)
                await here.put("b.md", f"{attempt}")
                assert len(there.requests) == attempt - 1
                here.clock.advance(1)
                await there.wait_for(attempt)
            there.status = 200
            await here.settled("ci", attempts=4)
            here.clock.advance(7200)
            end = await here.put("c.md", "end")
            await here.settled("ci", cursor=end)
            # Each retry is the same message: the same id, the same stretch.
            attempts = there.requests[:5]
            assert len({each.headers["webhook-id"] for each in attempts}) == 1
            assert {message(each)["since"] for each in attempts} == {start}
            assert len({message(each)["cursor"] for each in attempts}) == 1
            assert len({each.headers["webhook-timestamp"] for each in attempts}) == 5
            # What came meanwhile is told once, with its newest state.
            rest = there.requests[5:]
            told = [path for each in rest for path in paths(each)]
            assert sorted(set(told)) == ["0.md", "1.md", "2.md", "b.md", "c.md"]
            assert len(told) == 5 or (len(told) == 6 and told.count("c.md") == 1)
            ids = [each.headers["webhook-id"] for each in there.requests]
            assert len(set(ids)) == 1 + len(rest)
            follows = [start, *(message(each)["cursor"] for each in [attempts[-1], *rest])]
            assert [message(each)["since"] for each in rest] == follows[1:-1]

    run(work)


def test_after_the_last_retry_a_hook_has_ended_until_it_is_replayed(tmp_path: Path) -> None:
    async def work() -> None:
        async with place(tmp_path) as here, receiver() as there:
            since = await here.put("a.md", "0")
            await here.hook("ci", there.url)
            there.status = 503
            await here.put("a.md", "1")
            for attempt, pause in enumerate(RETRIES_S, start=1):
                await here.settled("ci", attempts=attempt)
                here.clock.advance(pause)
            ended = await here.settled("ci", attempts=len(RETRIES_S) + 1)
            assert ended.ended == "10 attempts failed"
            assert sum(RETRIES_S) == 5 + 300 + 1800 + 7200 + 18_000 + 36_000 + 3 * 86_400
            await here.put("b.md", "2")
            here.clock.advance(86_400)
            await here.clock.resting.wait()
            assert len(there.requests) == len(RETRIES_S) + 1
            there.status = 200
            await here.readers.registry.replay("demo", "ci", since)
            got = await there.wait_for(len(RETRIES_S) + 2)
            assert paths(got) == ["a.md", "b.md"]
            assert (await here.settled("ci", lag=0)).ended is None

    run(work)


def test_410_ends_a_hook_at_once_and_retry_after_is_honoured(tmp_path: Path) -> None:
    async def work() -> None:
        async with place(tmp_path) as here, receiver() as there:
            await here.put("a.md", "0")
            await here.hook("ci", there.url)
            there.status, there.headers = 429, {"Retry-After": "1000"}
            await here.put("a.md", "1")
            failed = await here.settled("ci", attempts=1)
            assert failed.next_attempt is not None
            here.clock.advance(999)
            await here.clock.resting.wait()
            assert len(there.requests) == 1
            there.status, there.headers = 410, {}
            here.clock.advance(1)
            await there.wait_for(2)
            ended = await here.settled("ci", attempts=2)
            assert ended.ended == "the receiver is gone (410)"

    run(work)


def test_redirects_are_not_followed(tmp_path: Path) -> None:
    async def work() -> None:
        async with place(tmp_path) as here, receiver() as there, receiver() as elsewhere:
            await here.put("a.md", "0")
            await here.hook("ci", there.url)
            there.status, there.headers = 307, {"Location": elsewhere.url}
            await here.put("a.md", "1")
            failed = await here.settled("ci", attempts=1)
            assert failed.last_answer is not None
            assert failed.last_answer.status == 307
            assert elsewhere.requests == []

    run(work)


def test_receivers_that_hang_hold_up_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.readers.outside._ANSWER_S", 60.0)
    monkeypatch.setattr("gateway.readers.outside._CONNECT_S", 60.0)

    async def work() -> None:
        async with place(tmp_path) as here, receiver() as hanging, receiver() as there:
            hanging.status = None
            await here.put("a.md", "0")
            for number in range(30):
                await here.hook(f"{number:02}", hanging.url)
            await here.hook("zz", there.url)
            await here.put("a.md", "1")
            await there.wait_for(1)
            assert len(hanging.requests) <= 8  # as many as one receiver may have at once
            monkeypatch.setattr("gateway.readers.outside._ANSWER_S", 0.2)
            monkeypatch.setattr("gateway.readers.outside._CONNECT_S", 0.2)
            await hanging.wait_for(8)
            await hanging.close()  # the others are given up
            for number in range(30):
                await here.settled(f"{number:02}", attempts=1)

    run(work)


def test_filters_and_what_files_come_with(tmp_path: Path) -> None:
    async def work() -> None:
        async with place(tmp_path) as here, receiver() as text, receiver() as update, receiver() as turns:
            await here.put("docs/a.md", "one\n")
            await here.hook("text", text.url, include="text", filter={"prefix": "docs/", "kinds": ["file"]})
            await here.hook("update", update.url, include="update", filter={"paths": ["docs/a.md"]})
            await here.hook("turns", turns.url, filter={"kinds": ["turn"], "turns": "finished"})
            await here.put("other.md", "x")
            await here.put("docs/a.md", "one\ntwo\n")
            (entry,) = message(await text.wait_for(1))["changes"]
            assert entry["diff"].endswith(" one\n+two\n")
            assert entry["authors"] == ["ann"]
            got = message(await update.wait_for(1))
            entry = next(each for each in got["changes"] if each["kind"] == "file")
            assert (entry["path"], entry["from_version"], entry["version"]) == ("docs/a.md", 1, 2)
            import base64

            import pycrdt

            document: pycrdt.Doc[Any] = pycrdt.Doc()
            document.apply_update((await here.files.read_at("demo", "docs/a.md", 1)).update)
            document.apply_update(base64.b64decode(entry["update"]))
            assert str(document.get("content", type=pycrdt.Text)) == "one\ntwo\n"
            turn = await here.turn()
            (entry,) = message(await turns.wait_for(1))["changes"]
            assert (entry["turn_id"], entry["status"]) == (turn, "completed")
            await here.settled("turns", lag=0)
            assert len(turns.requests) == 1

    run(work)


def test_files_wait_for_a_pause_and_the_end_of_a_turn_does_not(tmp_path: Path) -> None:
    async def work() -> None:
        async with place(tmp_path) as here, receiver() as there:
            await here.put("a.md", "0")
            await here.hook("ci", there.url, quiet_seconds=30)
            for number in range(5):
                await here.put("a.md", f"{number + 1}")
                here.clock.advance(20)
                await here.clock.resting.wait()
            assert there.requests == []
            here.clock.advance(11)
            assert paths(await there.wait_for(1)) == ["a.md"]
            await here.settled("ci", lag=0)
            await here.put("a.md", "again")
            await here.turn()
            got = message(await there.wait_for(2))
            assert {entry["kind"] for entry in got["changes"]} == {"file", "turn"}
            await here.settled("ci", lag=0)
            for number in range(40):  # a file that never comes to rest is told all the same
                await here.put("a.md", f"busy {number}")
                here.clock.advance(10)
                await here.clock.resting.wait()
                if (await here.stored("hook", "ci")).stage == "sending" or len(there.requests) > 2:
                    break
            await there.wait_for(3)
            assert 25 <= number <= 35

    run(work)


def test_what_does_not_exist_for_the_owner_is_never_sent(tmp_path: Path) -> None:
    async def work() -> None:
        async with place(tmp_path) as here, receiver() as there:
            await here.put("docs/a.md", "0")
            view = View(frozenset({"read", "write", "admin"}), Paths.of(["docs/"]))
            await here.hook("ci", there.url, access=Access("ann", ALL), view=view, include="text")
            await here.put("secret.md", "s")
            await here.turn()
            end = await here.put("docs/a.md", "1")
            await here.settled("ci", cursor=end)
            assert [paths(each) for each in there.requests] == [["docs/a.md"]]

    run(work)


def test_a_hook_ends_with_the_credential_that_made_it(tmp_path: Path) -> None:
    async def work() -> None:
        async with place(tmp_path) as here, receiver() as there:
            await here.put("a.md", "0")
            token = AccessToken("t1", b"x" * 32, "name", "ann", '{"admin":true}', Milliseconds(1))
            await here.storage.add_token(token)
            await here.hook("token", there.url, access=Access("ann", ALL, credential="t1"))
            expires = here.clock.now() / 1000 + 60
            clock = lambda: here.clock.now() / 1000  # noqa: E731
            await here.hook("jwt", there.url, access=Access("ann", ALL, credential="jwt", expires=expires, clock=clock))
            await here.put("a.md", "1")
            await there.wait_for(2)
            for name in ("token", "jwt"):
                await here.settled(name, lag=0)
            await here.storage.revoke_token("t1", Milliseconds(2))
            here.clock.advance(61)
            await here.put("a.md", "2")
            await here.settled("token", lag=1, ended="the token by which it was made was revoked")
            await here.settled("jwt", lag=1, ended="the credential by which it was made has expired")
            assert len(there.requests) == 2

    run(work)


def test_the_owner_alone_changes_a_hook_and_a_project_has_a_bound_of_them(tmp_path: Path) -> None:
    async def work() -> None:
        from gateway.access.grants import Grant

        async with place(tmp_path) as here, receiver() as there:
            await here.put("a.md", "0")
            none = Grant({})
            made = await here.hook("ci", there.url, access=Access("ann", none))
            assert isinstance(made.secret, str)
            changed = await here.hook("ci", f"{there.url}/new", access=Access("ann", none))
            assert changed.secret is not made.secret
            assert changed.url.endswith("/new")
            with pytest.raises(Forbidden):
                await here.hook("ci", there.url, access=Access("bob", none))
            here.readers.registry._limit = 1
            with pytest.raises(QuotaExceeded):
                await here.hook("second", there.url)
            await here.readers.registry.delete_hook("demo", "ci")
            with pytest.raises(HookNotFound):
                await here.read("ci")
            await here.hook("second", there.url, access=OPEN)

    run(work)


@pytest.mark.parametrize(
    "url",
    ["http://example.org/", "https://127.0.0.2/", "https://[::1]/", "https://10.0.0.1/", "ftp://127.0.0.1/", "x",
     "https://169.254.169.254/latest", "https://[::ffff:127.0.0.1]/", "https://"],
)  # fmt: skip
def test_what_is_no_public_https_url_is_refused_at_once(url: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with place(tmp_path) as here:
            await here.put("a.md", "0")
            with pytest.raises(InvalidParameter):
                await here.hook("ci", url)

    run(work)


def test_the_address_that_is_connected_to_is_the_one_that_was_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads to a private address, also at the second time that it is asked for."""

    async def work() -> None:
        async with receiver() as there:
            port = int(there.url.rpartition(":")[2])
            addresses = ["93.184.216.34", "127.0.0.1"]
            asked = []

            async def getaddrinfo(host: str, port: int, **more: Any) -> list[Any]:
                asked.append(host)
                return [(2, 1, 6, "", (addresses.pop(0) if addresses else "127.0.0.1", port))]

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo, raising=False)
            connected: list[str] = []

            async def connect(self: Any, host: str, *more: Any) -> Any:
                connected.append(host)
                raise OSError("no network here")

            monkeypatch.setattr("httpcore.AnyIOBackend.connect_tcp", connect)
            outside = Outside(Hosts(()))
            with pytest.raises(Unreachable):
                await outside.post(f"https://rebind.example:{port}/", {}, b"")
            with pytest.raises(Refused, match=r"private address 127\.0\.0\.1"):
                await outside.post(f"https://rebind.example:{port}/", {}, b"")
            assert connected == ["93.184.216.34"]
            assert asked == ["rebind.example"] * 2
            assert there.requests == []
            await outside.close()

    run(work)


@pytest.mark.parametrize(
    ("address", "public"),
    [("8.8.8.8", True), ("2606:4700::1111", True), ("127.0.0.1", False), ("0.0.0.0", False), ("100.64.0.1", False),
     ("192.168.1.1", False), ("169.254.1.1", False), ("224.0.0.1", False), ("::", False), ("fe80::1", False),
     ("fc00::1", False), ("::ffff:10.0.0.1", False), ("64:ff9b::a00:1", False), ("2002:7f00:1::", False),
     ("64:ff9b::808:808", True), ("255.255.255.255", False)],
)  # fmt: skip
def test_addresses_of_the_public_internet(address: str, public: bool) -> None:
    import ipaddress

    assert is_public(ipaddress.ip_address(address)) is public


def test_a_receiver_that_speaks_no_tls_is_none() -> None:
    async def work() -> None:
        async with receiver() as there:
            outside = Outside(Hosts(("127.0.0.1",)))
            with pytest.raises(Unreachable):
                await outside.post(there.url.replace("http:", "https:"), {}, b"")
            await outside.close()

    run(work)


def test_ten_thousand_readers_take_no_memory_and_no_statement_while_nothing_happens(tmp_path: Path) -> None:
    import gc
    import tracemalloc

    from tests.support.statements import record_statements

    async def work() -> None:
        async with place(tmp_path) as here, receiver() as there:
            await here.put("a.md", "0")
            here.readers.registry._limit = 10_001
            hook = await here.hook("seed", there.url, filter={"paths": ["a.md"]})
            seed = await here.storage.reader("demo", "hook", "seed")
            assert seed is not None
            head = await here.storage.project_head("demo")
            assert head is not None
            from msgspec.structs import replace

            tracemalloc.start()
            await here.clock.resting.wait()
            gc.collect()  # of the tests before, too
            before = tracemalloc.get_traced_memory()[0]

            def fill(connection: Any) -> None:
                from storage.sqlite.readers import put_reader

                for number in range(10_000):
                    other = replace(seed, name=f"{number}", looked=head.sequence, due=None, stage="idle")
                    put_reader(connection, other)

            await here.storage._database.write(fill)  # type: ignore[attr-defined]
            here.readers.deliveries.wake("demo")
            await here.settled("seed", lag=0, cursor=hook.cursor)
            await here.clock.resting.wait()
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] - before < 200_000
            tracemalloc.stop()
            await here.storage._database.write(lambda _: None)  # type: ignore[attr-defined]  # after all before it
            recorder = await record_statements(here.storage)  # type: ignore[arg-type]
            with recorder.recording() as statements:
                here.clock.advance(86_400)
                await here.clock.resting.wait()
            assert [each for each in statements if "min(due)" not in each and "due <=" not in each] == []
            await here.settled("seed", cursor=await here.put("b.md", "not theirs"))
            await here.clock.resting.wait()
            assert await here.storage.idle_readers(None, limit=1) == []
            assert there.requests == []

    run(work)


def test_a_clock_that_is_set_back_delays_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with place(tmp_path) as here, receiver() as there:
            there.status = 503
            await here.put("a.md", "0")
            for name, quiet in (("retry", 0.0), ("pause", 30.0)):
                await here.hook(name, there.url, quiet_seconds=quiet)
            await here.put("a.md", "1")
            await there.wait_for(1)
            await here.until_stage("retry", "retry")
            await here.until_stage("pause", "pause")
            there.status = 204
            here.clock.advance(-86_400)
            await here.put("b.md", "2")  # later than the clock, as times of a project never go back
            await here.settled("retry", lag=0)
            await here.clock.resting.wait()
            due = (await here.stored("hook", "pause")).due
            assert due is not None
            assert due <= here.clock.now() + 30_000
            here.clock.advance(30)
            await here.settled("pause", lag=0)

    run(work)


def test_a_clock_that_was_set_back_while_no_gateway_ran_delays_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        clock = VirtualClock()
        async with receiver() as there:
            there.status = 503
            async with place(tmp_path, clock) as here:
                await here.put("a.md", "0")
                await here.hook("retry", there.url)
                await here.put("a.md", "1")
                await there.wait_for(1)
                await here.until_stage("retry", "retry")
            there.status = 204
            clock.advance(-86_400)
            async with place(tmp_path, clock) as here:
                await here.settled("retry", lag=0)

    run(work)


def test_a_clock_that_leaps_forward_ends_no_hook_for_good(tmp_path: Path) -> None:
    async def work() -> None:
        async with place(tmp_path) as here, receiver() as there:
            await here.put("a.md", "0")
            expires = here.clock.now() / 1000 + 3600
            clock = lambda: here.clock.now() / 1000  # noqa: E731
            await here.hook("jwt", there.url, access=Access("ann", ALL, credential="jwt", expires=expires, clock=clock))
            here.clock.advance(365 * 86_400)
            await here.put("a.md", "1")
            await here.until_stage("jwt", "retry")
            assert there.requests == []
            here.clock.advance(-365 * 86_400)
            await here.put("b.md", "2")
            await here.settled("jwt", lag=0)
            assert there.requests

    run(work)
