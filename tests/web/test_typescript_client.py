"""The TypeScript client's own tests (`web/test`), with this Python's gateway: one test a file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_WEB = Path(__file__).parent.parent.parent / "web"
_PACKAGE = "package.test.ts"
"""This file builds the package, as the report of its sizes does: both in one test, one after the other."""
_FILES = sorted(file.name for file in (_WEB / "test").glob("*.test*.ts*"))


@pytest.fixture(scope="module")
def npm() -> str:
    """npm, with the packages of `web` installed."""
    program = shutil.which("npm")
    if program is None:
        pytest.skip("Node.js with npm is not installed")
    if not (_WEB / "node_modules" / "vitest").is_dir():
        _run(program, "ci", "--no-audit", "--no-fund")
    return program


@pytest.mark.parametrize("file", [file for file in _FILES if file != _PACKAGE])
def test_the_client_passes_its_tests(npm: str, file: str) -> None:
    printed = _run(npm, "test", "--", f"test/{file}")
    assert "passed" in printed or "skipped" in printed


def test_the_package_is_built_and_the_sizes_of_its_parts_are_told(npm: str, capsys: pytest.CaptureFixture[str]) -> None:
    _run(npm, "test", "--", f"test/{_PACKAGE}")
    sizes = _run(npm, "run", "--silent", "size")
    assert "core" in sizes
    with capsys.disabled():
        print(f"\n{sizes}")


def _run(*command: str) -> str:
    environment = {**os.environ, "GATEWAY_PYTHON": sys.executable, "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=_WEB, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
