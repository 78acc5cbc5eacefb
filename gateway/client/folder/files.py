"""A folder of files on this machine, and what was last known of each: walking, ignoring, reading, replacing."""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct
from pathspec import GitIgnoreSpec

from gateway.wire.values import path_fault

STATE_FOLDER = ".yjs-gateway"
_STATE = "state.json"
_NEVER = frozenset([".git", "git~1", STATE_FOLDER, "yjs-ga~1"])
"""Folders of these names are nobody else's business: what the gateway would put there is not taken either. (The names
with `~1` are the short names that Windows gives them.)"""
_UNSEEN = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
"""Characters that HFS+ does not see in a name (Git: `verify_dotgit`, CVE-2014-9390)."""


def _belongs_to_others(segment: str) -> bool:
    """Whether a file system may take a name for one of `_NEVER`. macOS does not see some characters, Windows ends a
    name at a colon and drops dots and blanks at its end, and both ignore case."""
    return _UNSEEN.sub("", segment).partition(":")[0].rstrip(" .").casefold() in _NEVER


class KnownFile(Struct, frozen=True):
    """A file as both sides had it."""

    version: int
    tag: str
    sha256: str
    size: int
    mtime_ns: int
    """With `size`: where both are the same the file was not touched, and is not read."""


class FolderState(Struct):
    """What is kept in `.yjs-gateway/state.json`."""

    url: str
    project: str
    cursor: str | None = None
    """Up to here the gateway's changes were looked at."""
    files: dict[str, KnownFile] = {}
    unresolved: dict[str, int] = {}
    """Files whose change at the gateway could not be taken: the version that is known of each, 0 for none."""


class UnsafePath(ValueError):
    """A file of the gateway that cannot be in this folder."""


class Folder:
    """The files of a folder by their paths, which are those at the gateway."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unreadable: dict[str, str] = {}
        """Folders in it that could not be looked into at the last walk, and why."""
        self._rules: dict[str, GitIgnoreSpec | None] = {}

    # What was known

    def load_state(self) -> FolderState | None:
        """The state, or None if the folder was never pulled or pushed.

        Raises:
            msgspec.DecodeError
        """
        try:
            return msgspec.json.decode((self.root / STATE_FOLDER / _STATE).read_bytes(), type=FolderState)
        except FileNotFoundError:
            return None

    def save_state(self, state: FolderState) -> None:
        """Keep the state."""
        self._replace(self.root / STATE_FOLDER / _STATE, msgspec.json.format(msgspec.json.encode(state)))

    # Which files there are

    def paths(self) -> Iterator[str]:
        """The files that are not ignored. Links are left out: what they lead to may be anything."""
        self.unreadable.clear()
        return self._walk(self.root, "")

    def _walk(self, folder: Path, prefix: str) -> Iterator[str]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as fault:
            if not prefix:
                raise
            self.unreadable[prefix] = fault.strerror or str(fault)
            return
        for entry in entries:
            path = prefix + entry.name
            if entry.is_symlink() or _belongs_to_others(entry.name):
                continue
            if entry.is_dir():
                if not self._is_matched(path + "/"):
                    yield from self._walk(Path(entry.path), path + "/")
            elif entry.is_file() and not self._is_matched(path):
                yield path

    def ignores(self, path: str) -> bool:
        """Whether a `.gitignore` of the folder names a file, or a folder that it is in."""
        segments = path.split("/")
        if any(map(_belongs_to_others, segments)):
            return True
        parents = ("/".join(segments[:count]) + "/" for count in range(1, len(segments)))
        return any(self._is_matched(each) for each in (*parents, path))

    def _is_matched(self, path: str) -> bool:
        """The last pattern that fits decides, and of several files the one that is nearest."""
        folder = path.rstrip("/")
        while folder:
            folder = folder.rpartition("/")[0]
            rules = self._rules_of(folder)
            if rules is not None:
                verdict = rules.check_file(path[len(folder) + 1 :] if folder else path).include
                if verdict is not None:
                    return verdict
        return False

    def _rules_of(self, folder: str) -> GitIgnoreSpec | None:
        if folder not in self._rules:
            try:
                lines = (self.root / folder / ".gitignore").read_text(encoding="utf-8", errors="replace").splitlines()
                self._rules[folder] = GitIgnoreSpec.from_lines(lines)
            except (FileNotFoundError, NotADirectoryError):
                self._rules[folder] = None
        return self._rules[folder]

    # One file

    def place(self, path: str) -> Path:
        """Where a file is, or would be.

        Raises:
            UnsafePath: it would be outside, behind a link, or where it does not belong.
        """
        fault = path_fault(path)
        if fault is not None:
            raise UnsafePath(f"{path!r} cannot be at the gateway: {fault}")
        place = self.root / path
        root = self.root.resolve()
        if place.parent.resolve() != root.joinpath(*path.split("/")[:-1]) or place.is_symlink():
            raise UnsafePath(f"{path!r} lies behind a link")
        return place

    def read(self, path: str) -> bytes | None:
        """The content of a file; None if there is no file of this name."""
        try:
            return self.place(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def has(self, path: str) -> bool:
        """Whether there is a file of this name; told without reading it."""
        return self.place(path).is_file()

    def is_as_known(self, path: str, known: KnownFile) -> bool:
        """Whether a file is as it was when it was last equal to the gateway's."""
        try:
            found = self.place(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        if (found.st_size, found.st_mtime_ns) == (known.size, known.mtime_ns):
            return True
        content = self.read(path)
        return content is not None and sha256(content) == known.sha256

    def write(self, path: str, content: bytes) -> None:
        """Replace a file as a whole: nobody sees half of it."""
        place = self.place(path)
        self._replace(place, content, mode=place.stat().st_mode & 0o777 if place.exists() else 0o666 & ~_umask())

    def remove(self, path: str) -> None:
        """Delete a file, and the folders that are empty without it."""
        place = self.place(path)
        place.unlink(missing_ok=True)
        for folder in place.parents:
            if folder == self.root or any(folder.iterdir()):
                break
            folder.rmdir()

    def known(self, path: str, version: int, tag: str, content: bytes) -> KnownFile:
        """What is to be remembered of a file that has now this content."""
        found = self.place(path).stat()
        return KnownFile(version, tag, sha256(content), found.st_size, found.st_mtime_ns)

    def _replace(self, place: Path, content: bytes, mode: int = 0o600) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        (self.root / STATE_FOLDER).mkdir(exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self.root / STATE_FOLDER)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, mode)
            os.replace(name, place)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
