"""Fixtures that every folder of tests shares: a real server, a real Yjs, real editing traces."""

import gzip
import inspect
import json
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings

from tests.support.oracle import FOLDER, Oracle
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.server import GatewayProcess

# httpx gives up after 5 s where it is not told otherwise; a busy machine may stop a test or a gateway for longer.
_patience = inspect.signature(httpx.get).parameters["timeout"].default
_patience.connect = _patience.read = _patience.write = _patience.pool = 120.0
# For the same reason no example has a time limit. All runs have the same examples: whether a change passes does not
# depend on chance. `--hypothesis-profile=explore` looks for others.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", settings.get_profile("explore"), derandomize=True)
settings.load_profile("repeatable")

# A shell without job control starts what runs in its background with SIGINT ignored. All programs of the tests would
# inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_TRACES = Path(__file__).parent.parent.parent / "shared" / "traces"


@pytest.fixture(scope="session")
def node() -> str:
    """The Node.js program, with the packages of `tests/yjs` installed."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("Node.js is not installed")
    if not (FOLDER / "node_modules" / "yjs").is_dir():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=FOLDER, check=True, capture_output=True)
    return program


@pytest.fixture(scope="session")
def oracle(node: str) -> Iterator[Oracle]:
    """npm's Yjs."""
    oracle = Oracle()
    yield oracle
    oracle.close()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway of the test's own, on an empty database."""
    with GatewayProcess(tmp_path / "gateway.db") as process:
        yield process


@pytest.fixture
def project(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    """A client for an empty project of a gateway of the test's own."""
    with gateway.client() as client:
        yield client


@pytest.fixture(scope="session")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """One gateway for all tests that need no more than a project of their own."""
    with GatewayProcess(tmp_path_factory.mktemp("shared") / "gateway.db") as process:
        yield process


@pytest.fixture
def shared_project(shared_gateway: GatewayProcess) -> Iterator[httpx.Client]:
    """A client for an empty project of the shared gateway."""
    with shared_gateway.client(f"project-{uuid.uuid4().hex[:12]}") as client:
        yield client


@pytest.fixture(scope="session")
def trace() -> Callable[[str], dict[str, Any]]:
    """Reads a real editing history by name; skips the test where the traces are absent."""

    def read(name: str) -> dict[str, Any]:
        file = _TRACES / f"{name}.json.gz"
        if not file.is_file():
            pytest.skip(f"the editing trace {name} is not here")
        content: dict[str, Any] = json.loads(gzip.decompress(file.read_bytes()))
        return content

    return read


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests; each takes a schema of its own in it."""
    with postgres_server() as server:
        yield server
