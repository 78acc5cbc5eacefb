"""A part of the gateway that did not hear of a change: its clients are told of that change, and of the next ones."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import create_app
from gateway.maintenance.silent_turns import SilentTurns
from gateway.settings import Settings
from gateway.turns.store import Turns
from gateway.watch.hub import Hub
from storage import Commit
from storage.sqlite import SQLiteStorage
from tests.client.test_pollers import NEVER
from tests.live.clients import EVENTS, OCTETS, PLAIN
from tests.live.editors import Editor, Typewriter
from tests.support.in_process import InProcess, serve

_PATIENCE_S = 120


class Faults:
    """What does not hear of the next change; it raises instead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.deaf: set[str] = set()
        """Names of the classes that listen."""
        listen = SQLiteStorage.listen

        def listen_or_fail(storage: SQLiteStorage, listener: Any, missed: Any = None, **how: bool) -> None:
            name = type(listener.__self__).__name__

            def hear(batch: tuple[Commit, ...]) -> None:
                if name in self.deaf:
                    self.deaf.remove(name)
                    raise RuntimeError("a fault")
                listener(batch)

            listen(storage, hear, missed, **how)

        monkeypatch.setattr(SQLiteStorage, "listen", listen_or_fail)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(monkeypatch)


class Site:
    def __init__(self, server: InProcess, client: httpx.AsyncClient) -> None:
        self.server = server
        self.client = client

    async def put(self, text: str, path: str = "a.md") -> dict[str, Any]:
        answer = await self.client.put(f"/files/{path}", content=text.encode(), headers=PLAIN)
        receipt: dict[str, Any] = answer.raise_for_status().json()
        return receipt

    async def text(self, path: str = "a.md") -> str:
        return (await self.client.get(f"/files/{path}", params={"format": "text"})).raise_for_status().text

    async def until_parked(self, count: int) -> None:
        """Until so many requests wait: there is no event for that."""
        metrics = f"{self.server.url}/metrics"
        while f"\ngateway_waiters {count}.0\n" not in (await self.client.get(metrics)).text:
            pass


@contextlib.asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    """A gateway whose streams say nothing of themselves: what they say, a change has told them."""
    settings = Settings(database=f"sqlite:///{folder / 'gateway.db'}", stream_heartbeat=NEVER, room_window_ms=1)
    async with (
        asyncio.timeout(_PATIENCE_S),
        serve(create_app(settings)) as server,
        httpx.AsyncClient(base_url=server.project("p"), timeout=_PATIENCE_S) as client,
    ):
        yield Site(server, client)


async def events(lines: AsyncIterator[str], name: str, count: int = 1) -> list[str]:
    """The data of the next events of a name."""
    found: list[str] = []
    event = ""
    while len(found) < count:
        line = await anext(lines)
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data: ") and event == name:
            found.append(line.removeprefix("data: "))
    return found


def test_those_who_wait_and_follow_are_told_of_a_change_that_the_hub_missed_and_of_the_next(
    tmp_path: Path, faults: Faults
) -> None:
    async def main() -> None:
        async with site(tmp_path) as the:
            cursor = (await the.put("one"))["cursor"]
            tag = (await the.client.get("/files/a.md")).headers["ETag"]
            async with the.client.stream("GET", "/changes", params={"since": cursor}, headers=EVENTS) as stream:
                lines = stream.aiter_lines()
                await events(lines, "ready")
                for version in (2, 3, 4):
                    waiting = [
                        asyncio.create_task(each)
                        for each in (
                            the.client.get("/changes", params={"since": cursor, "wait": 60}),
                            the.client.post("/files/status", json={"since": cursor, "wait": 60}),
                            the.client.get("/files/a.md", params={"wait": 60}, headers={"If-None-Match": tag}),
                        )
                    ]
                    await the.until_parked(4)
                    if version != 3:
                        faults.deaf.add("Hub")
                    cursor = (await the.put(f"version {version}"))["cursor"]
                    assert not faults.deaf
                    feed, status, file = await asyncio.gather(*waiting)
                    for answer in (feed, status):
                        assert [change["version"] for change in answer.json()["changes"]] == [version]
                        assert answer.json()["cursor"] == cursor
                    assert (file.status_code, file.headers["X-Version"]) == (200, str(version))
                    tag = file.headers["ETag"]
                    (told,) = await events(lines, "change")
                    assert f'"version":{version},' in told
                    repeated = await the.client.get("/files/a.md", headers={"If-None-Match": tag})
                    assert repeated.status_code == 304

    asyncio.run(main())


def test_a_turn_whose_change_the_hub_missed_is_told_as_it_is(tmp_path: Path, faults: Faults) -> None:
    async def main() -> None:
        async with site(tmp_path) as the:
            session = (await the.client.post("/sessions", json={})).json()["id"]
            turn = (await the.client.post(f"/sessions/{session}/turns", json={"prompt": ""})).json()["id"]
            url = f"/sessions/{session}/turns/{turn}"
            known = await the.client.get(f"{url}/status")
            waits = {"params": {"wait": 60}, "headers": {"If-None-Match": known.headers["ETag"]}}
            waiting = asyncio.create_task(the.client.get(f"{url}/status", **waits))  # type: ignore[arg-type]
            await the.until_parked(1)
            faults.deaf.add("Hub")
            await the.client.post(f"{url}/blocks", json={"blocks": [{"type": "text", "content": "x"}]})
            assert not faults.deaf
            assert (await waiting).json()["status"] == "running"
            waits.pop("params")
            assert (await the.client.get(f"{url}/status", **waits)).json()["block_count"] == 1  # type: ignore[arg-type]

    asyncio.run(main())


def test_a_document_whose_deletion_was_missed_is_not_written_to(tmp_path: Path, faults: Faults) -> None:
    async def main() -> None:
        async with site(tmp_path) as the:
            typewriter = Typewriter()
            headers = {**OCTETS}
            old = await the.client.patch("/files/a.md", content=typewriter.type("old "), headers=headers)
            faults.deaf.add("Documents")
            await the.client.delete("/files/a.md")
            assert not faults.deaf
            headers["X-Incarnation"] = old.headers["X-Incarnation"]
            late = await the.client.patch("/files/a.md", content=typewriter.type("late"), headers=headers)
            assert late.status_code == 410
            assert (await the.put("new incarnation"))["version"] == 3
            assert await the.text() == "new incarnation"

    asyncio.run(main())


async def ask(editor: Editor, do: str, **request: Any) -> Any:
    return await asyncio.wrap_future(editor.start(do, **request))


@pytest.mark.parametrize("writer", ["PUT", "typist"])
def test_editors_come_again_where_their_room_missed_a_change_and_have_all(
    tmp_path: Path, faults: Faults, open_editor: Callable[..., Editor], writer: str
) -> None:
    async def main() -> None:
        async with site(tmp_path) as the:
            await the.put("one ")

            editors = [await asyncio.to_thread(open_editor, the.server, "p", "a.md") for _ in range(3)]
            await asyncio.gather(*(ask(editor, "until_text", text="one ") for editor in editors))
            for change in ("two ", "three "):
                faults.deaf.add("Rooms")
                if writer == "PUT":
                    await the.put(await the.text() + change)
                else:
                    await ask(editors[0], "insert", text=change)
                codes = await asyncio.gather(*(ask(editor, "until_closed") for editor in editors))
                assert codes == [1013] * 3
                assert not faults.deaf
                text = await the.text()
                assert text.endswith(change)
                await asyncio.gather(*(ask(editor, "until_text", text=text) for editor in editors))
            await ask(editors[1], "insert", text="end")
            await asyncio.gather(*(ask(editor, "until_text", text="one two three end") for editor in editors))
            assert await the.text() == "one two three end"
            await asyncio.gather(*(ask(editor, "leave") for editor in editors))
            for editor in editors:
                editor.left = True

    asyncio.run(main())


def test_a_turn_of_which_a_sign_of_life_was_missed_has_a_whole_lease_and_ends_with_it(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "turns.db")
        service = Turns(storage, Hub(storage), lease=8, grace=8, line_limit=1000)
        now = 0.0
        silent = SilentTurns(storage, 8, 8, clock=lambda: now)
        session = (await service.create_session("p", None)).session_id
        turn = (await service.create("p", session, "")).turn_id

        async def look(until: float) -> str:
            nonlocal now
            while now < until:
                now += 1
                await silent.look()
            return (await service.head("p", session, turn)).status

        await service.set_status("p", session, turn, "running", None)
        assert await look(6) == "running"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(silent._leases), "note", _fail)
            await service.append_blocks("p", session, turn, (), None)
        await silent.adopt_running()
        assert await look(13) == "running"
        assert await look(15) == "failed"
        await storage.close()

    asyncio.run(work())


def _fail(*_: Any) -> None:
    raise RuntimeError("a fault")
