"""A local folder and the last known state of its files: walking, reading, replacing."""

import contextlib
import errno
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.client.folder.atomic_rename import exchange, rename_exclusively
from gateway.client.folder.names import STATE_FOLDER, IgnoreRules, belongs_to_others, fault_on_windows
from gateway.wire.values import path_fault

if sys.platform != "win32":
    import fcntl

_STATE = "state.json"
_JOURNAL = "journal.jsonl"
_LOCK = "lock"
_OPENS_FOLDERS = {os.open, os.mkdir, os.unlink, os.rmdir, os.stat, os.link, os.rename} <= os.supports_dir_fd
"""Whether folders can be opened, and files be reached from there: then no link that is put in the way meanwhile leads
elsewhere."""
_FOLDER_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_READ_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)  # opening a FIFO does not wait for a writer

_MOST_READS = 10
_REPLACED = ".replaced"


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


class _Entry(Struct, frozen=True, omit_defaults=True):
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


class Placed(Struct, frozen=True):
    """What became of a file that was replaced."""

    replaced: Path | None
    """Where the replaced file is now, if it still is; to be deleted by the caller."""
    since_ns: int
    """When it was replaced, by the clock of the file system, or a little before."""


class UnsafePath(ValueError):
    """A file of the gateway that cannot be placed in this folder."""


class Folder:
    """The files of a folder, by the same paths as at the gateway."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unreadable: dict[str, str] = {}
        """Subfolders that could not be listed in the last walk, each with the reason."""
        self.rules = IgnoreRules(root)

    # The known state

    def load_state(self) -> FolderState | None:
        """Load the state; None if the folder was never pulled or pushed.

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
            found = (self.root / STATE_FOLDER / prepared).lstat().st_ino
            return inode is not None and found != inode
        except FileNotFoundError:
            return True

    def _replaced_save(self, prepared: str, expected: str) -> UnmergedSave | None:
        """Return the save that a process replaced just before it was killed, if there was one."""
        for name in (prepared, prepared + _REPLACED):
            place = self.root / STATE_FOLDER / name
            with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
                content = place.read_bytes() if stat.S_ISREG(place.lstat().st_mode) else b""
                if content and content != expected.encode():
                    return UnmergedSave(expected, content.decode())
        return None

    def _journal(self) -> Iterator[_Entry]:
        try:
            lines = (self.root / STATE_FOLDER / _JOURNAL).read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for line in lines[:-1]:  # after the last line feed there may be a truncated line
            yield msgspec.json.decode(line, type=_Entry)

    def save_state(self, state: FolderState) -> None:
        """Save the state, and delete the journal."""
        self._replace(self.root / STATE_FOLDER / _STATE, msgspec.json.format(msgspec.json.encode(state)))
        (self.root / STATE_FOLDER / _JOURNAL).unlink(missing_ok=True)  # if this fails, its lines only repeat the state

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the state against other processes (on systems with `flock`).

        Raises:
            BlockingIOError: another process holds the lock.
        """
        self._make_state_folder()
        with open(self.root / STATE_FOLDER / _LOCK, "a") as file:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield

    def _make_state_folder(self) -> None:
        place = self.root / STATE_FOLDER
        if place.is_symlink():
            raise NotADirectoryError(errno.ENOTDIR, "it is a link", str(place))
        place.mkdir(parents=True, exist_ok=True)

    def drop_leftovers(self) -> None:
        """Delete the temporary files of a killed process. The state must have been loaded and saved before."""
        for file in (self.root / STATE_FOLDER).glob(f"{tempfile.gettempprefix()}*"):
            file.unlink(missing_ok=True)

    # The journal: the changes of the known state since the state was last saved

    def note_sent(self, path: str, sent: SentText) -> None:
        """Record that a text is about to be sent."""
        self._note(_Entry(path, sent=sent))

    def note(self, path: str, known: KnownFile | None) -> None:
        """Record the known state of a file."""
        self._note(_Entry(path, known))

    def has_state(self) -> bool:
        """Whether the folder was ever pulled, pushed or kept live."""
        return (self.root / STATE_FOLDER).is_dir()

    def has_journal(self) -> bool:
        """Whether anything was recorded since the state was saved."""
        return (self.root / STATE_FOLDER / _JOURNAL).exists()

    def _note(self, entry: _Entry) -> None:
        with open(self.root / STATE_FOLDER / _JOURNAL, "ab", buffering=0) as file:
            file.write(msgspec.json.encode(entry) + b"\n")

    # Listing files

    def paths(self) -> Iterator[str]:
        """Yield the files that are not ignored. Symbolic links are skipped, as their targets may be anything."""
        self.unreadable.clear()
        return (path for path, _ in self._walk(self.root, ""))

    def sizes_and_times(self, prefix: str = "") -> dict[str, tuple[int, int]]:
        """Return size and mtime (ns) of the files that are not ignored, of all or of one subfolder (`a/b/`)."""
        found: dict[str, tuple[int, int]] = {}
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # the folder is gone
            for path, entry in self._walk(self.root / prefix, prefix):
                with contextlib.suppress(FileNotFoundError):
                    about = entry.stat(follow_symlinks=False)
                    found[path] = about.st_size, about.st_mtime_ns
        return found

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
            if entry.is_symlink() or belongs_to_others(entry.name):
                continue
            if entry.is_dir():
                if not self.rules.match(path + "/"):
                    yield from self._walk(Path(entry.path), path + "/")
            elif entry.is_file() and not self.rules.match(path):
                yield path, entry

    # One file

    def place(self, path: str) -> Path:
        """Return the location of a file, existing or not.

        Raises:
            UnsafePath: the path is invalid, leaves the folder, or leads through a symbolic link.
        """
        fault = path_fault(path)
        if fault is not None:
            raise UnsafePath(f"{path!r} cannot be at the gateway: {fault}")
        fault = fault_on_windows(path) if sys.platform == "win32" else None
        if fault is not None:
            raise UnsafePath(fault)
        place = self.root / path
        root = self.root.resolve()
        if place.parent.resolve() != root.joinpath(*path.split("/")[:-1]) or place.is_symlink():
            raise UnsafePath(f"{path!r} lies behind a link")
        return place

    @contextlib.contextmanager
    def _at(self, path: str, *, make: bool = False) -> Iterator[tuple[str, int | None]]:
        """Open the folder of a file; yield the file's name there, and the folder for `dir_fd`.

        Args:
            make: whether to make the folders that are missing.

        Raises:
            UnsafePath: see `place`; also if a link has been put in the way since.
            FileNotFoundError, NotADirectoryError
        """
        place = self.place(path)
        if make:
            self.root.mkdir(parents=True, exist_ok=True)
        if not _OPENS_FOLDERS:
            if make:
                place.parent.mkdir(parents=True, exist_ok=True)
            yield str(place), None
            return
        *folders, name = path.split("/")
        folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for each in folders:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(each, dir_fd=folder)
                inner = _open_folder(path, each, folder)
                os.close(folder)
                folder = inner
            yield name, folder
        finally:
            os.close(folder)

    def read(self, path: str) -> bytes | None:
        """Read the content of a file; None if there is no such file."""
        found = self.look(path)
        return None if found is None else found[1]

    def look(self, path: str) -> "tuple[os.stat_result, bytes] | None":
        """Read a file with its stat result, as `read_regular` does."""
        try:
            with self._at(path) as (name, folder):
                if _is_link(name, folder):
                    raise UnsafePath(f"{path!r} lies behind a link")
                return read_regular(name, folder)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def has(self, path: str) -> bool:
        """Whether a file exists, without reading it."""
        return self.place(path).is_file()

    def is_as_known(self, path: str, known: KnownFile) -> bool:
        """Whether a file is unchanged since it was last equal to the gateway's."""
        try:
            found = self.place(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        if (found.st_size, found.st_mtime_ns) == (known.size, known.mtime_ns):
            return True
        content = self.read(path)
        return content is not None and sha256(content) == known.sha256

    def write(self, path: str, content: bytes) -> None:
        """Replace a file atomically."""
        aside = self._aside(content, _mode(self.place(path)))
        try:
            with self._at(path, make=True) as (name, folder):
                os.replace(aside, name, dst_dir_fd=folder)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise

    def prepare(self, path: str, content: bytes) -> Path:
        """Durably write new content to a temporary file in the state folder, for `put_in_place`."""
        return self._aside(content, _mode(self.place(path)))

    def put_in_place(self, path: str, prepared: Path, known: KnownFile, expected: bytes | None) -> "Placed":
        """Replace a file by a prepared one and record its known state: both or neither, even after a crash.

        Where the system can exchange two files, no save is lost, however late it comes. Elsewhere one that comes
        between the last look at the file and the rename is.

        Args:
            expected: the content that the file had last; None: there is to be no file.

        Raises:
            FileExistsError: there was to be no file, but there is one.
        """
        before = prepared.stat()
        replaced: Path | None = prepared
        with self._at(path, make=True) as (name, folder):
            self._note(
                _Entry(path, known, None, prepared.name, before.st_ino, None if expected is None else _text(expected))
            )
            if expected is None:
                replaced = None
                if not rename_exclusively(prepared, name, folder):
                    os.replace(prepared, name, dst_dir_fd=folder)
            else:
                replaced = self._exchange(prepared, name, folder)
            since_ns = before.st_mtime_ns
            with contextlib.suppress(OSError):  # it was replaced or deleted already
                after = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if after.st_ino == before.st_ino and sys.platform != "win32":
                    since_ns = after.st_ctime_ns
        return Placed(replaced, since_ns)

    def _exchange(self, prepared: Path, name: str, folder: int | None) -> Path | None:
        """Rename a prepared file to a name; return where the file is now that had the name."""
        try:
            if exchange(name, folder, prepared):
                if not prepared.is_dir() or prepared.is_symlink():
                    return prepared
                exchange(name, folder, prepared)  # a folder has come there
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        except FileNotFoundError:  # it was deleted just before
            os.replace(prepared, name, dst_dir_fd=folder)
            return None
        replaced = prepared.with_name(prepared.name + _REPLACED)
        with contextlib.suppress(OSError):  # there is no file, or the file system has no hard links
            os.link(name, replaced, src_dir_fd=folder, follow_symlinks=False)
        os.replace(prepared, name, dst_dir_fd=folder)
        return replaced

    def put_back(self, path: str, replaced: Path) -> None:
        """Put a replaced file back."""
        with self._at(path) as (name, folder):
            os.replace(replaced, name, dst_dir_fd=folder)

    def remove(self, path: str) -> None:
        """Delete a file, and the parent folders that are empty afterwards."""
        with contextlib.suppress(FileNotFoundError), self._at(path) as (name, folder):
            os.unlink(name, dir_fd=folder)
        self._remove_empty_above(path)

    def remove_known(self, path: str, sha256_known: str) -> bool:
        """Delete a file like `remove` if it has a content; returns whether it was deleted.

        What is saved at that moment is kept.
        """
        self._make_state_folder()
        descriptor, aside = tempfile.mkstemp(dir=self.root / STATE_FOLDER)
        os.close(descriptor)
        with self._at(path) as (name, folder):
            os.replace(name, aside, src_dir_fd=folder)
            removed = _is_known(Path(aside), sha256_known)
            with contextlib.suppress(FileExistsError):  # it was saved once more
                if not removed and not rename_exclusively(Path(aside), name, folder):
                    os.replace(aside, name, dst_dir_fd=folder)
        Path(aside).unlink(missing_ok=True)
        if removed:
            self._remove_empty_above(path)
        return removed

    def _remove_empty_above(self, path: str) -> None:
        above = path.rpartition("/")[0]
        with contextlib.suppress(OSError):  # it is not empty
            while above:
                with self._at(above) as (name, folder):
                    os.rmdir(name, dir_fd=folder)
                above = above.rpartition("/")[0]

    def known(self, path: str, version: int, tag: str, content: bytes) -> KnownFile:
        """Return the known state of a file that now has this content."""
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
        self._make_state_folder()
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


def read_regular(name: str | Path, folder: int | None = None) -> tuple[os.stat_result, bytes] | None:
    """Read a file with the stat result that the content had; None if it is no regular file.

    A file that is written at this moment is read again. If that does not end, the stat result is of before.
    """
    with open(os.open(name, _READ_FLAGS, dir_fd=folder), "rb") as file:
        for _ in range(_MOST_READS):
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                return None
            file.seek(0)
            content = file.read()
            after = os.fstat(file.fileno())
            if (before.st_mtime_ns, len(content)) == (after.st_mtime_ns, after.st_size):
                break
    return before, content


def _is_link(name: str, folder: int | None) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    return False


def _open_folder(path: str, name: str, folder: int) -> int:
    """Open a subfolder of a folder, which must not be a link."""
    try:
        return os.open(name, _FOLDER_FLAGS, dir_fd=folder)
    except OSError:
        if _is_link(name, folder):
            raise UnsafePath(f"{path!r} lies behind a link") from None
        raise


def _mode(place: Path) -> int:
    """Return the mode of the file to be replaced, or the default mode of a new file."""
    return place.stat().st_mode & 0o777 if place.exists() else 0o666 & ~_umask()


def _is_known(file: Path, sha256_known: str) -> bool:
    return stat.S_ISREG(file.lstat().st_mode) and sha256(file.read_bytes()) == sha256_known


def _text(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
