"""A project, and a client of GraphQL beside it."""

import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.access.conftest import guarded as guarded
from tests.graphql.asking import Asker
from tests.support.server import GatewayProcess

pytest.importorskip("strawberry", reason="the extra [graphql] is not installed")

FOLDER = Path(__file__).parent


@pytest.fixture
def name() -> str:
    """The name of a project of the test's own."""
    return f"project-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def project(shared_gateway: GatewayProcess, name: str) -> Iterator[httpx.Client]:
    """A client for that project by the HTTP API."""
    with shared_gateway.client(name) as client:
        yield client


@pytest.fixture
def asker(shared_gateway: GatewayProcess) -> Iterator[Asker]:
    """A client of GraphQL."""
    with Asker(shared_gateway.url) as client:
        yield client


@pytest.fixture(scope="session")
def stock_clients() -> Path:
    """The folder of the scripts in which stock clients of npm ask, with their packages installed."""
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    if not (FOLDER / "node_modules" / "graphql-ws").is_dir():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=FOLDER, check=True, capture_output=True)
    return FOLDER
