"""What takes long in the event loop gives everybody else a turn now and then."""

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from gateway.changes.status import Changes
from gateway.changes.sync import Sync
from gateway.files.documents import Documents
from gateway.files.open_document import OpenDocument, ProjectDocuments
from gateway.files.store import Files
from gateway.watch.hub import Hub, _free
from gateway.wire.changes import StatusQuestion, SyncRequest
from gateway.wire.files import Receipt
from gateway.yjs.document import Document
from gateway.yjs.messages import QUERY_AWARENESS, AwarenessMessage, sync_step_1, sync_update
from storage import NOBODY, AppendUpdate, Incarnation, Version
from storage.sqlite import SQLiteStorage
from tests.live.clients import name_of
from tests.live.editors import Typewriter, client_frame, raw_client
from tests.live.test_rooms import until_text
from tests.support.iterations import Iterations
from tests.support.server import GatewayProcess

T = TypeVar("T")

_PATHS = 10_000
_STEPS = 1_000
"""How many paths may be walked in one turn of the loop."""


async def _turns_during(work: Coroutine[Any, Any, T]) -> tuple[T, int]:
    """The result, and how many turns everybody else had until it was there."""
    done = asyncio.create_task(work)
    turns = 0
    while not done.done():
        await asyncio.sleep(0)
        turns += 1
    return done.result(), turns


def test_status_of_many_paths_is_walked_in_turns_and_answered_as_of_one_cursor(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        for version in range(3):
            await storage.append("p", (AppendUpdate("a.md", Version(version), b"\0\0"),))
        changes = Changes(storage, Hub(storage), paths_limit=_PATHS)
        versions = {"a.md": 2, **{f"no/{number}": 7 for number in range(_PATHS - 1)}}
        answer, turns = await _turns_during(changes.status("p", StatusQuestion(versions=versions)))
        assert turns >= 2 * _PATHS / _STEPS  # the paths are checked, and compared
        assert len(answer.changes) == _PATHS
        assert {change.reset for change in answer.changes if change.path != "a.md"} == {True}
        (known,) = (change for change in answer.changes if change.path == "a.md")
        assert (known.version, known.change_type) == (3, "modified")
        again, _ = await _turns_during(changes.status("p", StatusQuestion(since=answer.cursor)))
        assert again.changes == []
        await storage.close()

    asyncio.run(work())


def test_a_sync_of_many_files_writes_and_reads_a_few_in_each_iteration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        hub = Hub(storage)
        files = Files(storage, Documents(storage, memory_limit=2**26, size_limit=2**24), hub)
        sync = Sync(files, Changes(storage, hub, paths_limit=_PATHS), paths_limit=_PATHS, answer_limit=2**20)
        iterations, begun = Iterations(), list[int]()

        def noting(method: str) -> None:
            did = getattr(files, method)

            def do(*args: Any) -> Any:
                begun.append(iterations.count)
                return did(*args)

            monkeypatch.setattr(files, method, do)

        noting("append")
        noting("read_since")
        updates = {f"{number}.md": Typewriter().type(str(number)) for number in range(200)}
        pushed = await sync.exchange("p", SyncRequest(updates=updates), NOBODY)
        assert {type(result) for result in pushed.results.values()} == {Receipt}
        assert len(begun) == 200
        pulled = await sync.exchange("p", SyncRequest(), NOBODY)
        iterations.stop()
        assert {change.path: change.update for change in pulled.changes} == updates
        assert len(begun) == 400
        assert max(Counter(begun).values()) <= 8
        await storage.close()

    asyncio.run(work())


def test_the_documents_of_a_deleted_project_are_freed_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    close = OpenDocument.close

    def note(document: OpenDocument) -> None:
        closed.append(document.path)
        close(document)

    monkeypatch.setattr(OpenDocument, "close", note)

    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        documents = Documents(storage, memory_limit=2**20)
        paths = [f"{number}.md" for number in range(20)]
        for path in paths:
            await storage.append("p", (AppendUpdate(path, Version(0), b"\0\0"),))
            await documents.open("p", path)
        await storage.append("q", (AppendUpdate("a.md", Version(0), b"\0\0"),))
        kept = await documents.open("q", "a.md")
        await storage.erase_project("p")
        assert [documents.opened("p", path) for path in paths] == [None] * 20
        assert (documents.count, kept.usable) == (1, True)
        seen: list[int] = []
        while len(closed) < 20:
            seen.append(len(closed))
            await asyncio.sleep(0)
        assert all(later - earlier <= 1 for earlier, later in pairwise(seen))
        await storage.close()

    asyncio.run(work())


def test_all_documents_of_a_deleted_project_are_unusable_without_a_look_at_each() -> None:
    together, other = ProjectDocuments(), ProjectDocuments()
    documents = [_document_of(together), _document_of(together), _document_of(other)]
    assert [each.usable for each in documents] == [True] * 3
    together.erased = True
    assert [each.usable for each in documents] == [False, False, True]


def _document_of(siblings: ProjectDocuments) -> OpenDocument:
    document = OpenDocument("p", "a.md", None, Incarnation("i"), Document(client_id=1))
    document.siblings = siblings
    return document


@pytest.mark.parametrize("count", [3, 5_000])
def test_what_is_known_of_a_forgotten_project_is_freed_in_steps(count: int) -> None:
    files, versions = ({str(number): number for number in range(count)} for _ in range(2))
    sizes = [(len(files), len(versions)) for _ in _free(files, versions)]
    assert (files, versions) == ({}, {})
    totals = [2 * count, *map(sum, sizes)]
    assert max(before - after for before, after in pairwise(totals)) <= 512


def test_a_file_of_a_new_project_is_not_what_has_yet_to_be_freed_of_the_erased_one_of_its_name(tmp_path: Path) -> None:
    async def work() -> None:
        storage = await SQLiteStorage.open(tmp_path / "gateway.db")
        documents = Documents(storage, memory_limit=2**20)
        paths = [f"{number}.md" for number in range(20)]
        for path in paths:
            await storage.append("p", (AppendUpdate(path, Version(0), Typewriter().type("old")),))
            await documents.open("p", path)
        await storage.erase_project("p")
        assert documents.memory > 0  # they have yet to be freed
        update = Typewriter().type("new")
        await storage.append("p", (AppendUpdate("0.md", Version(0), update),))
        assert documents.peek("p", "0.md") is None
        document = await documents.open("p", "0.md")
        assert (document.encode(), documents.peek("p", "0.md")) == (update, document)
        await asyncio.gather(*documents._freeing)
        assert documents.memory == document.memory
        assert (documents.count, documents.opened("p", "0.md"), document.usable) == (1, document, True)
        await storage.erase_project("p")
        assert (documents.count, documents.opened("p", "0.md"), document.usable) == (0, None, False)
        await storage.close()

    asyncio.run(work())


def test_a_burst_of_large_updates_in_a_room_is_more_than_one_version(
    shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    """So that merging them never takes long; and all of them are stored."""
    typewriter = Typewriter()
    updates = [typewriter.type(f"{number:07} " * 2_000) for number in range(200)]
    with raw_client(shared_gateway, name_of(shared_project), "a.md") as client:
        client.socket.socket.sendall(b"".join(client_frame(sync_update(update)) for update in updates))
        version, text = 0, ""
        while len(text) < len(str(typewriter.text)):
            shared_project.get("/files/a.md", params={"from_version": version, "wait": 20})
            answer = shared_project.get("/files/a.md?format=text")
            version, text = int(answer.headers.get("X-Version", 0)), answer.text if answer.is_success else ""
    assert text == str(typewriter.text)
    assert sum(map(len, updates)) // 2**19 <= version <= len(updates)


def test_thousands_of_messages_of_one_packet_are_all_taken(
    shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> None:
    count = 20_000
    update = Typewriter().type("the last")
    with raw_client(shared_gateway, name_of(shared_project), "a.md") as client:
        client.receive_sync("step_1")
        packet = client_frame(bytes([QUERY_AWARENESS])) * count + client_frame(sync_update(update))
        sending = threading.Thread(target=client.socket.socket.sendall, args=(packet,))
        sending.start()
        answers = sum(isinstance(client.receive(), AwarenessMessage) for _ in range(count))
        sending.join()
        client.send(sync_step_1(bytes(1)))
        client.receive_sync("step_2")
    assert answers == count
    until_text(shared_project, "the last")
