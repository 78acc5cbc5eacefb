"""The tools of an agent: their parameters, and the text that they answer. They know a project, and no protocol."""

import codecs
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gateway.client import GatewayError, Project, RequestedEdit, WithETag
from gateway.client.errors import EditNotApplicable, NotAText, PreconditionFailed, ProjectNotFound
from gateway.mcp.desk import Desk
from gateway.mcp.long_texts import put_back_long_texts
from gateway.pace import with_turns
from gateway.wire.changes import FeedEntry, FileFeedEntry
from gateway.wire.files import Receipt

_LINES = 2000
_LONGEST_ANSWER = 256 * 1024
"""Approximate characters of the lines that one read answers."""
_COUNTED = 2**18
"""Bytes in which lines or characters are counted at once."""
_SEARCHED = 2**14
"""Bytes in which each line is looked for."""
_LONGEST_CHARACTER = 4
"""Bytes."""
_MOST_FILES = 1000

_LONGEST_NAME = 1024
"""Characters of a path, a prefix or a cursor: more than any has, and less than a URL holds."""

_LONGEST_EDIT = 2**20
"""Characters of a text that an edit replaces, or replaces it with."""

Path = Annotated[
    str,
    Meta(
        min_length=1, max_length=_LONGEST_NAME, description="The path of the file in the project, as in docs/plan.md."
    ),
]
_Count = Annotated[int, Meta(ge=1)]


class Refused(Exception):
    """The tool has done nothing; the message tells the agent why."""


class ListFiles(Struct, frozen=True, forbid_unknown_fields=True):
    prefix: Annotated[str, Meta(max_length=_LONGEST_NAME, description="Only paths that begin so, as in docs/.")] = ""
    after: Annotated[
        Annotated[str, Meta(max_length=_LONGEST_NAME)] | None,
        Meta(description="Only paths after this one: for the next page."),
    ] = None
    limit: Annotated[int, Meta(ge=1, le=_MOST_FILES, description="At most so many files.")] = _MOST_FILES


class ReadFile(Struct, frozen=True, forbid_unknown_fields=True):
    path: Path
    offset: Annotated[int, Meta(ge=1, description="The first line to read, from 1.")] = 1
    limit: Annotated[int, Meta(ge=1, description="How many lines to read at most.")] = _LINES


class EditFile(Struct, frozen=True, forbid_unknown_fields=True):
    path: Path
    old_string: Annotated[
        str,
        Meta(min_length=1, max_length=_LONGEST_EDIT, description="The text to replace, exactly as it is in the file."),
    ]
    new_string: Annotated[str, Meta(max_length=_LONGEST_EDIT, description="The text to replace it with.")]
    replace_all: Annotated[bool, Meta(description="Replace every occurrence of old_string.")] = False


class WriteFile(Struct, frozen=True, forbid_unknown_fields=True):
    path: Path
    text: Annotated[str, Meta(description="The whole new text of the file.")]
    base_version: Annotated[
        int,
        Meta(ge=0, description="The version that you read and made the text of; 0: there is no such file yet."),
    ] = 0


class WhatChanged(Struct, frozen=True, forbid_unknown_fields=True):
    since: Annotated[
        Annotated[str, Meta(max_length=_LONGEST_NAME)] | None,
        Meta(description="The cursor of an earlier answer. Default: your last."),
    ] = None
    prefix: Annotated[str, Meta(max_length=_LONGEST_NAME, description="Only files whose path begins so.")] = ""


class ReadHistory(Struct, frozen=True, forbid_unknown_fields=True):
    path: Path
    limit: Annotated[int, Meta(ge=1, le=1000, description="At most so many versions, newest first.")] = 50
    before: Annotated[_Count | None, Meta(description="Only versions before this one: for the next page.")] = None


class Restore(Struct, frozen=True, forbid_unknown_fields=True):
    path: Path
    version: Annotated[int, Meta(ge=1, description="The version whose content the file is to have again.")]


class MoveFile(Struct, frozen=True, forbid_unknown_fields=True):
    source: Annotated[str, Meta(min_length=1, max_length=_LONGEST_NAME, description="The path that the file has.")]
    destination: Annotated[
        str,
        Meta(min_length=1, max_length=_LONGEST_NAME, description="The path that it is to have; nothing may be there."),
    ]


class DeleteFile(Struct, frozen=True, forbid_unknown_fields=True):
    path: Path


async def list_files(desk: Desk, asked: ListFiles) -> str:
    try:
        listing = (await desk.project.list_files(asked.prefix, after=asked.after, limit=asked.limit)).value
    except ProjectNotFound:  # the first file creates it
        return "There are no files."
    assert listing is not None
    lines = [f"{each.path}\tversion {each.version}\t{each.last_modified}" for each in listing.files]
    if listing.next is not None:
        lines.append(f"There are more files: list_files with after={listing.next!r}.")
    return "\n".join(lines) or "There are no files."


async def read_as_text(project: Project, path: str) -> tuple[WithETag[bytes], bool]:
    """Read a file as the text that agents work on, in UTF-8, and whether that is the Markdown of rich text."""
    try:
        return await project.read_encoded(path), False
    except NotAText as error:
        _require_rich_text(error)
        return await project.read_encoded(path, "markdown"), True


async def read_file(desk: Desk, asked: ReadFile) -> str:
    answer, _ = await read_as_text(desk.project, asked.path)
    version = answer.version
    assert version is not None
    count, start = await survey(answer.value, asked.offset - 1)
    shown = await _shown(answer.value, start, asked.offset, asked.limit)
    desk.note_seen(asked.path, version)
    await desk.show(asked.path)
    last = asked.offset + len(shown) - 1
    if not count:
        return f"{asked.path} is empty (version {version})."
    if not shown:
        return f"{asked.path} has {count} lines (version {version})."
    rest = f" Read on with offset={last + 1}." if last < count else ""
    head = f"{asked.path}, version {version}, lines {asked.offset} to {last} of {count}.{rest}"
    return "\n".join([head, *shown])


async def edit_file(desk: Desk, asked: EditFile) -> str:
    edit = RequestedEdit(old=asked.old_string, new=asked.new_string, all=asked.replace_all)
    try:
        try:
            written = await desk.project.edit_text(asked.path, [edit])
        except NotAText as error:
            _require_rich_text(error)
            written = await desk.project.edit_text(asked.path, [edit], format="markdown")
    except EditNotApplicable as error:
        reason = f"old_string was found {error.found} times in {asked.path}"
        advice = "add text around it that makes it unique, or set replace_all" if error.found else "nothing was changed"
        raise Refused(f"{reason}: {advice}.{await _written_by_others(desk, asked.path)}") from None
    return await _told(desk, asked.path, written, "edited")


async def write_file(desk: Desk, asked: WriteFile) -> str:
    try:
        text = desk.texts.get(asked.text, asked.text)
        try:
            written = await desk.project.put_text(asked.path, text, base_version=asked.base_version)
        except NotAText as error:
            _require_rich_text(error)
            written = await desk.project.put_markdown(asked.path, text, base_version=asked.base_version)
    except PreconditionFailed:
        if asked.base_version == 0:
            advice = "read it, and name the version that you read as base_version"
            raise Refused(f"{asked.path} is there already: {advice}.") from None
        raise
    return await _told(desk, asked.path, written, "written")


async def what_changed(desk: Desk, asked: WhatChanged) -> str:
    since = asked.since or desk.cursor
    if since is None:
        now = (await desk.project.list_files(limit=1)).value
        assert now is not None
        desk.note_cursor(now.cursor)
        return f"Changes are told from now on. Cursor: {now.cursor}"
    answer = await desk.project.changes_as_text(since, prefix=asked.prefix)
    desk.note_cursor(answer.cursor)
    parts = ["The gateway was set back: read everything again."] if answer.reset is True else []
    parts += [_change(entry) for entry in answer.changes]
    for entry in answer.changes:
        if isinstance(entry, FileFeedEntry) and entry.change_type != "deleted" and isinstance(entry.diff, str):
            desk.note_seen(entry.path, entry.version)
    parts.append(f"{'There is more: ask again. ' if answer.more else ''}Cursor: {answer.cursor}")
    return "\n".join(parts if len(parts) > 1 else ["Nothing has changed.", *parts])


async def history(desk: Desk, asked: ReadHistory) -> str:
    page = await desk.project.history(asked.path, limit=asked.limit, before=asked.before)
    lines = []
    for each in page.versions:
        what = " (deleted)" if each.deleted is True else ""
        lines.append(f"version {each.version}\t{each.last_modified}\t{each.author or 'unknown'}{what}")
    if page.next is not None:
        lines.append(f"There are older versions: history with before={page.next}.")
    return "\n".join(lines)


async def restore(desk: Desk, asked: Restore) -> str:
    return await _told(desk, asked.path, await desk.project.restore(asked.path, asked.version), "restored")


async def move_file(desk: Desk, asked: MoveFile) -> str:
    written = await desk.project.move(asked.source, asked.destination)
    desk.note_seen(asked.destination, written.value.version)
    return f"{asked.source} is {asked.destination} now (version {written.value.version})."


async def delete_file(desk: Desk, asked: DeleteFile) -> str:
    await desk.project.delete(asked.path)
    return f"{asked.path} is deleted. Its history stays: restore brings a version back."


def _require_rich_text(error: NotAText) -> None:
    """Raise the error again unless the file holds rich text, which agents read and write as Markdown."""
    if "xml" not in error.roots.values():
        raise error


async def survey(text: bytes, skipped: int) -> tuple[int, int]:
    """Return how many lines a text in UTF-8 has, and where the line after the first `skipped` begins. The lines are
    counted in slices, and not made."""
    count, start = 0, len(text) if skipped else 0
    async for at in with_turns(range(0, len(text), _COUNTED), 1):
        counted = text.count(b"\n", at, at + _COUNTED)
        if count < skipped <= count + counted:
            start = _behind(text, at, skipped - count)
        count += counted
    return count + (not text.endswith(b"\n") and text != b""), start


def _behind(text: bytes, start: int, lines: int) -> int:
    """Return the place behind so many lines, of which there are as many after `start`."""
    while (counted := text.count(b"\n", start, start + _SEARCHED)) < lines:
        lines -= counted
        start += _SEARCHED
    for _ in range(lines):
        start = text.index(b"\n", start) + 1
    return start


async def _shown(text: bytes, start: int, first: int, most: int) -> list[str]:
    """Return up to `most` lines with their numbers, from a place and a number on, that fit into one answer."""
    shown: list[str] = []
    size = 0
    async for number in with_turns(range(first, first + most)):
        if start >= len(text):
            break
        end = text.find(b"\n", start)
        end = len(text) if end < 0 else end
        line = text[start : min(end, start + _LONGEST_CHARACTER * _LONGEST_ANSWER)].decode(errors="ignore")
        numbered = f"{number:6}\t{line}"
        size += len(numbered) + 1
        if size > _LONGEST_ANSWER:
            if not shown:
                length = await _characters(memoryview(text)[start:end])
                shown.append(f"{numbered[:_LONGEST_ANSWER]} [cut: the line has {length} characters]")
            break
        shown.append(numbered)
        start = end + 1
    return shown


async def _characters(text: memoryview) -> int:
    """Return the length of a text in UTF-8, which is decoded in slices."""
    decoder, count = codecs.getincrementaldecoder("utf-8")(), 0
    async for at in with_turns(range(0, len(text), _COUNTED), 1):
        count += len(decoder.decode(text[at : at + _COUNTED]))
    return count


def _change(entry: FeedEntry) -> str:
    if not isinstance(entry, FileFeedEntry):
        return f"turn {entry.turn_id} of session {entry.session_id}: {entry.status}"
    authors = f" by {', '.join(entry.authors)}" if isinstance(entry.authors, list) and entry.authors else ""
    head = f"{entry.path}: {entry.change_type}{authors}, version {entry.version}"
    if isinstance(entry.diff, str):
        return f"{head}\n{entry.diff}".rstrip("\n")
    return head if entry.change_type == "deleted" else f"{head} (read the file: the difference is too long, or no text)"


async def _told(desk: Desk, path: str, written: WithETag[Receipt], what: str) -> str:
    """Describe the result of a write, with what others wrote since the agent last looked."""
    version = written.value.version
    others = await _written_by_others(desk, path, version - 1 if written.value.changed else version)
    desk.note_seen(path, version)
    changed = what if written.value.changed else "as it was"
    return f"{path} is {changed} (version {version}).{others}"


async def _written_by_others(desk: Desk, path: str, until: int | None = None) -> str:
    """Return what others wrote since the agent last looked, up to a version; None: the present one."""
    seen = desk.seen(path)
    try:
        if until is None:
            until = (await desk.project.history(path, limit=1)).versions[0].version
        if seen is None or seen >= until:
            return ""
        difference = await desk.project.unified_diff(path, seen, until)
    except GatewayError:
        return ""
    desk.note_seen(path, until)
    return f"\nOthers have changed the file since you read version {seen}:\n{difference}" if difference else ""


class Tool(Struct, frozen=True):
    """A tool, with what a client shows and asks before it lets a model use the tool."""

    name: str
    title: str
    description: str
    takes: type[Struct]
    run: Callable[[Desk, Any], Awaitable[str]]
    reads: bool = False
    """The tool changes nothing."""
    destroys: bool = False
    """The tool may remove what somebody has written."""
    repeats: bool = False
    """The tool is idempotent."""
    unlimited: str | None = None
    """The parameter that may be a text of any length: its name in the desk's texts."""

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the tool's parameters."""
        schema: dict[str, Any] = msgspec.json.schema(self.takes)
        taken = dict(schema["$defs"][self.takes.__name__])
        taken.pop("title", None)
        return taken

    async def call(self, desk: Desk, arguments: Mapping[str, Any]) -> str:
        """Call the tool.

        Raises:
            Refused: nothing was done.
        """
        try:
            asked = msgspec.convert(put_back_long_texts(arguments, desk.texts, self.unlimited), self.takes)
        except msgspec.ValidationError as error:
            raise Refused(f"{self.name}: {error}") from None
        try:
            return await self.run(desk, asked)
        except GatewayError as error:
            raise Refused(str(error)) from None


TOOLS: tuple[Tool, ...] = (
    Tool(
        "list_files",
        "List files",
        "List the files of the project, by path, with their versions.",
        ListFiles,
        list_files,
        reads=True,
        repeats=True,
    ),
    Tool(
        "read_file",
        "Read a file",
        "Read a file of the project: its lines with their numbers, and its version. People and other agents may be "
        "editing it at the same time. Rich text of an editor is read, and edited and written, as Markdown.",
        ReadFile,
        read_file,
        reads=True,
        repeats=True,
    ),
    Tool(
        "edit_file",
        "Edit a file",
        "Replace old_string with new_string in the text of a file as it is now. What others write elsewhere in it "
        "stays, so there is no need to read the file again before each edit. old_string must be there exactly once, "
        "unless replace_all is set; if it is not, you are told what others changed since you read the file.",
        EditFile,
        edit_file,
        destroys=True,
    ),
    Tool(
        "write_file",
        "Write a file",
        "Make a new file, or write the whole text of one that you have read: base_version is the version that you "
        "read. What others wrote since then stays. Prefer edit_file for changes of a file that exists.",
        WriteFile,
        write_file,
        destroys=True,
        repeats=True,
        unlimited="text",
    ),
    Tool(
        "what_changed",
        "What changed",
        "What people and other agents changed in the project since your last call, or since a cursor: for each file a "
        "unified difference and its authors.",
        WhatChanged,
        what_changed,
        reads=True,
        repeats=True,
    ),
    Tool(
        "history",
        "History of a file",
        "The versions of a file, newest first, with their times and authors. A deleted file has a history, too.",
        ReadHistory,
        history,
        reads=True,
        repeats=True,
    ),
    Tool(
        "restore",
        "Restore a version",
        "Make the content of a file that of an earlier version, as a new version. It brings back a deleted file.",
        Restore,
        restore,
        destroys=True,
        repeats=True,
    ),
    Tool("move_file", "Move a file", "Give a file another path, with its content.", MoveFile, move_file, destroys=True),
    Tool("delete_file", "Delete a file", "Delete a file. Its history stays.", DeleteFile, delete_file, destroys=True),
)
BY_NAME = {tool.name: tool for tool in TOOLS}
