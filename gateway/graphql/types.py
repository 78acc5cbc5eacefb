"""The types of the schema. An object wraps what it was made of; a field reads what it needs once it is selected."""

import base64
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NewType, TypeVar, cast

import strawberry
from graphql import GraphQLError
from strawberry.scalars import JSON

from gateway.access.grants import View
from gateway.files.reader import Content
from gateway.files.store import Written
from gateway.graphql.answers import EncodedText, encoded_value
from gateway.graphql.caller import Caller, checked_path
from gateway.http.long_answers import base64_parts
from gateway.pace import join_parts, with_turns
from gateway.wire.changes import ChangeType, FileFeedEntry, TurnFeedEntry
from gateway.wire.files import FileEntry, RequestedEdit, VersionEntry
from gateway.wire.problems import (
    FileDeleted,
    FileNotFound,
    Forbidden,
    InvalidParameter,
    SessionNotFound,
    TurnNotFound,
)
from gateway.wire.values import rfc3339
from storage import FileHead, SessionHead, StoredBlock, StoredTurn, TurnHead

if TYPE_CHECKING:  # Strawberry is optional: types are checked without it, too

    class Info:
        """The argument that a resolver gets."""

        context: Caller
        selected_fields: list[Any]

else:
    Info = strawberry.Info[Caller, None]

Long = NewType("Long", int)
LONG = strawberry.scalar(name="Long", description="A whole number of up to 53 bits.", serialize=int, parse_value=int)

T = TypeVar("T")

RootName = Annotated[str, strawberry.argument(name="root")]
"""Strawberry reserves a parameter called `root` for the object itself."""


class _LongBase64:
    """A long argument in base64, which is yet to be decoded."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


_DECODED_AT_ONCE = 2**18
"""How many characters of base64 are decoded in one step: in half a millisecond. They are whole groups of four."""


def _parse_base64(text: object) -> "bytes | _LongBase64":
    if isinstance(text, str) and len(text) > _DECODED_AT_ONCE:
        return _LongBase64(text)
    return _decoded(text)


def _decoded(text: object) -> bytes:
    try:
        return base64.b64decode(text, validate=True)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise GraphQLError(f"Base64 cannot represent this value: {error}") from None


Base64 = NewType("Base64", bytes)
BASE64 = strawberry.scalar(
    name="Base64",
    description="Bytes, as base64 (RFC 4648 §4).",
    serialize=lambda data: data if isinstance(data, EncodedText) else base64.b64encode(data).decode(),
    parse_value=_parse_base64,
)


async def bytes_of(given: bytes | _LongBase64) -> bytes:
    """Return the bytes of an argument; a long one is decoded in slices.

    Raises:
        GraphQLError: it is not base64.
    """
    if isinstance(given, bytes):
        return given
    text, parts = given.text, list[bytes]()
    async for start in with_turns(range(0, len(text), _DECODED_AT_ONCE), 1):
        end = start + _DECODED_AT_ONCE
        piece = text[start:end]
        if end < len(text) and "=" in piece:
            raise GraphQLError("Base64 cannot represent this value: Excess data after padding")
        parts.append(_decoded(piece))
    return await join_parts(parts)


async def _as_base64(data: bytes) -> Base64:
    """Return bytes as they are in a result."""
    parts = [part async for part in base64_parts(data)]
    return cast(Base64, EncodedText.of(await join_parts([b'"', *parts, b'"'])))


_MOST_ENTRIES = 1000
_STEPS = 50
"""How many objects' fields are resolved before the event loop runs other tasks: about 50 µs each."""
_ROOT = "content"
_LONGEST_ROOT = 1024


def checked_root(root: str) -> str:
    """Raise InvalidParameter if a root must not have this name."""
    if len(root.encode("utf-8", "surrogatepass")) > _LONGEST_ROOT:
        raise InvalidParameter("root", f"it has more than {_LONGEST_ROOT} bytes")
    return root


def checked_limit(limit: int, most: int = _MOST_ENTRIES) -> int:
    """Raise InvalidParameter unless a page may have this many entries."""
    if not 1 <= limit <= most:
        raise InvalidParameter("limit", f"it must be from 1 to {most}")
    return limit


def checked_count(name: str, number: int | None) -> int | None:
    """Raise InvalidParameter if a number is negative."""
    if number is not None and number < 0:
        raise InvalidParameter(name, "it must be 0 or more")
    return number


def _in_turns(items: Iterable[T]) -> list[T]:
    """Return an iterator, typed as a list for Strawberry, that yields to the event loop now and then."""
    return cast(list[T], with_turns(items, _STEPS))


@strawberry.type(description="A version of a file.")
class Version:
    def __init__(self, entry: VersionEntry) -> None:
        self._entry = entry

    @strawberry.field
    def version(self) -> int:
        return self._entry.version

    @strawberry.field
    def last_modified(self) -> str:
        return self._entry.last_modified

    @strawberry.field
    def size(self) -> Long:
        return Long(self._entry.size)

    @strawberry.field(description="Who wrote it; null where nobody was named.")
    def author(self) -> str | None:
        return self._entry.author

    @strawberry.field(description="The id of the credential that it was written with; null where none is known.")
    def credential(self) -> str | None:
        return self._entry.credential or None

    @strawberry.field(description="Whether it is a deletion.")
    def deleted(self) -> bool:
        return self._entry.deleted is True


@strawberry.type(description="Versions of a file, newest first.")
class History:
    def __init__(self, versions: Sequence[VersionEntry], following: int | None) -> None:
        self._versions = versions
        self._following = following

    @strawberry.field
    def versions(self) -> list[Version]:
        return _in_turns(Version(entry) for entry in self._versions)

    @strawberry.field(description="`before` of the next page; null on the last.")
    def next(self) -> int | None:
        return self._following


class _Documents:
    """The document of a file at the version of its head, read once."""

    def __init__(self, project: str, path: str, version: int, told: int | None) -> None:
        self.project = project
        self.path = path
        self.version = version
        self.told = told
        self._content: Content | None = None
        self._repeated = 0
        """Bytes that were read again: the same field may be named very often."""

    async def read(self, caller: Caller) -> Content:
        async with caller.reading:
            if self._content is not None:
                self._repeated += len(self._content.update)
                caller.require_few_bytes(self._repeated)
                caller.count(len(self._content.update))
                return self._content
            caller.begin_read()
            content = await caller.services.files.read_whole(self.project, self.path)
            if content.version != self.version:  # the answer must fit the version beside it
                content = await caller.services.files.read_at(self.project, self.path, self.version)
            caller.count(len(content.update))
            self._content = content
            return content

    async def text(self, caller: Caller, root: str) -> str:
        return EncodedText.of(await caller.services.files.json_text_of(await self.read(caller), checked_root(root)))

    async def update(self, caller: Caller, from_version: int | None) -> Base64:
        """Return the increment after a version; None: after the version last sent, or everything."""
        files = caller.services.files
        known = checked_count("fromVersion", from_version)
        if known is None:
            known = self.told
        if known is None:
            return await _as_base64(await files.wire_update(await self.read(caller)))
        async with caller.reading:
            caller.begin_read()
            content = await files.read_since(self.project, self.path, known)
            caller.count(len(content.update))
        return await _as_base64(content.update)


_TEXT = "The text of a root, at `version`; null where the file was deleted."
_UPDATE = (
    "What the versions after `fromVersion` added, as a Yjs update; without `fromVersion` all of the document, and in a "
    "subscription what came since the last message. Null where the file was deleted."
)


@strawberry.type(description="A file.")
class File:
    def __init__(self, project: str, head: FileHead, told: int | None = None) -> None:
        self._project = project
        self._head = head
        self._document = _Documents(project, head.path, head.version, told)

    @strawberry.field
    def path(self) -> str:
        return self._head.path

    @strawberry.field
    def version(self) -> int:
        return self._head.version

    @strawberry.field(description="Of another incarnation than the one that you know: discard your document.")
    def incarnation(self) -> str:
        return self._head.incarnation

    @strawberry.field
    def last_modified(self) -> str:
        return rfc3339(self._head.last_modified)

    @strawberry.field(description="Bytes of the updates stored for the file's present incarnation.")
    def size(self) -> Long:
        return Long(self._head.size)

    @strawberry.field
    def deleted(self) -> bool:
        return self._head.deleted

    @strawberry.field(description=_TEXT)
    async def text(self, info: Info, in_root: RootName = _ROOT) -> str | None:
        return None if self._head.deleted else await self._document.text(info.context, in_root)

    @strawberry.field(description=_UPDATE)
    async def update(self, info: Info, from_version: int | None = None) -> Base64 | None:
        return None if self._head.deleted else await self._document.update(info.context, from_version)

    @strawberry.field
    async def history(self, info: Info, before: int | None = None, limit: int = 100) -> History:
        caller = info.context
        caller.begin_read()
        page = await caller.services.versions.list_versions(
            self._project, self._head.path, checked_count("before", before), checked_limit(limit)
        )
        return History(page.versions, page.next)


@strawberry.type(description="A file in a listing.")
class ListedFile:
    def __init__(self, project: str, entry: FileEntry) -> None:
        self._project = project
        self._entry = entry
        self._document = _Documents(project, entry.path, entry.version, None)

    @strawberry.field
    def path(self) -> str:
        return self._entry.path

    @strawberry.field
    def version(self) -> int:
        return self._entry.version

    @strawberry.field
    def last_modified(self) -> str:
        return self._entry.last_modified

    @strawberry.field
    def size(self) -> Long:
        return Long(self._entry.size)

    @strawberry.field(description=_TEXT)
    async def text(self, info: Info, in_root: RootName = _ROOT) -> str | None:
        return await self._document.text(info.context, in_root)

    @strawberry.field(description=_UPDATE)
    async def update(self, info: Info, from_version: int | None = None) -> Base64 | None:
        return await self._document.update(info.context, from_version)


@strawberry.type(description="A page of the files that exist, by path.")
class FileListing:
    def __init__(self, project: str, entries: Sequence[FileEntry], cursor: str, following: str | None) -> None:
        self._project = project
        self._entries = entries
        self._cursor = cursor
        self._following = following

    @strawberry.field
    def files(self) -> list[ListedFile]:
        return _in_turns(ListedFile(self._project, entry) for entry in self._entries)

    @strawberry.field(description="Where the project stood: `since` of a subscription that misses nothing.")
    def cursor(self) -> str:
        return self._cursor

    @strawberry.field(description="`after` of the next page; null on the last.")
    def next(self) -> str | None:
        return self._following


@strawberry.type(description="A block of a turn.")
class Block:
    def __init__(self, turn_id: str, block: StoredBlock) -> None:
        self._turn_id = turn_id
        self._block = block

    @strawberry.field
    def id(self) -> str:
        return f"{self._turn_id}.{self._block.index}"

    @strawberry.field(description="Counts from 0 within the turn.")
    def index(self) -> int:
        return self._block.index

    @strawberry.field
    def type(self) -> str:
        return self._block.type

    @strawberry.field
    def content(self) -> JSON:
        return cast(JSON, encoded_value(self._block.content))

    @strawberry.field
    def created_at(self) -> str:
        return rfc3339(self._block.created_at)


@strawberry.type(description="What a coding agent was asked, and what it did.")
class Turn:
    def __init__(self, project: str, head: TurnHead, stored: StoredTurn | None = None, *, told: bool = False) -> None:
        self._project = project
        self._head = head
        self._stored = stored
        self._told = told

    @strawberry.field
    def id(self) -> str:
        return self._head.turn_id

    @strawberry.field
    def session_id(self) -> str:
        return self._head.session_id

    @strawberry.field
    async def prompt(self, info: Info) -> str:
        if self._stored is None:
            self._stored = await self._read(info.context, self._head.block_count)
        return self._stored.prompt

    @strawberry.field
    def status(self) -> str:
        return self._head.status

    @strawberry.field
    def block_count(self) -> int:
        return self._head.block_count

    @strawberry.field
    def error(self) -> str | None:
        return self._head.error

    @strawberry.field
    def created_at(self) -> str:
        return rfc3339(self._head.created_at)

    @strawberry.field
    def started_at(self) -> str | None:
        return _time(self._head.started_at)

    @strawberry.field
    def completed_at(self) -> str | None:
        return _time(self._head.completed_at)

    @strawberry.field
    def last_updated(self) -> str:
        return rfc3339(self._head.last_updated)

    @strawberry.field(
        description="The blocks but for the first `after`, as many as fit; without `after` all of them, and in a "
        "subscription those that are new. A block that a client has already has grown."
    )
    async def blocks(self, info: Info, after: int | None = None) -> list[Block]:
        if self._told and after is None:
            stored = self._stored
        else:
            stored = await self._read(info.context, checked_count("after", after) or 0)
        blocks = () if stored is None else stored.blocks
        return _in_turns(Block(self._head.turn_id, block) for block in blocks)

    async def _read(self, caller: Caller, after_block: int) -> StoredTurn:
        services, head = caller.services, self._head
        async with caller.reading:
            caller.begin_read()
            stored = await services.turns.read(
                self._project, head.session_id, head.turn_id, after_block, services.answer_bytes
            )
            caller.count(sum(len(block.content) for block in stored.blocks) + len(stored.prompt))
        return stored


@strawberry.type(description="A page of turns, newest first; a long prompt is cut.")
class TurnListing:
    def __init__(self, project: str, turns: Sequence[StoredTurn], following: str | None) -> None:
        self._project = project
        self._turns = turns
        self._following = following

    @strawberry.field
    def turns(self) -> list[Turn]:
        return _in_turns(Turn(self._project, turn.head, turn) for turn in self._turns)

    @strawberry.field(description="`after` of the next page; null on the last.")
    def next(self) -> str | None:
        return self._following


@strawberry.type(description="A conversation with a coding agent.")
class Session:
    def __init__(self, project: str, head: SessionHead) -> None:
        self._project = project
        self._head = head

    @strawberry.field
    def id(self) -> str:
        return self._head.session_id

    @strawberry.field
    def title(self) -> str | None:
        return self._head.title

    @strawberry.field
    def created_at(self) -> str:
        return rfc3339(self._head.created_at)

    @strawberry.field
    async def turns(self, info: Info, after: str | None = None, limit: int = 100) -> TurnListing:
        caller = info.context
        caller.begin_read()
        found = await caller.services.turns.turns(self._project, self._head.session_id, after, checked_limit(limit) + 1)
        turns = found[:limit]
        return TurnListing(self._project, turns, turns[-1].head.turn_id if len(found) > limit else None)


@strawberry.type(description="A project. What the credential does not grant is not in it.")
class Project:
    def __init__(self, name: str, view: View, cursor: str) -> None:
        self._name = name
        self._view = view
        self._cursor = cursor

    @strawberry.field
    def id(self) -> str:
        return self._name

    @strawberry.field(description="Where the project stands: `since` of a subscription that misses nothing.")
    def cursor(self) -> str:
        return self._cursor

    @strawberry.field
    async def files(self, info: Info, prefix: str = "", after: str = "", limit: int = 1000) -> FileListing:
        self._require("read")
        page = await info.context.services.changes.list_files(
            self._name, prefix, after, checked_limit(limit), self._view.paths
        )
        return FileListing(self._name, page.files, page.cursor, page.next)

    @strawberry.field(description="A file; null where there is none.")
    async def file(self, info: Info, path: str) -> File | None:
        self._require("read")
        if not self._view.sees(checked_path(path)):
            return None
        try:
            return File(self._name, await info.context.services.files.head(self._name, path))
        except (FileNotFound, FileDeleted):
            return None

    @strawberry.field(description="A session; null where there is none.")
    async def session(self, info: Info, id: str) -> Session | None:
        self._require("read turns")
        try:
            return Session(self._name, await info.context.services.turns.session(self._name, id))
        except SessionNotFound:
            return None

    @strawberry.field(description="A turn; null where there is none.")
    async def turn(self, info: Info, session: str, id: str) -> Turn | None:
        self._require("read turns")
        try:
            return Turn(self._name, await info.context.services.turns.head(self._name, session, id))
        except (SessionNotFound, TurnNotFound):
            return None

    def _require(self, need: Any) -> None:
        if not self._view.may(need):
            raise Forbidden(self._view.missing(need))


@strawberry.type(description="A file that changed: its newest state.")
class FileChange:
    def __init__(self, project: str, entry: FileFeedEntry, told: int | None) -> None:
        self._entry = entry
        self._document = _Documents(project, entry.path, entry.version, told)

    @strawberry.field
    def path(self) -> str:
        return self._entry.path

    @strawberry.field
    def version(self) -> int:
        return self._entry.version

    @strawberry.field(description="`created`, `modified` or `deleted`.")
    def change_type(self) -> str:
        change: ChangeType = self._entry.change_type
        return change

    @strawberry.field
    def last_modified(self) -> str:
        return self._entry.last_modified

    @strawberry.field(description=_TEXT)
    async def text(self, info: Info, in_root: RootName = _ROOT) -> str | None:
        if self._entry.change_type == "deleted":
            return None
        try:
            return await self._document.text(info.context, in_root)
        except (FileNotFound, FileDeleted):
            return None  # deleted meanwhile; the next event reports it

    @strawberry.field(description=_UPDATE)
    async def update(self, info: Info, from_version: int | None = None) -> Base64 | None:
        if self._entry.change_type == "deleted":
            return None
        try:
            return await self._document.update(info.context, from_version)
        except (FileNotFound, FileDeleted):
            return None


@strawberry.type(description="A turn that changed: its newest state.")
class TurnChange:
    def __init__(self, entry: TurnFeedEntry) -> None:
        self._entry = entry

    @strawberry.field
    def session_id(self) -> str:
        return self._entry.session_id

    @strawberry.field
    def turn_id(self) -> str:
        return self._entry.turn_id

    @strawberry.field
    def status(self) -> str:
        return self._entry.status

    @strawberry.field
    def block_count(self) -> int:
        return self._entry.block_count

    @strawberry.field
    def last_updated(self) -> str:
        return self._entry.last_updated


Change = Annotated[FileChange | TurnChange, strawberry.union("Change")]


@strawberry.type(description="A stretch of the change feed: each file and turn once, with its newest state.")
class ChangeBatch:
    def __init__(self, changes: Sequence[FileChange | TurnChange], cursor: str, reset: bool) -> None:
        self._changes = changes
        self._cursor = cursor
        self._reset = reset

    @strawberry.field(description="`since` of a subscription that goes on from here.")
    def cursor(self) -> str:
        return self._cursor

    @strawberry.field(description="Whether the gateway was restored from a backup: discard what you know.")
    def reset(self) -> bool:
        return self._reset

    @strawberry.field
    def changes(self) -> list[Change]:
        return _in_turns(self._changes)


@strawberry.type(description="What a write came to.")
class Receipt:
    def __init__(self, written: Written) -> None:
        self._receipt = written.receipt()

    @strawberry.field
    def path(self) -> str:
        return self._receipt.path

    @strawberry.field
    def version(self) -> int:
        return self._receipt.version

    @strawberry.field
    def last_modified(self) -> str:
        return self._receipt.last_modified

    @strawberry.field
    def cursor(self) -> str:
        return self._receipt.cursor

    @strawberry.field(description="False where the write added nothing.")
    def changed(self) -> bool:
        return self._receipt.changed

    @strawberry.field(description="With `baseVersion`: whether the file had moved on, so that the text is another one.")
    def merged(self) -> bool:
        return self._receipt.merged is True

    @strawberry.field(description="True where a part of the update was left out: it builds on something missing.")
    def incomplete(self) -> bool:
        return self._receipt.incomplete is True

    @strawberry.field(description="With `incomplete`: what the gateway has now.")
    def state_vector(self) -> Base64 | None:
        state = self._receipt.known_state
        return None if state is None else Base64(state)


@strawberry.input(
    description="Either `old`, which must be in the text exactly once, and `new`; or `start`, `end` (in UTF-16 code "
    "units) and `text`."
)
class Edit:
    old: str | None = strawberry.UNSET
    new: str | None = strawberry.UNSET
    all: bool = False
    start: int | None = strawberry.UNSET
    end: int | None = strawberry.UNSET
    text: str | None = strawberry.UNSET

    def requested(self) -> RequestedEdit:
        """Return the edit in the form of the HTTP API."""
        given = {
            name: value
            for name in ("old", "new", "start", "end", "text")
            if (value := getattr(self, name)) is not strawberry.UNSET and value is not None
        }
        return RequestedEdit(all=self.all, **given)


@strawberry.type(description="What a deletion came to.")
class Deletion:
    def __init__(self, head: FileHead) -> None:
        self._head = head

    @strawberry.field
    def path(self) -> str:
        return self._head.path

    @strawberry.field(description="The version of the tombstone.")
    def version(self) -> int:
        return self._head.version


def _time(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else rfc3339(milliseconds)
