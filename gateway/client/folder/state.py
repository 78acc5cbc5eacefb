"""The known state of a folder's files, and the journal of its changes: the content of `.yjs-gateway`."""

import contextlib
import errno
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

if sys.platform != "win32":
    import fcntl

_STATE = "state.json"
_JOURNAL = "journal.jsonl"
_LOCK = "lock"
REPLACED = ".replaced"
"""How the name of a replaced file ends that could not be exchanged for the prepared one."""


class KnownFile(Struct, frozen=True):
    """The last state of a file in which both sides were equal."""

    version: int
    tag: str
    sha256: str
    size: int
    mtime_ns: int
    """If `mtime_ns` and `size` are unchanged, the file counts as untouched and is not read."""


class SentText(Struct, frozen=True):
    """A text that was sent to the gateway without an answer so far."""

    base: int
    """The version that the text is based on; 0 for none."""
    text: str


class UnmergedSave(Struct, frozen=True):
    """A local save that was replaced by a text of the gateway, and is not merged into that text yet."""

    base: str
    """The text that the save was made from."""
    text: str


class FolderState(Struct):
    """The content of `.yjs-gateway/state.json`."""

    url: str
    project: str
    cursor: str | None = None
    """The cursor up to which the gateway's changes were processed."""
    files: dict[str, KnownFile] = {}
    unresolved: dict[str, int] = {}
    """Files whose change at the gateway could not be applied: the last known version of each, 0 for none."""
    unanswered: dict[str, SentText] = {}
    """The text sent last for each file whose answer is unknown. Resending exactly that text is harmless; sending a
    different text with the same base would insert twice what both texts contain."""
    unmerged: dict[str, UnmergedSave] = {}

    def know(self, path: str, known: KnownFile | None) -> None:
        """Set the known state of a file, or with None forget it. A text that was sent is answered by that."""
        self.unanswered.pop(path, None)
        if known is None:
            self.files.pop(path, None)
        else:
            self.files[path] = known


class JournalEntry(Struct, frozen=True, omit_defaults=True):
    """A line of the journal: a change of a file's known state since `state.json` was written."""

    path: str
    known: KnownFile | None = None
    """The known state; None without `sent`: the file is no longer known."""
    sent: SentText | None = None
    """The text that is about to be sent."""
    renamed: str | None = None
    """A file in `.yjs-gateway` that is about to be renamed to the path. If it still exists, the rename did not happen,
    and `known` does not hold."""
    inode: int | None = None
    """The inode of that file: if another one has its name, they were exchanged, and it is what was replaced."""
    replaced: str | None = None
    """The text that the rename is to replace. If another one was replaced, that is a save."""


class StateFolder:
    """The folder `.yjs-gateway` in the folder of the files."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def exists(self) -> bool:
        """Whether the folder was ever pulled, pushed or kept live."""
        return self.place.is_dir()

    def load(self) -> FolderState | None:
        """Load the state; None if the folder was never pulled or pushed.

        Raises:
            msgspec.DecodeError
        """
        try:
            state = msgspec.json.decode((self.place / _STATE).read_bytes(), type=FolderState)
        except FileNotFoundError:
            return None
        for entry in self._journal():
            if entry.sent is not None:
                state.unanswered[entry.path] = entry.sent
            elif entry.renamed is None or self._was_renamed(entry.renamed, entry.inode):
                state.unanswered.pop(entry.path, None)
                state.unmerged.pop(entry.path, None)
                if entry.known is None:
                    state.files.pop(entry.path, None)
                else:
                    state.files[entry.path] = entry.known
                if entry.renamed is not None and entry.replaced is not None:
                    save = self._replaced_save(entry.renamed, entry.replaced)
                    if save is not None:
                        state.unmerged[entry.path] = save
        return state

    def _was_renamed(self, prepared: str, inode: int | None) -> bool:
        try:
            found = (self.place / prepared).lstat().st_ino
            return inode is not None and found != inode
        except FileNotFoundError:
            return True

    def _replaced_save(self, prepared: str, expected: str) -> UnmergedSave | None:
        """Return the save that a process replaced just before it was killed, if there was one."""
        for name in (prepared, prepared + REPLACED):
            place = self.place / name
            with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
                content = place.read_bytes() if stat.S_ISREG(place.lstat().st_mode) else b""
                if content and content != expected.encode():
                    return UnmergedSave(expected, content.decode())
        return None

    def _journal(self) -> Iterator[JournalEntry]:
        try:
            lines = (self.place / _JOURNAL).read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for line in lines[:-1]:  # after the last line feed there may be a truncated line
            yield msgspec.json.decode(line, type=JournalEntry)

    def save(self, state: FolderState) -> None:
        """Save the state, and delete the journal."""
        aside = self.write_aside(msgspec.json.format(msgspec.json.encode(state)), 0o600)
        try:
            os.replace(aside, self.place / _STATE)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        (self.place / _JOURNAL).unlink(missing_ok=True)  # if this fails, its lines only repeat the state

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the state against other processes (on systems with `flock`).

        Raises:
            BlockingIOError: another process holds the lock.
        """
        self.make()
        with open(self.place / _LOCK, "a") as file:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield

    def make(self) -> None:
        """Create the folder if there is none.

        Raises:
            NotADirectoryError: there is a link with its name.
        """
        if self.place.is_symlink():
            raise NotADirectoryError(errno.ENOTDIR, "it is a link", str(self.place))
        self.place.mkdir(parents=True, exist_ok=True)

    def drop_leftovers(self) -> None:
        """Delete the temporary files of a killed process. The state must have been loaded and saved before."""
        for file in self.place.glob(f"{tempfile.gettempprefix()}*"):
            file.unlink(missing_ok=True)

    # The journal: the changes of the known state since the state was last saved

    def note_sent(self, path: str, sent: SentText) -> None:
        """Record that a text is about to be sent."""
        self.note_entry(JournalEntry(path, sent=sent))

    def note(self, path: str, known: KnownFile | None) -> None:
        """Record the known state of a file."""
        self.note_entry(JournalEntry(path, known))

    def has_journal(self) -> bool:
        """Whether anything was recorded since the state was saved."""
        return (self.place / _JOURNAL).exists()

    def note_entry(self, entry: JournalEntry) -> None:
        """Append a line to the journal."""
        with open(self.place / _JOURNAL, "ab", buffering=0) as file:
            file.write(msgspec.json.encode(entry) + b"\n")

    # Files that are to take the place of others

    def write_aside(self, content: bytes, mode: int) -> Path:
        """Durably write a content to a temporary file in this folder, and return the file."""
        self.make()
        descriptor, name = tempfile.mkstemp(dir=self.place)
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
