"""The history of a file: its versions, the difference between two of them, and restoring one."""

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from msgspec import UNSET

from gateway.files.preconditions import Preconditions
from gateway.files.store import Files, Written
from gateway.pace import with_turns
from gateway.wire.files import History, TextDifference, TextEdit, VersionEntry
from gateway.wire.json import json_bytes
from gateway.wire.problems import FileDeleted, FileNotFound, NotAText, ProjectNotFound
from gateway.wire.values import rfc3339
from gateway.workers.pool import LIGHT_UNITS, compare_in_worker, in_worker
from gateway.yjs.diff import Difference, Work, differences
from gateway.yjs.roots import RootIsNotText, read_text
from gateway.yjs.text_edits import smallest_edits
from storage import Author, Storage, VersionRecord

T = TypeVar("T")

_SCAN_ROWS = 1000
_LONGEST_CREDENTIALS = 200
_SCANS = 16
"""One page of grouped versions scans at most `_SCANS` times `_SCAN_ROWS` rows of the log."""

_CELLS = 2**28
"""The work limit for comparing two texts, about 30 ms."""
_CONTEXT = 3
_NOTHING = "/dev/null"
"""The name that `diff -u` and `git diff` give to the side without a file."""
_HEAVY_BYTES = 20_000
"""Texts of at most this many bytes are compared in the event loop, longer ones in a worker process."""


class Versions:
    """The histories of all files."""

    def __init__(self, storage: Storage, files: Files) -> None:
        self._storage = storage
        self._files = files

    async def list_versions(self, project: str, path: str, before: int | None, limit: int) -> History:
        """Return a page of single versions, newest first. A deleted file has a history too.

        Raises:
            ProjectNotFound, FileNotFound
        """
        records = await self._read(project, path, before, limit + 1)
        entries = [_entry(record, record, record.credential) async for record in with_turns(records[:limit])]
        return History(entries, entries[-1].version if len(records) > limit else None)

    async def list_groups(self, project: str, path: str, before: int | None, limit: int, seconds: float) -> History:
        """Return a page of groups: consecutive versions by one author, each within `seconds` of the version before it.

        Raises:
            ProjectNotFound, FileNotFound
        """
        groups: list[_Group] = []
        for _ in range(_SCANS):
            records = await self._read(project, path, before, _SCAN_ROWS)
            async for record in with_turns(records):
                if groups and _joins(groups[-1].oldest, record, seconds):
                    groups[-1].oldest = record
                elif len(groups) == limit:
                    return _grouped(groups, more=True)
                else:
                    groups.append(_Group(record))
                if record.credential is not None:
                    groups[-1].credentials[record.credential] = None
                before = record.version
            if len(records) < _SCAN_ROWS:
                return _grouped(groups, more=False)
        return _grouped(groups, more=True)

    async def _read(self, project: str, path: str, before: int | None, limit: int) -> list[VersionRecord]:
        answer = await self._storage.read_history(project, path, before=before, limit=limit)
        if answer is not None:
            return answer[1]
        if await self._storage.project_head(project) is None:
            raise ProjectNotFound(project)
        raise FileNotFound(path)

    async def unified_diff(self, project: str, path: str, older: int, newer: int, root: str) -> bytes:
        """Return the difference of the text of a root between two versions, in the format of `diff -u` and in UTF-8."""
        texts = await self._texts(project, path, older, newer, root)
        return await _compare(functools.partial(_unified, names=(_name(path, older), _name(path, newer))), texts)

    async def news_of(
        self, project: str, path: str, older: int, newer: int, root: str, most_bytes: int
    ) -> tuple[bytes, int] | None:
        """Return the unified diff for a client that has the older version, as a JSON string, and its length in UTF-8;
        None if that is more than `most_bytes`. At a version where the file does not exist, its text is empty and its
        name is `/dev/null`.

        Raises:
            NotAText: the newer version has other roots, but not this one.
        """
        old, old_name = await self._text_or_nothing(project, path, older, root, absent=True)
        new, new_name = await self._text_or_nothing(project, path, newer, root, absent=False)
        unified = functools.partial(_unified_within, names=(old_name, new_name), most_bytes=most_bytes)
        return await _compare(unified, (old, new))

    async def authors(self, project: str, path: str, older: int, newer: int) -> list[str]:
        """Return the authors of the versions after `older` up to `newer`, ordered by their first version. At most the
        newest 1,000 of these versions are read."""
        records = await self._read(project, path, newer + 1, min(newer - older, _SCAN_ROWS))
        authors = (record.author for record in reversed(records) if record.version > older)
        return list(dict.fromkeys(author for author in authors if author is not None))

    async def _text_or_nothing(
        self, project: str, path: str, version: int, root: str, *, absent: bool
    ) -> tuple[bytes, str]:
        """Return the text of a version in UTF-8, and its name in a diff."""
        if version == 0:
            return b"", _NOTHING
        try:
            return await self._text(project, path, version, root, absent=absent), _name(path, version)
        except FileDeleted:
            return b"", _NOTHING

    async def text_difference(self, project: str, path: str, older: int, newer: int, root: str) -> bytes:
        """Return the difference of the text of a root between two versions as a list of edits of ranges: a
        `TextDifference` in JSON, which is written where the texts are compared."""
        texts = await self._texts(project, path, older, newer, root)
        return await _compare(functools.partial(_ranges, versions=(older, newer)), texts)

    async def _texts(self, project: str, path: str, older: int, newer: int, root: str) -> tuple[bytes, bytes]:
        return (
            await self._text(project, path, older, root, absent=True),
            await self._text(project, path, newer, root, absent=True),
        )

    async def _text(self, project: str, path: str, version: int, root: str, *, absent: bool) -> bytes:
        content = await self._files.read_at(project, path, version)
        try:
            read = functools.partial(_read_text, root=root, absent=absent)
            return await in_worker(read, [content.update], units=LIGHT_UNITS)
        except RootIsNotText as error:
            raise NotAText(str(error), error.roots) from None

    async def restore(
        self, project: str, path: str, version: int, preconditions: Preconditions, author: Author
    ) -> Written:
        """Restore the content of a file at a version by a new edit. This also restores a deleted file."""
        content = await self._files.read_at(project, path, version)
        return await self._files.restore(project, path, content.update, preconditions, author)


def _name(path: str, version: int) -> str:
    return f"{path} (version {version})"


def _joins(newer: VersionRecord, older: VersionRecord, seconds: float) -> bool:
    together = newer.last_modified - older.last_modified <= seconds * 1000
    return together and newer.author == older.author and not newer.deleted and not older.deleted


class _Group:
    """Consecutive versions by one author."""

    __slots__ = ("credentials", "newest", "oldest")

    def __init__(self, record: VersionRecord) -> None:
        self.newest = self.oldest = record
        self.credentials: dict[str, None] = {}


def _grouped(groups: list[_Group], *, more: bool) -> History:
    entries = [_entry(group.newest, group.oldest, ", ".join(group.credentials)) for group in groups]
    return History(entries, groups[-1].oldest.version if more else None)


def _entry(newest: VersionRecord, oldest: VersionRecord, credential: str | None) -> VersionEntry:
    return VersionEntry(
        newest.version,
        rfc3339(newest.last_modified),
        newest.size,
        newest.author,
        credential=credential[:_LONGEST_CREDENTIALS] if credential else UNSET,
        deleted=True if newest.deleted else UNSET,
        first_version=UNSET if newest is oldest else oldest.version,
    )


async def _compare(compare: Callable[[bytes, bytes], T], texts: tuple[bytes, bytes]) -> T:
    """Compare texts in UTF-8. Long ones come from a worker process and go to one, and are decoded there only."""
    if max(map(len, texts)) <= _HEAVY_BYTES:
        return compare(*texts)
    return await compare_in_worker(compare, *texts)


def _read_text(parts: Sequence[bytes], root: str, absent: bool) -> bytes:
    return read_text(parts, root, absent=absent).encode()


def _unified_within(older: bytes, newer: bytes, names: tuple[str, str], most_bytes: int) -> tuple[bytes, int] | None:
    unified = _unified(older, newer, names)
    return (json_bytes(unified.decode()), len(unified)) if len(unified) <= most_bytes else None


def _unified(older: bytes, newer: bytes, names: tuple[str, str]) -> bytes:
    old, new = _lines(older.decode()), _lines(newer.decode())
    found = differences(old, new, Work(_CELLS))
    if not found:
        return b""
    lines = [f"--- {names[0]}\n", f"+++ {names[1]}\n"]
    for hunk in _hunks(found):
        old_start, new_start = max(hunk[0].old_start - _CONTEXT, 0), max(hunk[0].new_start - _CONTEXT, 0)
        old_end, new_end = min(hunk[-1].old_end + _CONTEXT, len(old)), min(hunk[-1].new_end + _CONTEXT, len(new))
        lines.append(f"@@ -{_range(old_start, old_end)} +{_range(new_start, new_end)} @@\n")
        position = old_start
        for each in hunk:
            lines += [f" {line}" for line in old[position : each.old_start]]
            lines += [f"-{line}" for line in old[each.old_start : each.old_end]]
            lines += [f"+{line}" for line in new[each.new_start : each.new_end]]
            position = each.old_end
        lines += [f" {line}" for line in old[position:old_end]]
    joined = "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)
    return joined.encode()


def _hunks(found: Sequence[Difference]) -> Iterator[list[Difference]]:
    """Group the differences whose context lines meet or overlap."""
    hunk = [found[0]]
    for each in found[1:]:
        if each.old_start - hunk[-1].old_end > 2 * _CONTEXT:
            yield hunk
            hunk = []
        hunk.append(each)
    yield hunk


def _range(start: int, end: int) -> str:
    """Return a line range as `diff -u` writes it: counted from 1, an empty range by the line before it."""
    count = end - start
    if count == 1:
        return f"{start + 1}"
    return f"{start + 1 if count else start},{count}"


def _lines(text: str) -> list[str]:
    """Split a text into lines as `diff` does: only a line feed ends a line."""
    return [line for line in re.split(r"(?<=\n)", text) if line]


def _ranges(older: bytes, newer: bytes, versions: tuple[int, int]) -> bytes:
    edits = smallest_edits(older.decode(), newer.decode())
    return json_bytes(TextDifference(*versions, [TextEdit(edit.start, edit.end, edit.text) for edit in edits]))
