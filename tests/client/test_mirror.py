"""Mirrors of a file against a real gateway: they converge after everything, and lose or double nothing."""

import asyncio
import contextlib
import re
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pycrdt
import pytest

from gateway.client import (
    DocumentMirror,
    GatewayClient,
    GatewayError,
    MirrorReset,
    PollingManager,
    PollSettings,
    Project,
)
from tests.client.proxy import FaultyProxy
from tests.client.test_pollers import NEVER, QUICK, TRANSPORTS, Seen, disturb, heal, site
from tests.support.server import GatewayProcess

UNHURRIED = msgspec.structs.replace(QUICK, active_interval_ms=1e9, slow_interval_ms=1e9)
"""After an edit of its own, too, a mirror asks nothing by time: what the test does next comes first."""


def text(mirror: DocumentMirror) -> pycrdt.Text:
    return mirror.doc.get("content", type=pycrdt.Text)


@contextlib.asynccontextmanager
async def at(url: str, name: str, settings: PollSettings = QUICK) -> AsyncIterator[tuple[PollingManager, Project]]:
    async with asyncio.timeout(120), GatewayClient(url) as client, PollingManager(settings=settings) as polling:
        yield polling, client.project(name)


def fresh_name() -> str:
    return f"mirror-{uuid.uuid4().hex[:12]}"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_two_who_type_through_any_fault_have_the_same_text_and_nothing_is_lost_or_doubled(
    shared_gateway: GatewayProcess, tmp_path: Path, transport: Any
) -> None:
    async def main() -> None:
        name = fresh_name()
        async with (
            FaultyProxy(shared_gateway.port) as proxy,
            at(proxy.url, name) as (polling, project),
            at(shared_gateway.url, name) as (elsewhere, direct),
            DocumentMirror(
                polling, project, "a.md", transport=transport, pending=tmp_path / "edits", batch=0
            ) as mirror,
            DocumentMirror(elsewhere, direct, "a.md", transport=transport, batch=0) as other,
        ):
            for number in range(64):
                text(mirror).insert(0, f"<m{number}>")
                text(other).insert(0, f"<o{number}>")
                disturb(proxy, number)
                await other.flush()
            heal(proxy)
            for _ in range(2):
                await mirror.synced()
                await other.synced()
            written = str(text(mirror))
            assert str(text(other)) == written
            assert (await direct.read_text("a.md")).value == written
            for number in range(64):
                assert written.count(f"<m{number}>") == written.count(f"<o{number}>") == 1
            assert mirror.unsent == 0

    asyncio.run(main())


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_others_do_comes_in_by_itself(shared_gateway: GatewayProcess, transport: Any) -> None:
    async def main() -> None:
        async with site(shared_gateway) as the:
            await the.writer.put_text("a.md", "one")
            changed = Seen()
            mirror = DocumentMirror(the.polling, the.reader, "a.md", on_change=changed, transport=transport)
            await changed.until(len)
            assert str(text(mirror)) == "one"
            await the.writer.put_text("a.md", "one two")
            await changed.until(lambda items: len(items) == 2)
            assert str(text(mirror)) == "one two"
            assert mirror.version == 2
            mirror.close()

    asyncio.run(main())


def test_own_edits_are_no_change_and_cost_no_read(shared_gateway: GatewayProcess) -> None:
    class Counting(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            asked.append(request.method)
            return await super().handle_async_request(request)

    asked: list[str] = []

    async def main() -> None:
        async with (
            asyncio.timeout(120),
            GatewayClient(shared_gateway.url, transport=Counting()) as client,
            PollingManager(settings=UNHURRIED) as polling,
        ):
            changed = Seen()
            mirror = DocumentMirror(
                polling, client.project(fresh_name()), "a.md", on_change=changed, transport="poll", interval=NEVER
            )
            await mirror.refresh()
            asked.clear()
            for number in range(1, 6):
                text(mirror).insert(0, "typed ")
                await mirror.flush()
                assert mirror.version == number
            assert asked == ["PATCH"] * 5
            assert changed.items == []
            mirror.close()

    asyncio.run(main())


def test_what_is_typed_within_a_moment_is_one_version(shared_gateway: GatewayProcess) -> None:
    async def main() -> None:
        async with site(shared_gateway) as the, DocumentMirror(the.polling, the.reader, "a.md") as mirror:
            for character in "typed with care":
                text(mirror).insert(len(text(mirror)), character)
            await mirror.flush()
            receipt = await the.writer.history("a.md")
            assert len(receipt.versions) == 1
            assert (await the.writer.read_text("a.md")).value == "typed with care"

    asyncio.run(main())


def test_a_file_that_was_deleted_is_dropped_and_its_unsent_edits_bring_nothing_back(
    shared_gateway: GatewayProcess,
) -> None:
    async def main() -> None:
        async with site(shared_gateway, UNHURRIED) as the:
            resets = Seen()
            mirror = DocumentMirror(
                the.polling, the.reader, "a.md", on_reset=resets, transport="poll", interval=NEVER, batch=0
            )
            text(mirror).insert(0, "old")
            await mirror.synced()
            dropped = mirror.doc
            await the.writer.delete("a.md")
            text(mirror).insert(0, "too late ")
            await mirror.flush()
            await resets.until(len)
            assert resets.items == [MirrorReset("deleted", dropped, 1)]
            assert str(dropped.get("content", type=pycrdt.Text)) == "too late old"
            assert str(text(mirror)) == ""
            with pytest.raises(GatewayError, match="file_deleted"):
                await the.writer.read_text("a.md")
            text(mirror).insert(0, "new incarnation")
            await mirror.synced()
            assert (await the.writer.read_text("a.md")).value == "new incarnation"
            mirror.close()

    asyncio.run(main())


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_file_that_was_created_again_is_another_document(shared_gateway: GatewayProcess, transport: Any) -> None:
    async def main() -> None:
        async with site(shared_gateway) as the:
            resets, changed = Seen(), Seen()
            await the.writer.put_text("a.md", "first incarnation")
            mirror = DocumentMirror(
                the.polling, the.reader, "a.md", on_reset=resets, on_change=changed, transport=transport
            )
            await changed.until(len)
            the.proxy.go_down()
            await the.writer.delete("a.md")
            await the.writer.put_text("a.md", "second")
            text(mirror).insert(0, "slept ")
            heal(the.proxy)
            await resets.until(len)
            await changed.until(lambda items: len(items) >= 2)
            await mirror.synced()
            assert str(text(mirror)) == "second" == (await the.writer.read_text("a.md")).value
            assert [reset.unsent for reset in resets.items] == [1]
            mirror.close()

    asyncio.run(main())


def test_what_the_gateway_lost_is_sent_again_as_the_difference(tmp_path: Path) -> None:
    async def main() -> None:
        with GatewayProcess(tmp_path / "gateway.db", GATEWAY_SAME_DATABASE="true") as gateway:
            async with at(gateway.url, "p", UNHURRIED) as (polling, project):
                mirror = DocumentMirror(polling, project, "a.md", transport="poll", interval=NEVER, batch=0)
                text(mirror).insert(0, "one ")
                await mirror.synced()
                gateway.stop()
                backup = (tmp_path / "gateway.db").read_bytes()
                gateway.start()
                text(mirror).insert(4, "two ")
                await mirror.flush()
                gateway.stop()
                (tmp_path / "gateway.db").write_bytes(backup)
                gateway.start()
                text(mirror).insert(8, "three")
                await mirror.flush()
                assert (await project.read_text("a.md")).value == "one two three"
                mirror.close()

    asyncio.run(main())


def test_a_gateway_that_is_behind_was_restored_and_the_mirror_starts_over() -> None:
    whole = pycrdt.Doc[Any]()
    whole.get("content", type=pycrdt.Text).insert(0, "as of the backup")

    def headers(version: int) -> dict[str, str]:
        return {"X-Version": str(version), "X-From-Version": "0", "X-Incarnation": "life", "ETag": f'"life.{version}"'}

    answers = [
        httpx.Response(200, content=pycrdt.Doc[Any]().get_update(), headers=headers(9)),
        httpx.Response(
            409,
            json={"type": "about:blank", "title": "", "status": 409, "detail": "", "code": "version_ahead"},
            headers={"Content-Type": "application/problem+json"},
        ),
        httpx.Response(200, content=whole.get_update(), headers=headers(3)),
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        return answers.pop(0) if answers else httpx.Response(304, headers=headers(3))

    async def main() -> None:
        resets = Seen()
        async with (
            asyncio.timeout(120),
            GatewayClient("http://gateway", transport=httpx.MockTransport(answer)) as client,
            PollingManager(settings=QUICK) as polling,
        ):
            mirror = DocumentMirror(polling, client.project("p"), "a.md", on_reset=resets, transport="poll")
            await resets.until(len)
            assert resets.items[0].reason == "restored"
            await mirror.refresh()
            assert (mirror.version, str(text(mirror))) == (3, "as of the backup")
            mirror.close()

    asyncio.run(main())


def test_a_refused_edit_is_reported_and_kept(shared_gateway: GatewayProcess) -> None:
    class Forbidding(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.method == "PATCH":
                return httpx.Response(403, text="no")
            return await super().handle_async_request(request)

    async def main() -> None:
        errors = Seen()
        async with (
            asyncio.timeout(120),
            GatewayClient(shared_gateway.url, transport=Forbidding()) as client,
            PollingManager(settings=QUICK) as polling,
        ):
            mirror = DocumentMirror(
                polling, client.project(fresh_name()), "a.md", on_error=errors, interval=NEVER, transport="poll"
            )
            text(mirror).insert(0, "mine")
            with pytest.raises(GatewayError, match="403"):
                await mirror.flush()
            await errors.until(len)
            assert mirror.unsent == 1
            mirror.close()

    asyncio.run(main())


_TYPIST = """
import asyncio, sys
from pathlib import Path
import pycrdt
from gateway.client import DocumentMirror, GatewayClient, PollingManager, PollSettings

async def main(url, project, pending):
    settings = PollSettings.unattended()
    async with GatewayClient(url) as client, PollingManager(settings=settings) as polling:
        mirror = DocumentMirror(polling, client.project(project), "a.md", pending=Path(pending), batch=0.001)
        for number in range(100_000):
            mirror.doc.get("content", type=pycrdt.Text).insert(0, f"<{number}>")
            print(number, flush=True)
            await asyncio.sleep(0)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("reached", [True, False])
def test_a_mirror_that_is_killed_loses_no_edit_that_it_has_made(
    shared_gateway: GatewayProcess, tmp_path: Path, reached: bool
) -> None:
    name, pending = fresh_name(), tmp_path / "edits"

    async def main() -> None:
        async with FaultyProxy(shared_gateway.port) as proxy:
            for run in range(3):
                if not reached:
                    proxy.go_down()
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", _TYPIST, proxy.url, name, str(pending), stdout=subprocess.PIPE
                )
                assert process.stdout is not None
                made = -1
                while made < 50 + 100 * run:
                    made = int(await process.stdout.readline())
                process.kill()
                made = max([made, *map(int, (await process.stdout.read()).split()[:-1])])
                await process.wait()
                proxy.down = False
                async with at(proxy.url, name) as (polling, project):
                    async with DocumentMirror(polling, project, "a.md", pending=pending) as mirror:
                        await mirror.synced()
                    written = (await project.read_text("a.md")).value
                    counts = Counter(map(int, re.findall(r"<(\d+)>", written)))
                    assert {number: counts[number] for number in range(50)} == dict.fromkeys(range(50), run + 1)
                    assert [number for number in range(made + 1) if number not in counts] == []

    asyncio.run(main())


def test_leaving_sends_what_is_left_or_keeps_it_in_the_file(shared_gateway: GatewayProcess, tmp_path: Path) -> None:
    async def main() -> None:
        name, pending = fresh_name(), tmp_path / "edits"
        async with FaultyProxy(shared_gateway.port) as proxy:
            async with at(proxy.url, name) as (polling, project):
                async with DocumentMirror(polling, project, "a.md", batch=NEVER) as mirror:
                    text(mirror).insert(0, "sent ")
                assert (await project.read_text("a.md")).value == "sent "
                async with DocumentMirror(polling, project, "a.md", pending=pending, batch=NEVER) as mirror:
                    await mirror.refresh()
                    proxy.go_down()
                    text(mirror).insert(5, "kept")
                proxy.down = False
            async with at(proxy.url, name) as (polling, project):
                async with DocumentMirror(polling, project, "a.md", pending=pending) as mirror:
                    assert mirror.unsent == 1
                assert (await project.read_text("a.md")).value == "sent kept"

    asyncio.run(main())


def test_what_a_document_with_gaps_has_is_sent_and_the_rest_when_what_was_missing_has_come(
    shared_gateway: GatewayProcess,
) -> None:
    other: pycrdt.Doc[Any] = pycrdt.Doc()
    updates: list[bytes] = []
    subscription = other.observe(lambda event: updates.append(event.update))
    shared = other.get("content", type=pycrdt.Text)
    shared += "lost"
    shared += " and late"
    other.unobserve(subscription)

    async def main() -> None:
        async with (
            at(shared_gateway.url, fresh_name()) as (polling, project),
            DocumentMirror(polling, project, "a.md", batch=0) as mirror,
        ):
            mirror.doc.apply_update(updates[1])  # what comes before never came here
            mirror.doc.get("mine", type=pycrdt.Text).insert(0, "typed")
            await mirror.flush()
            assert (await project.read_text("a.md", root="mine")).value == "typed"
            await project.append_update("a.md", updates[0])
            await mirror.synced()
            await mirror.flush()
            assert (await project.read_text("a.md")).value == str(text(mirror)) == "lost and late"

    asyncio.run(main())
