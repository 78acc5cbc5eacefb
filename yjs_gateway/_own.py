"""The importer of this distribution's modules, which works even if the program has modules of the same names.

The client consists of the packages `gateway` and `storage`. A program may well have a `gateway.py` or a `storage.py`,
which shadow them, since Python searches the script's folder first. In that case the distribution's packages are loaded
from their location as `yjs_gateway._gateway` and `yjs_gateway._storage`, and their imports of each other are renamed
accordingly. The program keeps its own modules, and the two sets do not interfere.
"""

import ast
import functools
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_PACKAGES = ("gateway", "storage")
_ROOT = Path(__file__).parent.parent
_PREFIX = f"{__package__}._"


def own(name: str) -> ModuleType:
    """Import a module of this distribution by its original name."""
    return importlib.import_module(_PREFIX + name if _are_shadowed() else name)


def share(name: str, namespace: dict[str, Any]) -> None:
    """Export the public names of a module of this distribution to `namespace`: its `__all__`, or else its classes."""
    module = own(name)
    members = vars(module)
    public = members.get("__all__") or [
        each for each, value in members.items() if isinstance(value, type) and value.__module__ == module.__name__
    ]
    namespace.update({each: members[each] for each in public}, __all__=[*namespace.get("__all__", ()), *public])


@functools.cache
def _are_shadowed() -> bool:
    """Whether a foreign module has, or would be imported under, the name of one of our packages; imports nothing."""
    shadowed = any(not _is_found(package) for package in _PACKAGES)
    if shadowed:
        sys.meta_path.insert(0, _Finder())  # before the finder that searches package folders
    return shadowed


def _is_found(package: str) -> bool:
    place = _ROOT / package / "__init__.py"
    if not place.exists():  # for example in an archive, which only Python's own importer can load
        return True
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # a module of that name was created by hand and has no spec
        return False
    return spec is not None and spec.origin is not None and place.samefile(spec.origin)


class _Finder(MetaPathFinder):
    """Finds the packages under their private names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(_PREFIX):
            return None
        place = _ROOT.joinpath(*fullname.removeprefix(_PREFIX).split("."))
        inside, file = place / "__init__.py", place.with_name(place.name + ".py")
        if inside.exists():
            loader = _Loader(fullname, str(inside))
            return importlib.util.spec_from_file_location(
                fullname, inside, loader=loader, submodule_search_locations=[str(place)]
            )
        if file.exists():
            return importlib.util.spec_from_file_location(fullname, file, loader=_Loader(fullname, str(file)))
        return None


class _Loader(SourceFileLoader):
    """Loads a module so that it imports the packages under their private names."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile from source, as the cached bytecode next to it has the original names."""
        tree = ast.parse(self.get_data(self.path), self.path)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and not node.level and _is_own(node.module):
                node.module = f"{_PREFIX}{node.module}"
        return compile(tree, self.path, "exec", dont_inherit=True)


def _is_own(name: str | None) -> bool:
    return name is not None and name.partition(".")[0] in _PACKAGES
