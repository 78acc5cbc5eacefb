"""`import yjs_gateway` is the client, whatever the program that imports it calls its own modules."""

import subprocess
import sys
import tomllib
import uuid
from pathlib import Path

import pytest

import gateway.client
import gateway.client.errors
import gateway.wire.files
import yjs_gateway
import yjs_gateway.errors
import yjs_gateway.wire
from tests.support.server import GatewayProcess

_PROJECT = Path(__file__).parent.parent.parent

_USE = """
import asyncio, sys
import yjs_gateway
from yjs_gateway import DocumentMirror, GatewayClient, PollingManager, TurnPoller
from yjs_gateway.errors import PreconditionFailed
from yjs_gateway.wire import Receipt

async def use(url, name):
    async with GatewayClient(url) as client, PollingManager() as polling:
        project = client.project(name)
        written = await project.put_text("a.md", "one")
        assert isinstance(written.value, Receipt)
        async with DocumentMirror(polling, project, "a.md") as mirror:
            await mirror.synced()
            mirror.doc.get("content", type=__import__("pycrdt").Text).insert(0, "\\U0001f600 ")
        try:
            await project.put_text("a.md", "two", if_match=written.tag)
        except PreconditionFailed as error:
            assert isinstance(error, yjs_gateway.ProblemAnswer)
            print((await project.read_text("a.md")).value)

if __name__ == "__main__":
    asyncio.run(use(*sys.argv[1:]))
"""
_MINE = "MINE = __name__\n"
_TELL = "import gateway, storage\nprint(getattr(gateway, 'MINE', None), getattr(storage, 'MINE', None))\n"
_UNTOUCHED = "raise SystemExit('nobody asked for this module')\n"


def run(folder: Path, files: dict[str, str], script: str, server: GatewayProcess) -> list[str]:
    """What a script prints that is run in a folder of such files."""
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    name = f"public-{uuid.uuid4().hex[:12]}"
    done = subprocess.run(
        [sys.executable, script, server.url, name], cwd=folder, capture_output=True, encoding="utf-8", timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "shadows",
    [
        {},
        {"gateway.py": _UNTOUCHED},
        {"storage.py": _UNTOUCHED},
        {"gateway/__init__.py": _UNTOUCHED, "storage/__init__.py": _UNTOUCHED},
        {"gateway/__init__.py": _UNTOUCHED, "gateway/client.py": _UNTOUCHED},
    ],
    ids=lambda files: " ".join(files) or "nothing",
)
def test_modules_of_a_program_do_not_shadow_the_client(
    shared_gateway: GatewayProcess, tmp_path: Path, shadows: dict[str, str]
) -> None:
    assert run(tmp_path, {"use.py": _USE, **shadows}, "use.py", shared_gateway) == ["\U0001f600 one"]


@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_a_program_uses_its_own_modules_beside_the_client(
    shared_gateway: GatewayProcess, tmp_path: Path, first: str
) -> None:
    files = {"gateway.py": _MINE, "storage.py": _MINE, "use.py": _TELL + _USE if first == "theirs" else _USE + _TELL}
    printed = run(tmp_path, files, "use.py", shared_gateway)
    assert sorted(printed) == sorted(["gateway storage", "\U0001f600 one"])


def test_a_script_may_be_named_as_our_package_is(shared_gateway: GatewayProcess, tmp_path: Path) -> None:
    assert run(tmp_path, {"gateway.py": _USE}, "gateway.py", shared_gateway) == ["\U0001f600 one"]


def test_the_public_names_are_those_of_the_client() -> None:
    assert yjs_gateway.__all__ == gateway.client.__all__ != []
    for name in yjs_gateway.__all__:
        assert getattr(yjs_gateway, name) is getattr(gateway.client, name)
    assert yjs_gateway.errors.PreconditionFailed is gateway.client.errors.PreconditionFailed
    assert yjs_gateway.wire.Receipt is gateway.wire.files.Receipt


def test_the_wheel_and_the_source_archive_have_the_public_name() -> None:
    build = tomllib.loads((_PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    assert "yjs_gateway" in build["targets"]["wheel"]["packages"]
    assert "yjs_gateway" in build["targets"]["sdist"]["include"]
