"""The synchronous client: every request of the asynchronous one, from any thread, without an event loop."""

import importlib.util
import inspect
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from gateway.client import GatewayClient, PreconditionFailed, Project, SyncGatewayClient, SyncProject
from tests.support.server import GatewayProcess

_ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def project(shared_gateway: GatewayProcess) -> Iterator[SyncProject]:
    with SyncGatewayClient(shared_gateway.url, author="Zoë") as gateway:
        yield gateway.project(f"sync-{uuid.uuid4().hex[:12]}")


def _generator() -> ModuleType:
    place = _ROOT / "scripts" / "generate_sync_client.py"
    spec = importlib.util.spec_from_file_location("generate_sync_client", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="the generator formats with ruff")
def test_the_module_is_that_of_the_generator() -> None:
    generator = _generator()
    assert generator.TARGET.read_text(encoding="utf-8") == generator.source()


@pytest.mark.parametrize(
    ("plain", "synchronous", "apart"),
    [
        (GatewayClient, SyncGatewayClient, {"send", "open", "identity", "aclose"}),
        (Project, SyncProject, {"connect", "room"}),
    ],
)
def test_all_requests_are_there(plain: type, synchronous: type, apart: set[str]) -> None:
    wanted = {name for name, each in inspect.getmembers(plain, inspect.isfunction) if not name.startswith("_")} - apart
    assert {name for name in dir(synchronous) if not name.startswith("_")} >= wanted
    assert not any(inspect.iscoroutinefunction(each) for _, each in inspect.getmembers(synchronous))


def test_it_writes_reads_and_raises_as_the_other_one_does(project: SyncProject) -> None:
    written = project.put_text("plan.md", "Ship it.")
    assert project.read_text("plan.md").value == "Ship it."
    project.put_text("plan.md", "Ship it today.", if_match=written.tag)
    with pytest.raises(PreconditionFailed, match="Read the file again") as refused:
        project.put_text("plan.md", "Ship it never.", if_match=written.tag)
    assert refused.value.problem.code == "precondition_failed"
    assert {version.author for version in project.history("plan.md").versions} == {"Zoë"}


def test_it_follows_the_feed_and_stops_where_the_caller_does(project: SyncProject) -> None:
    cursor = project.put_text("a.md", "one").value.cursor
    told = project.follow(cursor)
    project.put_text("b.md", "two")
    assert [change.path for change in next(told).changes if hasattr(change, "path")] == ["b.md"]
    told.close()  # type: ignore[attr-defined] # it is a generator
    project.put_text("c.md", "three")


def test_output_of_an_agent_is_streamed_from_an_iterable(project: SyncProject) -> None:
    session = project.create_session()
    turn = project.create_turn(session.id, "Say it.")
    project.append_output(session.id, turn.id, iter([b"It is ", b"said."]), dialect="text", final=True)
    done = project.read_turn(session.id, turn.id).value
    assert done is not None
    assert [bytes(block.content) for block in done.blocks] == [b'"It is said."']


def test_many_threads_use_one_client(project: SyncProject) -> None:
    project.put_text("a.md", "")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: project.edit("a.md", lambda text: f"{text}{number}\n"), range(8)))
    assert sorted(project.read_text("a.md").value.split()) == [str(number) for number in range(8)]


def test_a_change_may_itself_use_the_client(project: SyncProject) -> None:
    project.put_text("a.md", "one")
    project.put_text("b.md", "two")
    project.edit("a.md", lambda text: text + project.read_text("b.md").value)
    assert project.read_text("a.md").value == "onetwo"


def test_no_thread_is_left_after_it_was_closed(shared_gateway: GatewayProcess) -> None:
    gateway = SyncGatewayClient(shared_gateway.url)
    assert gateway.healthz().status == "ok"
    gateway.close()
    gateway.close()
    assert not any(each.name == "yjs-gateway client" and each.is_alive() for each in threading.enumerate())


@pytest.mark.parametrize("left", ["", "del gateway", "raise SystemExit(0)"])
def test_a_program_that_never_closes_it_ends_without_a_warning(shared_gateway: GatewayProcess, left: str) -> None:
    program = f"from yjs_gateway import SyncGatewayClient\ngateway = SyncGatewayClient({shared_gateway.url!r})\n"
    program += f"print(gateway.healthz().status)\n{left}\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, encoding="utf-8", timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
