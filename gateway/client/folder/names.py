"""Which names of a folder are synchronized: none that belong to others, none that a `.gitignore` matches. And which
names Windows would take for something else."""

import os
import re
from pathlib import Path

from pathspec import GitIgnoreSpec

STATE_FOLDER = ".yjs-gateway"
_NEVER = frozenset([".git", "git~1", STATE_FOLDER, "yjs-ga~1"])
"""Folders with these names are never synchronized, in either direction. (The names with `~1` are their short names on
Windows.)"""
_UNSEEN = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
"""Characters that HFS+ ignores in names (Git: `verify_dotgit`, CVE-2014-9390)."""


def belongs_to_others(segment: str) -> bool:
    """Whether a file system may treat a name as one of `_NEVER`. macOS ignores some characters, Windows ends a name at
    a colon and drops trailing dots and spaces, and both ignore case."""
    return _UNSEEN.sub("", segment).partition(":")[0].rstrip(" .").casefold() in _NEVER


_OF_WINDOWS = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])(?:\.|$)", re.IGNORECASE
)
"""Names of devices, with any ending."""
_NOT_ON_WINDOWS = re.compile(r'[<>:"\\|?*]|[ .]$')


def fault_on_windows(path: str) -> str | None:
    """Return why Windows would not take a path for the file that it names; None if it would."""
    for segment in path.split("/"):
        if _OF_WINDOWS.match(segment):
            return f"{segment!r} is a device on Windows"
        if _NOT_ON_WINDOWS.search(segment):
            return f"Windows has no such name as {segment!r}"
    return None


_Stamp = tuple[int, int, int] | None


def is_of_others(path: str) -> bool:
    """Whether a path is in Git's folder or in the state folder."""
    return any(map(belongs_to_others, path.split(os.sep)))


class IgnoreRules:
    """The `.gitignore` files of a folder and its subfolders, each read when it is first needed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._rules: dict[str, tuple[_Stamp, GitIgnoreSpec | None]] = {}
        """The cached rules of each folder, with the stamp of the `.gitignore` that they were read from."""

    def forget(self) -> None:
        """Drop the cached rules after a `.gitignore` changed."""
        self._rules = {}

    def ignore(self, path: str) -> bool:
        """Whether a `.gitignore` in the folder matches a file or one of its parent folders."""
        segments = path.split("/")
        if any(map(belongs_to_others, segments)):
            return True
        parents = ("/".join(segments[:count]) + "/" for count in range(1, len(segments)))
        return any(self.match(each) for each in (*parents, path))

    def match(self, path: str) -> bool:
        """Whether the rules match a path: the nearest `.gitignore` with a match decides, and in it the last pattern."""
        folder = path.rstrip("/")
        while folder:
            folder = folder.rpartition("/")[0]
            rules = self._of(folder)
            if rules is not None:
                verdict = rules.check_file(path[len(folder) + 1 :] if folder else path).include
                if verdict is not None:
                    return verdict
        return False

    def _of(self, folder: str) -> GitIgnoreSpec | None:
        if folder not in self._rules:
            place = self._root / folder / ".gitignore"
            stamp = _stamp(place)
            try:
                lines = place.read_text(encoding="utf-8", errors="replace").splitlines()
                self._rules[folder] = stamp, GitIgnoreSpec.from_lines(lines)
            except (FileNotFoundError, NotADirectoryError):
                self._rules[folder] = stamp, None
        return self._rules[folder][1]

    def ignore_now(self, path: str) -> bool:
        """Like `ignore`, but rereads any `.gitignore` that changed since it was read."""
        folder = path
        while folder:
            folder = folder.rpartition("/")[0]
            if folder in self._rules and self._rules[folder][0] != _stamp(self._root / folder / ".gitignore"):
                del self._rules[folder]
        return self.ignore(path)


def _stamp(place: Path) -> _Stamp:
    """Return a stamp that changes whenever the file changes; None if there is no file."""
    try:
        about = place.stat()
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns
