"""What the client is made of."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import gateway.client

_FOLDER = Path(gateway.client.__file__).parent


def _imports(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            yield node.module


def test_of_the_gateway_the_client_imports_the_wire_and_yjs_alone() -> None:
    imported = {name for module in _FOLDER.rglob("*.py") for name in _imports(module)}
    ours = {name for name in imported if name.split(".")[0] in ("gateway", "storage")}
    assert [name for name in ours if not re.match(r"gateway\.(client|wire|yjs)(\.|$)", name)] == []


def test_only_what_holds_documents_or_an_awareness_imports_pycrdt() -> None:
    knowing = {module.name for module in _FOLDER.rglob("*.py") if "pycrdt" in _imports(module)}
    assert knowing <= {"merging.py", "mirror.py", "shared_awareness.py", "ystore.py"}


def test_the_policy_knows_no_clock_no_loop_and_no_network() -> None:
    for name in ("policy.py", "polling/poll_state.py", "polling/schedule.py"):
        allowed = {"heapq", "itertools", "collections.abc", "typing", "msgspec"}
        others = {each for each in _imports(_FOLDER / name) if not each.startswith("gateway.client.p")}
        assert others <= allowed
