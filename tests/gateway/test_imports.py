"""What a gateway imports before its first answer: modules are counted, as time depends on the machine."""

import subprocess
import sys

import pytest

_LATE = ("asyncpg", "graphql", "httpx", "mcp", "opentelemetry", "strawberry")
"""Packages of many modules that a gateway on SQLite needs for some requests only."""
_OF_THE_SERVER = ("gateway.app", "pycrdt", "pydantic", "starlette", "uvicorn")


def _imported(code: str) -> set[str]:
    """The modules that are imported after some code has run in a new process."""
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


@pytest.mark.parametrize(
    ("code", "absent", "most"),
    [
        ("import gateway.server.process, gateway.app, gateway.settings", _LATE, 1200),
        ("import gateway.cli.main", (*_LATE, "rapidfuzz", *_OF_THE_SERVER), 300),
        (
            "import gateway.cli.main, gateway.client",
            ("asyncpg", "graphql", "rapidfuzz", *_OF_THE_SERVER[2:]),
            600,
        ),
    ],
    ids=["serve", "a command", "a command that asks a gateway"],
)
def test_no_module_is_imported_before_it_is_needed(code: str, absent: tuple[str, ...], most: int) -> None:
    modules = _imported(code)
    assert sorted(modules & set(absent)) == []
    assert len(modules) <= most, len(modules)
