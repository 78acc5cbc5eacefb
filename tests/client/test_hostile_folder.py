"""What a gateway or another process does to a folder: nothing is written or read outside of it."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.client.folder.files import Folder, UnsafePath, sha256
from gateway.client.folder.names import fault_on_windows
from gateway.client.folder.state import KnownFile

needs_links = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no links")

_KNOWN = KnownFile(1, "", "", 0, 0)


def _put(folder: Folder, path: str, content: bytes) -> None:
    folder.put_in_place(path, folder.prepare(path, content), _KNOWN, b"own")


_WAYS: dict[str, Callable[[Folder, str], object]] = {
    "write": lambda folder, path: folder.write(path, b"evil"),
    "put in place": lambda folder, path: _put(folder, path, b"evil"),
    "remove": lambda folder, path: folder.remove(path),
    "remove what is known": lambda folder, path: folder.remove_known(path, sha256(b"own")),
    "read": lambda folder, path: folder.read(path),
}


@needs_links
@pytest.mark.parametrize("way", _WAYS)
@pytest.mark.parametrize("path", ["docs/a.md", "docs/deep/a.md"])
def test_a_link_that_is_put_in_the_way_after_the_check_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, path: str
) -> None:
    outside, root = tmp_path / "outside", tmp_path / "work"
    (outside / "deep").mkdir(parents=True)
    for each in (outside / "a.md", outside / "deep" / "a.md"):
        each.write_text("secret")
    (root / path).parent.mkdir(parents=True)
    (root / path).write_text("own")
    folder = Folder(root)
    place = folder.place

    def place_and_swap(asked: str) -> Path:
        found = place(asked)
        if not (root / "docs").is_symlink():
            (root / "docs").rename(root / "moved")
            (root / "docs").symlink_to(outside)
        return found

    monkeypatch.setattr(folder, "place", place_and_swap)
    with pytest.raises(UnsafePath):
        _WAYS[way](folder, path)
    assert [each.read_text() for each in sorted(outside.rglob("a.md"))] == ["secret", "secret"]


@needs_links
def test_a_file_that_became_a_link_is_replaced_and_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "work").mkdir()
    folder = Folder(tmp_path / "work")

    def place_and_swap(asked: str) -> Path:
        found = folder.root / asked
        found.unlink(missing_ok=True)
        found.symlink_to(tmp_path / "secret")
        return found

    monkeypatch.setattr(folder, "place", place_and_swap)
    with pytest.raises(UnsafePath):
        folder.read("a.md")
    for put in (folder.write, lambda path, content: _put(folder, path, content)):
        put("a.md", b"theirs")
        assert (tmp_path / "secret").read_text() == "secret"
        assert (tmp_path / "work" / "a.md").read_text() == "theirs"


@needs_links
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    found: list[bytes | None] = []
    thread = threading.Thread(target=lambda: found.append(Folder(tmp_path).read("pipe.md")), daemon=True)
    thread.start()
    thread.join(120)
    assert found == [None]


@needs_links
def test_a_state_folder_that_is_a_link_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / ".yjs-gateway").symlink_to(tmp_path / "outside")
    with pytest.raises(NotADirectoryError), Folder(tmp_path / "work").state.locked():
        pass
    with pytest.raises(NotADirectoryError):
        Folder(tmp_path / "work").write("a.md", b"x")
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("path", ["../a", "a/../../b", "/etc/passwd", "a//b", ".", "..", "", "a/", "a\0b", "ﬀ/a\u0308"])
def test_a_path_that_no_file_can_have_is_refused(tmp_path: Path, path: str) -> None:
    folder = Folder(tmp_path / "work")
    for work in _WAYS.values():
        with pytest.raises(UnsafePath):
            work(folder, path)
    assert [each.name for each in tmp_path.iterdir()] in ([], ["work"])


@pytest.mark.parametrize(
    "path",
    [
        *("con", "CON.md", "docs/nul", "aux.tar.gz", "COM1", "lpt9.txt", "com\u00b9.md", "CONIN$", "a/prn/b"),
        *("a.", "a ", "docs./a", "docs /a", "a:b", "C:evil", "a.md::$DATA", "a\\b", "..\\a", "a?", "a*", 'a"b', "a|b"),
    ],
)
def test_what_is_another_file_on_windows_is_left_out_there(path: str) -> None:
    assert fault_on_windows(path) is not None


@pytest.mark.parametrize("path", ["console.md", "auxiliary", "com10", "null.py", ".con", "a.con", "größe.md", "a b"])
def test_names_that_are_only_like_devices_are_taken(path: str) -> None:
    assert fault_on_windows(path) is None
