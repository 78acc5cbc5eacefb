"""Documents to measure with, and databases that hold them."""

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pycrdt

from gateway.yjs.snapshots import compress
from storage import AppendUpdate, Snapshot, Version
from storage.sqlite import SQLiteStorage

PROJECT = "demo"
_WORD = "lorem ipsum dolor sit amet "
_QUEUE = 4096


def keystrokes(count: int, *, seed: int = 0) -> list[bytes]:
    """The updates of somebody who types: some words, a few of the last letters taken back, and sometimes on at another
    place. One update a keystroke, as an editor sends them."""
    writer = _Writer(seed)
    place = 0
    while len(writer.updates) < count:
        if writer.chance.random() < 0.2:
            place = writer.somewhere()
        for letter in _WORD * writer.chance.randint(1, 3):
            writer.insert(place, letter)
            place += 1
        for _ in range(writer.chance.randint(0, 8)):
            place -= 1
            writer.delete(place)
    return writer.updates[:count]


def scattered(size: int, last_keystrokes: int, *, seed: int = 0) -> list[bytes]:
    """The updates of a document of about `size` bytes into which sentences were put here and there; then keystrokes."""
    writer = _Writer(seed)
    for _ in range(max(size // 133, 1)):  # what such a sentence takes
        writer.insert(writer.somewhere(), _WORD * 4)
    return _with_keystrokes(writer, last_keystrokes)


def pasted(size: int, last_keystrokes: int, *, seed: int = 0) -> list[bytes]:
    """The same size in pieces of 4 KB, one after the other: what an agent writes. Then keystrokes."""
    writer = _Writer(seed)
    for _ in range(max(size // 4096, 1)):
        writer.insert(len(writer), (_WORD * 160)[: min(size, 4060)])
    return _with_keystrokes(writer, last_keystrokes)


def _with_keystrokes(writer: "_Writer", count: int) -> list[bytes]:
    place = len(writer) // 2
    for number in range(count):
        writer.insert(place + number, "x")
    return writer.updates


class _Writer:
    """A replica whose updates are kept. Its text is ASCII, so that places are the same in bytes and in characters."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.updates: list[bytes] = []
        self._document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=1_000_000 + seed)
        self._text = self._document.get("content", type=pycrdt.Text)
        self._length = 0
        self._document.observe(lambda event: self.updates.append(event.update))

    def __len__(self) -> int:
        return self._length

    def somewhere(self) -> int:
        """A place near the beginning: to go further into the text takes pycrdt so long that nothing would be ready."""
        return self.chance.randint(0, min(len(self), 4000))

    def insert(self, place: int, text: str) -> None:
        self._text.insert(place, text)
        self._length += len(text)

    def delete(self, place: int) -> None:
        del self._text[place : place + 1]
        self._length -= 1


def document_of(updates: Iterable[bytes]) -> "pycrdt.Doc[Any]":
    """The document that updates make."""
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    for update in updates:
        document.apply_update(update)
    return document


def fill(database: Path, files: Mapping[str, Sequence[bytes]], *, snapshots_behind: int | None = None) -> None:
    """Put files, given as their updates, into a gateway's database.

    Args:
        snapshots_behind: keep a snapshot of each file, so many versions before its newest.
    """
    asyncio.run(_fill(database, files, snapshots_behind))


async def _fill(database: Path, files: Mapping[str, Sequence[bytes]], snapshots_behind: int | None) -> None:
    storage = await SQLiteStorage.open(database)
    try:
        queued = []
        for path, updates in files.items():
            for version, update in enumerate(updates):
                queued.append(storage.append(PROJECT, (AppendUpdate(path, Version(version), update),)))
                if len(queued) == _QUEUE:
                    await asyncio.gather(*queued)
                    queued.clear()
        await asyncio.gather(*queued)
        if snapshots_behind is not None:
            for path, updates in files.items():
                covered = len(updates) - snapshots_behind
                body = document_of(updates[:covered]).get_update()
                await storage.put_snapshot(PROJECT, path, Snapshot(Version(covered), compress(body)))
    finally:
        await storage.close()
