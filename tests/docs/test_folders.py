"""Each folder of the gateway says what it may import and which names are for others; both are true."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.docs.markdown import PROJECT

_WITHOUT_A_FACE = {"gateway", "gateway/client", "gateway/turns/dialects"}
"""The package itself, and those whose `__init__.py` has the names for others."""
_FOLDERS = sorted(file.parent.relative_to(PROJECT).as_posix() for file in (PROJECT / "gateway").rglob("__init__.py"))


def _says(folder: str, what: str) -> str:
    text = ast.get_docstring(ast.parse((PROJECT / folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    found = re.search(rf"^{what}: (.*?)\.$", text, re.M | re.S)
    assert found, f'{folder} says nothing of "{what}"'
    return found[1]


def _imported(folder: str) -> Iterator[str]:
    """What the modules of a folder import of the project, by folder of `gateway`."""
    own = folder.replace("/", ".") + "."
    for file in (PROJECT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and not f"{node.module}.".startswith(own):
                package, _, rest = (node.module or "").partition(".")
                if package == "storage":
                    yield package
                elif package == "gateway":
                    yield from [rest.split(".")[0]] if rest else [alias.name for alias in node.names]


@pytest.mark.parametrize("folder", [folder for folder in _FOLDERS if folder not in _WITHOUT_A_FACE])
def test_a_folder_imports_what_it_says(folder: str) -> None:
    allowed = _says(folder, "May import")
    if allowed != "everything below":
        assert {*_imported(folder)} <= {*re.findall(r"\w+", allowed)}


@pytest.mark.parametrize("folder", [folder for folder in _FOLDERS if folder not in _WITHOUT_A_FACE])
def test_the_names_of_a_folder_are_there(folder: str) -> None:
    for module, name in re.findall(r"`(\w+)\.(\w+)`", _says(folder, "Names for others")):
        tree = ast.parse((PROJECT / folder / f"{module}.py").read_text(encoding="utf-8"))
        defined = {getattr(node, "name", None) for node in tree.body}
        defined |= {
            t.id for node in tree.body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)
        }
        assert name in defined, f"{folder}/{module}.py"
