"""The files of a local folder: walking, reading, replacing."""

import contextlib
import errno
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from gateway.client.folder.atomic_rename import exchange, rename_exclusively
from gateway.client.folder.names import STATE_FOLDER, IgnoreRules, belongs_to_others, fault_on_windows
from gateway.client.folder.state import REPLACED, JournalEntry, KnownFile, StateFolder
from gateway.wire.values import path_fault

_OPENS_FOLDERS = {os.open, os.mkdir, os.unlink, os.rmdir, os.stat, os.link, os.rename} <= os.supports_dir_fd
"""Whether folders can be opened, and files be reached from there: then no link that is put in the way meanwhile leads
elsewhere."""
_FOLDER_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_READ_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)  # opening a FIFO does not wait for a writer

_MOST_READS = 10


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
        self.state = StateFolder(root / STATE_FOLDER)

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
        aside = self.state.write_aside(content, _mode(self.place(path)))
        try:
            with self._at(path, make=True) as (name, folder):
                os.replace(aside, name, dst_dir_fd=folder)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise

    def prepare(self, path: str, content: bytes) -> Path:
        """Durably write new content to a temporary file in the state folder, for `put_in_place`."""
        return self.state.write_aside(content, _mode(self.place(path)))

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
            text = None if expected is None else _text(expected)
            self.state.note_entry(JournalEntry(path, known, None, prepared.name, before.st_ino, text))
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
        replaced = prepared.with_name(prepared.name + REPLACED)
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
        self.state.make()
        descriptor, aside = tempfile.mkstemp(dir=self.state.place)
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
