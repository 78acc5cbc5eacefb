"""What a process imports before its first answer: modules are counted, as time depends on the machine."""

import subprocess
import sys
from pathlib import Path

import pytest

_LATE = ("asyncpg", "graphql", "httpx", "mcp", "opentelemetry", "strawberry")
"""Packages of many modules that a gateway on SQLite needs for some requests only."""
_OF_SOME_REQUESTS = (*_LATE, "cryptography", "http_ece", "httpcore", "jwt", "markdown_it", "pygments", "rich")
_OF_THE_SERVER = ("gateway.app", "pycrdt", "pydantic", "starlette", "uvicorn")

_SERVE = """
import asyncio, ssl, sys
ssl.create_default_context = None  # reading the certificates of the system takes longer than most imports
from gateway.cli.settings import settings_of
settings = settings_of(database="sqlite:///" + sys.argv[1])
import gateway.server.process
from gateway.app import create_app

async def serve():
    async with create_app(settings).running():
        print(*sys.modules)

asyncio.run(serve())
sys.exit()
"""
_ASK = """
import ssl
ssl.create_default_context = None
from gateway.cli.main import main
from gateway.cli.target import with_client

async def ask(client):
    pass

with_client(ask, "http://127.0.0.1:8000")
"""


def _imported(code: str, *arguments: str) -> set[str]:
    """The modules that are imported after some code has run in a new process."""
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stdout.split())


@pytest.mark.parametrize(
    ("code", "absent", "most"),
    [
        (_SERVE, _OF_SOME_REQUESTS, 1000),
        ("import gateway.cli.main", (*_OF_SOME_REQUESTS, "rapidfuzz", *_OF_THE_SERVER), 280),
        (_ASK, ("asyncpg", "click", "graphql", "pygments", "rapidfuzz", "rich", *_OF_THE_SERVER[2:]), 560),
    ],
    ids=["serve", "a command", "a command that asks a gateway"],
)
def test_no_module_is_imported_before_it_is_needed(
    code: str, absent: tuple[str, ...], most: int, tmp_path: Path
) -> None:
    modules = _imported(code, str(tmp_path / "gateway.db"))
    assert sorted(modules & set(absent)) == []
    assert len(modules) <= most, len(modules)


def test_what_an_import_went_without_can_be_imported_afterwards() -> None:
    code = (
        "from gateway.imports import import_httpx, import_log; import_httpx(); import_log(); import rich, httpx._main"
    )
    assert {"httpx._main", "rich", "structlog"} <= _imported(code)


def test_a_module_that_is_imported_already_is_not_taken_away() -> None:
    assert {"rich", "structlog"} <= _imported("import rich; from gateway.imports import import_log; import_log()")
