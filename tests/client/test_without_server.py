"""The client and the commands for files run where only their own dependencies are installed."""

import subprocess
import sys
import uuid
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.server import GatewayProcess

_ROOT = Path(__file__).parent.parent.parent
_USE = """
import importlib.util, sys
from yjs_gateway import DocumentMirror, PollingManager, SyncGatewayClient
import yjs_gateway.errors, yjs_gateway.wire

absent = ("uvicorn", "aiosqlite", "starlette", "prometheus_client", "pydantic_settings", "uvloop", "structlog", "jwt")
assert [each for each in absent if importlib.util.find_spec(each)] == []
with SyncGatewayClient(sys.argv[1]) as gateway:
    project = gateway.project(sys.argv[2])
    project.put_text("a.md", "one")
    print(project.read_text("a.md").value)
"""


def _needed(name: str, found: dict[str, Distribution]) -> None:
    """Find a distribution and what it requires without extras."""
    name = canonicalize_name(name)
    if name in found:
        return
    found[name] = distribution(name)
    for line in found[name].requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            _needed(requirement.name, found)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `pip install yjs-gateway` would install, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    found: dict[str, Distribution] = {}
    _needed("yjs-gateway", found)
    del found["yjs-gateway"]
    for each in found.values():
        for top in {file.parts[0] for file in each.files or () if file.parts[0] not in ("..", "__pycache__")}:
            (folder / top).symlink_to(Path(str(each.locate_file(top))))
    for package in ("gateway", "storage", "yjs_gateway"):
        (folder / package).symlink_to(_ROOT / package)
    return folder


def _python(bare: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with what is in the folder alone."""
    isolated = [sys.executable, "-I", "-S", "-B", "-c", f"import sys; sys.path.append({str(bare)!r}); {_RUN}"]
    return subprocess.run([*isolated, *arguments], capture_output=True, encoding="utf-8", timeout=120)


_RUN = (
    "import runpy; script = sys.argv.pop(1); "
    "exec(script) if '\\n' in script else runpy.run_module(script, alter_sys=True, run_name='__main__')"
)


def test_the_client_works_without_the_servers_dependencies(bare: Path, shared_gateway: GatewayProcess) -> None:
    done = _python(bare, _USE, shared_gateway.url, f"bare-{uuid.uuid4().hex[:12]}")
    assert (done.returncode, done.stdout) == (0, "one\n"), done.stderr


def test_the_commands_for_files_do_too(bare: Path, shared_gateway: GatewayProcess, tmp_path: Path) -> None:
    where = ["--url", shared_gateway.url, "--project", f"bare-{uuid.uuid4().hex[:12]}"]
    (tmp_path / "a.md").write_text("one")
    pushed = _python(bare, "gateway", "push", str(tmp_path), *where)
    assert pushed.returncode == 0, pushed.stderr
    listed = _python(bare, "gateway", "cat", "a.md", *where)
    assert (listed.returncode, listed.stdout) == (0, "one"), listed.stderr


@pytest.mark.parametrize("command", ["serve", "verify"])
def test_a_command_of_the_gateway_says_what_to_install(bare: Path, command: str) -> None:
    done = _python(bare, "gateway", command)
    assert (done.returncode, done.stderr) == (
        2,
        "error: this command needs the gateway itself: pip install 'yjs-gateway[server]'\n",
    )
