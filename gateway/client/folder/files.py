"""A folder of files on this machine, and what was last known of each: walking, ignoring, reading, replacing."""

import contextlib
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct
from pathspec import GitIgnoreSpec

from gateway.wire.values import path_fault

if sys.platform != "win32":
    import fcntl

STATE_FOLDER = ".yjs-gateway"
_STATE = "state.json"
_JOURNAL = "journal.jsonl"
_LOCK = "lock"
_NEVER = frozenset([".git", "git~1", STATE_FOLDER, "yjs-ga~1"])
"""Folders of these names are nobody else's business: what the gateway would put there is not taken either. (The names
with `~1` are the short names that Windows gives them.)"""
_UNSEEN = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
"""Characters that HFS+ does not see in a name (Git: `verify_dotgit`, CVE-2014-9390)."""


def _belongs_to_others(segment: str) -> bool:
    """Whether a file system may take a name for one of `_NEVER`. macOS does not see some characters, Windows ends a
    name at a colon and drops dots and blanks at its end, and both ignore case."""
    return _UNSEEN.sub("", segment).partition(":")[0].rstrip(" .").casefold() in _NEVER


_Stamp = tuple[int, int, int] | None


class KnownFile(Struct, frozen=True):
    """A file as both sides had it."""

    version: int
    tag: str
    sha256: str
    size: int
    mtime_ns: int
    """With `size`: where both are the same the file was not touched, and is not read."""


class SentText(Struct, frozen=True):
    """A text that was sent to the gateway, whose answer has not come."""

    base: int
    """The version that it was made of, 0 for none."""
    text: str


class FolderState(Struct):
    """What is kept in `.yjs-gateway/state.json`."""

    url: str
    project: str
    cursor: str | None = None
    """Up to here the gateway's changes were looked at."""
    files: dict[str, KnownFile] = {}
    unresolved: dict[str, int] = {}
    """Files whose change at the gateway could not be taken: the version that is known of each, 0 for none."""
    unanswered: dict[str, SentText] = {}
    """What was sent last of each file where it is not known what became of it. To send exactly that again is harmless;
    to send another text with the same base would insert twice what both texts have."""


class _Entry(Struct, frozen=True, omit_defaults=True):
    """A line of the journal: what became known of a file since `state.json` was written."""

    path: str
    known: KnownFile | None = None
    """None, unless `sent` is there: nothing is known any more."""
    sent: SentText | None = None
    """This is about to be sent."""
    renamed: str | None = None
    """A file in `.yjs-gateway` that is about to become the file. Where it is still there, that did not happen, and
    `known` is not true."""


class UnsafePath(ValueError):
    """A file of the gateway that cannot be in this folder."""


class Folder:
    """The files of a folder by their paths, which are those at the gateway."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unreadable: dict[str, str] = {}
        """Folders in it that could not be looked into at the last walk, and why."""
        self._rules: dict[str, tuple[_Stamp, GitIgnoreSpec | None]] = {}
        """The rules of each folder that was asked about, and which state of its `.gitignore` has them."""

    # What was known

    def load_state(self) -> FolderState | None:
        """The state, or None if the folder was never pulled or pushed.

        Raises:
            msgspec.DecodeError
        """
        try:
            state = msgspec.json.decode((self.root / STATE_FOLDER / _STATE).read_bytes(), type=FolderState)
        except FileNotFoundError:
            return None
        for entry in self._journal():
            if entry.sent is not None:
                state.unanswered[entry.path] = entry.sent
            elif entry.renamed is None or not (self.root / STATE_FOLDER / entry.renamed).exists():
                state.unanswered.pop(entry.path, None)
                if entry.known is None:
                    state.files.pop(entry.path, None)
                else:
                    state.files[entry.path] = entry.known
        return state

    def _journal(self) -> Iterator[_Entry]:
        try:
            lines = (self.root / STATE_FOLDER / _JOURNAL).read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for line in lines[:-1]:  # behind the last line feed is what was cut off
            yield msgspec.json.decode(line, type=_Entry)

    def save_state(self, state: FolderState) -> None:
        """Keep the state."""
        self._replace(self.root / STATE_FOLDER / _STATE, msgspec.json.format(msgspec.json.encode(state)))
        (self.root / STATE_FOLDER / _JOURNAL).unlink(missing_ok=True)  # if this fails, its lines say the same once more

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others away from the state (where the system has `flock`).

        Raises:
            BlockingIOError: somebody else has it.
        """
        (self.root / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
        with open(self.root / STATE_FOLDER / _LOCK, "a") as file:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield

    def drop_leftovers(self) -> None:
        """Delete what a process that was killed was about to put into its place. The state must have been loaded and
        saved before."""
        for file in (self.root / STATE_FOLDER).glob(f"{tempfile.gettempprefix()}*"):
            file.unlink(missing_ok=True)

    # The journal: what is known, between two times that the state is saved

    def note_sent(self, path: str, sent: SentText) -> None:
        """A text is about to be sent."""
        self._note(_Entry(path, sent=sent))

    def note(self, path: str, known: KnownFile | None) -> None:
        """What is known of a file now."""
        self._note(_Entry(path, known))

    def has_state(self) -> bool:
        """Whether the folder was pulled, pushed or live before."""
        return (self.root / STATE_FOLDER).is_dir()

    def has_journal(self) -> bool:
        """Whether anything was noted since the state was saved."""
        return (self.root / STATE_FOLDER / _JOURNAL).exists()

    def _note(self, entry: _Entry) -> None:
        with open(self.root / STATE_FOLDER / _JOURNAL, "ab", buffering=0) as file:
            file.write(msgspec.json.encode(entry) + b"\n")

    # Which files there are

    def paths(self) -> Iterator[str]:
        """The files that are not ignored. Links are left out: what they lead to may be anything."""
        self.unreadable.clear()
        return (path for path, _ in self._walk(self.root, ""))

    def sizes_and_times(self, prefix: str = "") -> dict[str, tuple[int, int]]:
        """The files that are not ignored, all or those of a folder (`a/b/`): size and time in ns of each."""
        found: dict[str, tuple[int, int]] = {}
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # the folder is gone
            for path, entry in self._walk(self.root / prefix, prefix):
                with contextlib.suppress(FileNotFoundError):
                    about = entry.stat(follow_symlinks=False)
                    found[path] = about.st_size, about.st_mtime_ns
        return found

    def is_of_others(self, path: str) -> bool:
        """Whether it is in Git's folder, or in the one of the state."""
        return any(map(_belongs_to_others, path.split(os.sep)))

    def forget_rules(self) -> None:
        """A `.gitignore` was changed: read them again."""
        self._rules = {}

    def _walk(self, folder: Path, prefix: str) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
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
                yield path, entry

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
            place = self.root / folder / ".gitignore"
            stamp = _stamp(place)
            try:
                lines = place.read_text(encoding="utf-8", errors="replace").splitlines()
                self._rules[folder] = stamp, GitIgnoreSpec.from_lines(lines)
            except (FileNotFoundError, NotADirectoryError):
                self._rules[folder] = stamp, None
        return self._rules[folder][1]

    def ignores_now(self, path: str) -> bool:
        """As `ignores`, also where a `.gitignore` was changed since it was read."""
        folder = path
        while folder:
            folder = folder.rpartition("/")[0]
            if folder in self._rules and self._rules[folder][0] != _stamp(self.root / folder / ".gitignore"):
                del self._rules[folder]
        return self.ignores(path)

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
        self._replace(place, content, mode=_mode(place))

    def prepare(self, path: str, content: bytes) -> Path:
        """Write what is to become a file beside all files, durably; `put_in_place` follows."""
        return self._aside(content, _mode(self.place(path)))

    def put_in_place(self, path: str, prepared: Path, known: KnownFile) -> bytes | None:
        """Replace a file by one that was prepared, and note what is known then: both or neither, whatever happens.

        Returns:
            What was replaced: it may have been written just before. None: there was nothing, or it cannot be told.
        """
        place = self.place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        self._note(_Entry(path, known, renamed=prepared.name))
        replaced = prepared.with_name(f"{prepared.name}.replaced")
        with contextlib.suppress(OSError):  # nothing is there, or the file system has no links
            os.link(place, replaced)
        os.replace(prepared, place)
        try:
            return replaced.read_bytes()
        except FileNotFoundError:
            return None
        finally:
            replaced.unlink(missing_ok=True)

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
        aside = self._aside(content, mode)
        try:
            os.replace(aside, place)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise

    def _aside(self, content: bytes, mode: int) -> Path:
        (self.root / STATE_FOLDER).mkdir(exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self.root / STATE_FOLDER)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, mode)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return Path(name)


def _mode(place: Path) -> int:
    """The mode of the file that is replaced, or of a new one."""
    return place.stat().st_mode & 0o777 if place.exists() else 0o666 & ~_umask()


def _stamp(place: Path) -> _Stamp:
    """What tells one state of a file from another; None: there is no file."""
    try:
        about = place.stat()
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
