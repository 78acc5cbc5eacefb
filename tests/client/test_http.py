"""Every request of the API through the client, to a real gateway."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pycrdt
import pytest

from gateway.client.answers import WithETag
from gateway.client.errors import (
    BlockConflict,
    EditNotApplicable,
    FileDeleted,
    FileExists,
    FileNotFound,
    InvalidUpdate,
    MissingPredecessors,
    NoAnswer,
    PreconditionFailed,
    ProjectNotFound,
    TurnFinished,
    UnexpectedAnswer,
    VersionAhead,
)
from gateway.client.http import GatewayClient
from gateway.client.policy import PollSettings
from gateway.client.project import Project
from gateway.wire.changes import FeedAnswer, FileFeedEntry, TurnFeedEntry
from gateway.wire.files import Receipt, RequestedEdit
from tests.client.proxy import FaultyProxy
from tests.support.agent_stream import STREAM
from tests.support.server import GatewayProcess

QUICK = PollSettings(retry_delays_ms=(20, 20, 20, 20, 20))


def run(gateway: GatewayProcess, scenario: Callable[[Project], Awaitable[None]], **options: Any) -> None:
    """Run with a project of its own."""

    async def main() -> None:
        async with GatewayClient(gateway.url, **options) as client:
            await asyncio.wait_for(scenario(client.project(f"client-{uuid.uuid4().hex[:12]}")), 120)

    asyncio.run(main())


def update_of(text: str) -> bytes:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    doc.get("content", type=pycrdt.Text).insert(0, text)
    return doc.get_update()


def text_of(*updates: bytes | None) -> str:
    doc: pycrdt.Doc[Any] = pycrdt.Doc()
    for update in updates:
        assert update is not None
        doc.apply_update(update)
    return str(doc.get("content", type=pycrdt.Text))


def test_files_are_written_read_and_listed(shared_gateway: GatewayProcess) -> None:
    async def scenario(project: Project) -> None:
        path = "notes/größe #1 100% ?.md"
        written = await project.append_update(path, update_of("one"))
        assert (written.value.path, written.value.version, written.value.changed) == (path, 1, True)
        assert (await project.append_update(path, update_of("two"), incarnation=written.incarnation)).value.version == 2
        whole = await project.read_update(path)
        assert (whole.version, whole.from_version, whole.incarnation) == (2, 0, written.incarnation)
        increment = await project.read_update(path, from_version=1)
        old = await project.read_update(path, at_version=1)
        assert text_of(old.update, increment.update) == text_of(whole.update)
        assert (await project.read_update(path, from_version=2)).update is None
        assert (await project.read_update(path, tag=whole.tag)).update is None
        assert (await project.read_text(path, at_version=1)).value == "one"
        assert (await project.put_text(path, "three", if_match=whole.tag)).value.version == 3
        assert (await project.read_json(path)).value == {"content": "three"}
        await project.move(path, "b.md")
        await project.put_text("c.md", "c")
        listing = await project.list_files()
        assert listing.value is not None
        assert [entry.path for entry in listing.value.files] == ["b.md", "c.md"]
        assert (await project.list_files(tag=listing.tag)).value is None
        assert await project.all_files("b") == listing.value.files[:1]
        await project.delete("b.md")
        assert [entry.path for entry in await project.all_files()] == ["c.md"]
        deleted = await project.list_deleted(limit=1)
        assert deleted.value is not None
        assert len(deleted.value.files) == 1
        assert (await project.list_deleted(tag=deleted.tag)).value is None
        assert [(each.path, each.version) for each in await project.all_deleted("b")] == [("b.md", 2)]
        assert (await project.read_text("b.md", at_version=1)).value == "three"

    run(shared_gateway, scenario)


def test_the_past_can_be_read_compared_and_restored(shared_gateway: GatewayProcess) -> None:
    async def scenario(project: Project) -> None:
        for text in ("one\n", "two\n", "three\n"):
            await project.put_text("a.md", text)
        history = await project.history("a.md", limit=2)
        assert [(entry.version, entry.author) for entry in history.versions] == [(3, "Zoë"), (2, "Zoë")]
        assert (await project.history("a.md", before=history.next)).versions[0].version == 1
        assert (await project.history("a.md", group_s=60)).versions[0].first_version == 1
        assert "+two" in await project.unified_diff("a.md", 1, 2)
        difference = await project.text_difference("a.md", 1, 2)
        assert (difference.older, difference.newer) == (1, 2)
        assert all(edit.text in "two" for edit in difference.edits)
        assert (await project.restore("a.md", 1)).value.version == 4
        assert (await project.read_text("a.md")).value == "one\n"

    run(shared_gateway, scenario, author="Zoë")


def test_an_edit_of_an_old_version_is_merged_and_parts_of_a_text_are_replaced(shared_gateway: GatewayProcess) -> None:
    async def scenario(project: Project) -> None:
        first = (await project.put_text("a.md", "milk\nbread\n", base_version=0)).value
        await project.put_text("a.md", "milk\nbread\nbutter\n", base_version=first.version)
        merged = (await project.put_text("a.md", "oat milk\nbread\n", base_version=first.version)).value
        assert merged.merged is True
        edits = [RequestedEdit(old="bread", new="rye"), RequestedEdit(start=0, end=3, text="soy")]
        assert (await project.edit_text("a.md", edits, base_version=merged.version)).value.version == 4
        assert (await project.read_text("a.md")).value == "soy milk\nrye\nbutter\n"
        with pytest.raises(EditNotApplicable) as refused:
            await project.edit_text("a.md", [RequestedEdit(old="r", new="x")])
        assert (refused.value.index, refused.value.found) == (0, 2)

    run(shared_gateway, scenario)


def test_many_files_are_pushed_and_pulled_in_one(shared_gateway: GatewayProcess) -> None:
    async def scenario(project: Project) -> None:
        await project.put_text("a.md", "a")
        synced = await project.sync({"b.md": update_of("b"), "c.md": b"\xff"}, versions={})
        assert isinstance(synced.results["b.md"], Receipt)
        assert isinstance(synced.results["c.md"], InvalidUpdate)
        (change,) = (change for change in synced.changes if change.path == "a.md")
        assert text_of(change.update if isinstance(change.update, bytes) else None) == "a"
        assert (await project.sync(since=synced.cursor)).changes == []

    run(shared_gateway, scenario)


def test_sessions_and_turns(shared_gateway: GatewayProcess) -> None:
    async def scenario(project: Project) -> None:
        session = await project.create_session("work")
        assert await project.read_session(session.id) == session
        assert (await project.list_sessions()).sessions == [session]
        turn = await project.create_turn(session.id, "do it")
        receipt = await project.append_blocks(session.id, turn.id, [("text", {"a": 1}), ("text", "b")], first_index=0)
        assert (receipt.block_count, receipt.status) == (2, "running")
        with pytest.raises(BlockConflict) as conflict:
            await project.append_blocks(session.id, turn.id, [("text", "c")], first_index=9)
        assert conflict.value.problem.block_count == 2
        read = await project.read_turn(session.id, turn.id, after_block=1)
        assert read.value is not None
        assert [block.index for block in read.value.blocks] == [1]
        assert (await project.read_turn(session.id, turn.id, tag=read.tag)).value is None
        assert (await project.set_turn_status(session.id, turn.id, "failed", "enough")).error == "enough"
        with pytest.raises(TurnFinished):
            await project.set_turn_status(session.id, turn.id, "running")
        other = await project.create_turn(session.id, "again")
        assert (await project.append_output(session.id, other.id, STREAM, offset=0, final=True)).status == "completed"
        state = await project.turn_status(session.id, other.id)
        assert state.value is not None
        assert state.value.status == "completed"
        assert (await project.turn_status(session.id, other.id, tag=state.tag)).value is None
        assert [each.id for each in (await project.list_turns(session.id)).turns] == [other.id, turn.id]

    run(shared_gateway, scenario)


def test_problems_are_exceptions_with_what_the_gateway_said(shared_gateway: GatewayProcess) -> None:
    async def scenario(project: Project) -> None:
        with pytest.raises(ProjectNotFound):
            await project.status()
        await project.put_text("a.md", "a")
        with pytest.raises(FileNotFound, match=r"nothing\.md"):
            await project.read_update("nothing.md")
        with pytest.raises(VersionAhead):
            await project.read_update("a.md", from_version=9)
        with pytest.raises(PreconditionFailed):
            await project.put_text("a.md", "b", create=True)
        await project.put_text("b.md", "b")
        with pytest.raises(FileExists):
            await project.move("a.md", "b.md")
        doc: pycrdt.Doc[Any] = pycrdt.Doc()
        text = doc.get("content", type=pycrdt.Text)
        text.insert(0, "lost")
        state = doc.get_state()
        text.insert(4, "!")
        with pytest.raises(MissingPredecessors) as missing:
            await project.append_update("a.md", doc.get_update(state))
        await project.append_update("a.md", doc.get_update(missing.value.state_vector))
        await project.delete("a.md")
        with pytest.raises(FileDeleted):
            await project.read_update("a.md")

    run(shared_gateway, scenario)


def test_what_is_no_answer_of_a_gateway_is_said_so() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/healthz":
            return httpx.Response(200, text="<html>")
        return httpx.Response(503, text="busy", headers={"Retry-After": "7", "Backoff": "3"})

    async def main() -> None:
        async with GatewayClient("http://127.0.0.1:1", transport=httpx.MockTransport(answer)) as client:
            with pytest.raises(UnexpectedAnswer):
                await client.healthz()
            with pytest.raises(UnexpectedAnswer) as busy:
                await client.readyz()
            assert (busy.value.status, busy.value.retry_after_s, busy.value.backoff_s) == (503, 7, 3)
        async with GatewayClient("http://127.0.0.1:1") as client:
            with pytest.raises(NoAnswer) as down:
                await client.healthz()
            assert down.value.status is None

    asyncio.run(main())


def test_credentials_and_compression_are_on_every_request() -> None:
    seen: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200, json={"status": "ok"}, headers={"ETag": 'W/"x.1"'})

    async def main() -> None:
        async with GatewayClient("http://h", token="secret", transport=httpx.MockTransport(answer)) as client:
            await client.healthz()
        async with GatewayClient("http://h", auth=("me", "pw"), transport=httpx.MockTransport(answer)) as client:
            await client.healthz()

    asyncio.run(main())
    assert seen[0]["Authorization"] == "Bearer secret"
    assert seen[1]["Authorization"].startswith("Basic ")
    assert seen[0]["Accept-Encoding"] == "gzip"  # of others a few bytes may hold gigabytes


def test_the_gateway_says_how_it_is(shared_gateway: GatewayProcess) -> None:
    async def scenario(project: Project) -> None:
        async with GatewayClient(shared_gateway.url) as client:
            assert (await client.healthz()).status == (await client.readyz()).status == "ok"
            assert "gateway_requests_total" in await client.metrics()
            assert "paths" in await client.openapi()

    run(shared_gateway, scenario)


def test_projects_are_listed_and_erased(shared_gateway: GatewayProcess) -> None:
    async def scenario(project: Project) -> None:
        async with GatewayClient(shared_gateway.url) as client:
            receipt = await project.put_text("a.md", "text")
            before = project.name[:-1]  # sorts before the project, and after most others
            page = await client.list_projects(after=before, limit=1)
            (entry,) = page.projects
            assert (entry.id, entry.cursor, entry.files) == (project.name, receipt.value.cursor, 1)
            await client.delete_project(project.name)
            with pytest.raises(ProjectNotFound):
                await project.read_text("a.md")
            with pytest.raises(ProjectNotFound):
                await client.delete_project(project.name)

    run(shared_gateway, scenario)


def test_a_large_answer_comes_compressed_and_its_tag_still_fits(shared_gateway: GatewayProcess) -> None:
    async def scenario(project: Project) -> None:
        written = await project.put_text("a.md", "all work and no play\n" * 5000)
        content = await project.read_update("a.md")
        assert content.tag == written.tag
        assert (await project.read_update("a.md", tag=content.tag)).update is None

    run(shared_gateway, scenario)


def test_an_idle_connection_that_was_closed_is_replaced_without_a_word(shared_gateway: GatewayProcess) -> None:
    async def main() -> None:
        async with FaultyProxy(shared_gateway.port) as proxy, GatewayClient(proxy.url) as client:
            for _ in range(20):
                await client.healthz()
                proxy.cut_connections()

    asyncio.run(main())


def test_an_answer_that_is_cut_off_is_no_answer(shared_gateway: GatewayProcess) -> None:
    async def main() -> None:
        async with FaultyProxy(shared_gateway.port) as proxy, GatewayClient(proxy.url) as client:
            proxy.cut_after = 60
            with pytest.raises(NoAnswer):
                await client.metrics()
            proxy.cut_after = None
            proxy.unavailable = 9
            with pytest.raises(UnexpectedAnswer) as busy:
                await client.healthz()
            assert busy.value.retry_after_s == 9

    asyncio.run(main())


async def take(feed: AsyncIterator[FeedAnswer], count: int) -> list[Any]:
    """So many changes."""
    changes: list[Any] = []
    async for answer in feed:
        changes += answer.changes
        if len(changes) >= count:
            break
    return changes


@pytest.mark.parametrize("transport", ["events", "wait"])
def test_following_goes_on_by_itself_and_shows_every_change_once(
    shared_gateway: GatewayProcess, transport: Any
) -> None:
    async def main() -> None:
        name = f"follow-{transport}-{uuid.uuid4().hex[:8]}"
        async with (
            GatewayClient(shared_gateway.url) as direct,
            FaultyProxy(shared_gateway.port) as proxy,
            GatewayClient(proxy.url) as client,
        ):
            writer, reader = direct.project(name), client.project(name)
            start = (await writer.put_text("0", "0")).value.cursor
            feed = reader.follow(start, transport=transport, settings=QUICK)
            seen: list[str] = []

            async def follow() -> None:
                async for answer in feed:
                    seen.extend(change.path for change in answer.changes if isinstance(change, FileFeedEntry))
                    if "end" in seen:
                        break

            following = asyncio.create_task(follow())
            for number in range(1, 60):
                await writer.put_text(f"file-{number} é🎈", str(number))
                match number % 12:
                    case 3:
                        proxy.cut_connections()
                    case 5:
                        proxy.cut_after = 200
                    case 6:
                        proxy.cut_after = None
                        proxy.unavailable = 0
                    case 8:
                        proxy.unavailable = None
                        proxy.go_down()
                    case 10:
                        proxy.down = False
            await writer.put_text("end", "")
            await asyncio.wait_for(following, 120)
            await feed.aclose()  # type: ignore[attr-defined]
        assert seen == [*(f"file-{number} é🎈" for number in range(1, 60)), "end"]

    asyncio.run(main())


def test_following_sees_turns_and_raises_what_does_not_pass(shared_gateway: GatewayProcess) -> None:
    async def scenario(project: Project) -> None:
        with pytest.raises(ProjectNotFound):
            await take(project.follow(), 1)
        session = await project.create_session()
        turn = await project.create_turn(session.id, "do it")
        await project.put_text("a.md", "a")
        (change,) = await take(project.follow(kinds=["turn"]), 1)
        assert isinstance(change, TurnFeedEntry)
        assert change.turn_id == turn.id
        (file,) = await take(project.follow(kinds=["file"], paths=["a.md"], transport="wait"), 1)
        assert isinstance(file, FileFeedEntry)

    run(shared_gateway, scenario)


def test_a_held_read_is_answered_by_the_change(shared_gateway: GatewayProcess) -> None:
    async def scenario(project: Project) -> None:
        written = await project.put_text("a.md", "a")
        held: list[asyncio.Task[Any]] = [
            asyncio.create_task(project.read_update("a.md", from_version=1, wait=50)),
            asyncio.create_task(project.status(since=written.value.cursor, wait=50)),
            asyncio.create_task(project.changes(since=written.value.cursor, wait=50)),
        ]
        async with GatewayClient(shared_gateway.url) as client:
            while "gateway_waiters 3" not in await client.metrics():
                pass
        await project.put_text("a.md", "b")
        content, status, changes = await asyncio.gather(*held)
        assert content.version == 2
        assert isinstance(status, WithETag)
        assert [change.path for change in status.value.changes] == ["a.md"]
        assert [change.path for change in changes.value.changes] == ["a.md"]

    run(shared_gateway, scenario)
