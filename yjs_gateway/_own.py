"""Imports the modules of this distribution, whatever the program that uses them calls its own modules.

The client is made of the packages `gateway` and `storage`. A program may well have a `gateway.py` or a `storage.py`,
which Python finds first: the folder of a script is the first place where Python looks. Then the distribution's packages
are loaded from where they are, as `yjs_gateway._gateway` and `yjs_gateway._storage`, and what they import of each other
is renamed alike. The program keeps its modules, and the two never meet.
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
    """A module of this distribution, by its name there."""
    return importlib.import_module(_PREFIX + name if _are_shadowed() else name)


def share(name: str, namespace: dict[str, Any]) -> None:
    """Give a module the public names of another one of this distribution: those of `__all__`, or the classes in it."""
    module = own(name)
    members = vars(module)
    public = members.get("__all__") or [
        each for each, value in members.items() if isinstance(value, type) and value.__module__ == module.__name__
    ]
    namespace.update({each: members[each] for each in public}, __all__=[*namespace.get("__all__", ()), *public])


@functools.cache
def _are_shadowed() -> bool:
    """Whether another module has, or would be found by, the name of a package of ours. Nothing is imported for that."""
    shadowed = any(not _is_found(package) for package in _PACKAGES)
    if shadowed:
        sys.meta_path.insert(0, _Finder())  # before the one that looks into the folders of packages
    return shadowed


def _is_found(package: str) -> bool:
    place = _ROOT / package / "__init__.py"
    if not place.exists():  # in an archive, say: only Python can load it
        return True
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # a module of that name was made by hand
        return False
    return spec is not None and spec.origin is not None and place.samefile(spec.origin)


class _Finder(MetaPathFinder):
    """Finds the packages under their other names."""

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
    """Loads a module that imports the packages under their other names."""

    def get_code(self, fullname: str) -> CodeType:
        """Of the source: what is cached beside it has the names that it has there."""
        tree = ast.parse(self.get_data(self.path), self.path)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and not node.level and _is_own(node.module):
                node.module = f"{_PREFIX}{node.module}"
        return compile(tree, self.path, "exec", dont_inherit=True)


def _is_own(name: str | None) -> bool:
    return name is not None and name.partition(".")[0] in _PACKAGES
