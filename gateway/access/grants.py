"""What a subject may do: projects, the scopes in each, and which of its files exist for the subject. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import msgspec
from msgspec import Struct

Scope = Literal["read", "write", "admin", "turns"]
"""`read` < `write` < `admin`. `turns` is separate: create turns, write their blocks and output, read turns."""

Need = Literal["read", "write", "admin", "turns", "read turns"]
"""What a request requires in its project."""

SCOPES: tuple[Scope, ...] = get_args(Scope)
_IMPLIED: dict[Scope, frozenset[Scope]] = {
    "read": frozenset(("read",)),
    "turns": frozenset(("turns",)),
    "write": frozenset(("read", "write")),
    "admin": frozenset(("read", "write", "admin", "turns")),
}
_MOST_PROJECTS, _MOST_PATHS = 1000, 100
_LONGEST_NAME = 1024
LONGEST_SUBJECT = 200


class Paths(Struct, frozen=True):
    """Some of a project's paths: everything below some folders, and some single files."""

    folders: tuple[str, ...]
    """Each ends with a slash; none lies within another one. Sorted."""
    files: tuple[str, ...] = ()
    """None lies within one of the folders. Sorted."""

    @classmethod
    def of(cls, paths: Iterable[str]) -> "Paths":
        """Parse paths as a grant lists them: `docs/` is a folder and everything below it, `README.md` a single file."""
        folders: list[str] = []
        for folder in sorted({path for path in paths if path.endswith("/")}):
            if not folders or not folder.startswith(folders[-1]):
                folders.append(folder)
        files = {path for path in paths if not path.endswith("/") and not path.startswith(tuple(folders))}
        return cls(tuple(folders), tuple(sorted(files)))

    def __contains__(self, path: str) -> bool:
        return path.startswith(self.folders) or path in self.files

    def within(self, prefix: str) -> list[tuple[str, bool]]:
        """Return where to look for those of the paths that begin with `prefix`: disjoint prefixes in path order, each
        with whether it names a single file."""
        places = [
            (max(folder, prefix, key=len), False)
            for folder in self.folders
            if folder.startswith(prefix) or prefix.startswith(folder)
        ]
        places += [(file, True) for file in self.files if file.startswith(prefix)]
        return sorted(places)


class View(Struct, frozen=True):
    """What a subject may do in one project, and which of its files exist for the subject."""

    scopes: frozenset[Scope]
    paths: Paths | None = None
    """None: all files."""

    def sees(self, path: str) -> bool:
        """Whether the subject may know of a file with this path."""
        return "read" in self.scopes and (self.paths is None or path in self.paths)

    @property
    def sight(self) -> "View | None":
        """A key for answers that differ by what a subject sees; None: the subject sees everything."""
        return None if self.paths is None and "read" in self.scopes else self

    def may(self, need: Need) -> bool:
        """Whether the need of a request is granted."""
        if need == "read turns":
            return self.sees_turns
        return self.writes_turns if need == "turns" else need in self.scopes

    def missing(self, need: Need) -> Scope:
        """Return the scope that is missing for a need that is not granted."""
        if need == "read turns":
            return "read" if self.paths is None else "turns"
        return need

    @property
    def sees_turns(self) -> bool:
        """Whether turns are visible: as they quote files of any path, a view of some paths needs the scope `turns`."""
        return "turns" in self.scopes or ("read" in self.scopes and self.paths is None)

    @property
    def writes_turns(self) -> bool:
        return "turns" in self.scopes or ("write" in self.scopes and self.paths is None)


EVERYTHING = View(frozenset(SCOPES))


class InvalidGrant(ValueError):
    """The grant is not valid; the message says why."""


class Grant(Struct, frozen=True):
    """Views by project pattern: a project's name, or a prefix of names followed by `*`."""

    projects: dict[str, View]
    admin: bool = False
    """All projects, tokens and the audit."""

    def view(self, project: str) -> View | None:
        """Return the view of a project: that of its name, else that of the longest matching pattern. None: nothing."""
        if self.admin:
            return EVERYTHING
        view = self.projects.get(project)
        if view is not None:
            return view
        fitting = [pattern for pattern in self.projects if _fits(pattern, project)]
        return self.projects[max(fitting, key=len)] if fitting else None


ALL = Grant({}, admin=True)


class Claims(Struct, frozen=True):
    """The claims of an application's JSON Web Token or session."""

    subject: str
    name: str | None
    grant: Grant
    expires: float
    """Seconds since 1970."""
    identifier: str | None
    """`jti`."""


def _fits(pattern: str, project: str) -> bool:
    return pattern.endswith("*") and project.startswith(pattern[:-1])


class _ScopeAndPaths(Struct, forbid_unknown_fields=True):
    scope: str
    paths: list[str] | None = None


class _GrantShape(Struct, forbid_unknown_fields=True):
    projects: dict[str, str | _ScopeAndPaths] = {}
    admin: bool = False


def parse_grant(value: Any) -> Grant:
    """Parse a grant as it stands in a JWT's claim and in a token's row:
    `{"projects": {"demo": "write", "shop-*": {"scope": "read turns", "paths": ["docs/"]}}, "admin": false}`.

    Unknown fields are refused: a misspelt `paths` must not open all of them.

    Raises:
        InvalidGrant
    """
    try:
        shape = msgspec.convert(value, _GrantShape)
    except msgspec.ValidationError as error:
        raise InvalidGrant(str(error)) from None
    if len(shape.projects) > _MOST_PROJECTS:
        raise InvalidGrant(f"it names more than {_MOST_PROJECTS} projects")
    projects = {}
    for pattern, given in shape.projects.items():
        if not pattern or len(pattern) > _LONGEST_NAME or "*" in pattern[:-1]:
            raise InvalidGrant(f"{pattern[:100]!r} is no project: `*` stands at the end only")
        each = _ScopeAndPaths(given) if isinstance(given, str) else given
        projects[pattern] = View(parse_scopes(each.scope), None if each.paths is None else _parse_paths(each.paths))
    return Grant(projects, shape.admin)


def parse_scopes(text: str) -> frozenset[Scope]:
    """Parse scopes separated by spaces; the result includes the scopes that they imply.

    Raises:
        InvalidGrant
    """
    words = text.split(" ")
    for word in words:
        if word not in SCOPES:
            raise InvalidGrant(f"{word[:100]!r} is no scope: {', '.join(SCOPES)} are")
    return frozenset().union(*(_IMPLIED[word] for word in words))  # type: ignore[index]


def _parse_paths(paths: list[str]) -> Paths:
    if not 1 <= len(paths) <= _MOST_PATHS:
        raise InvalidGrant(f"1 to {_MOST_PATHS} paths are expected; left out, all are granted")
    for path in paths:
        if not path or path.startswith("/") or len(path.encode("utf-8", "surrogatepass")) > _LONGEST_NAME:
            raise InvalidGrant(f"{path[:100]!r} is neither a folder, as in docs/, nor a file")
    return Paths.of(paths)


def grant_json(grant: Grant) -> dict[str, Any]:
    """Return a grant in the form that `parse_grant` reads."""
    projects: Mapping[str, Any] = {
        pattern: _scope_words(view.scopes)
        if view.paths is None
        else {"scope": _scope_words(view.scopes), "paths": [*view.paths.folders, *view.paths.files]}
        for pattern, view in grant.projects.items()
    }
    return {"projects": projects, "admin": grant.admin}


def _scope_words(scopes: frozenset[Scope]) -> str:
    """Return the shortest list of words that implies these scopes."""
    words = [word for word in SCOPES if word in scopes]
    return " ".join(word for word in words if not any(word != other and word in _IMPLIED[other] for other in words))


def is_name(text: str) -> bool:
    """Whether a text can stand in a history as the name of an author."""
    return 1 <= len(text) <= LONGEST_SUBJECT and text.isprintable() and text.strip() == text
