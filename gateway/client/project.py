"""The requests on one project: files, changes, history and sessions."""

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from gateway.client import feed
from gateway.client.answers import (
    FileContent,
    Sender,
    WithETag,
    decoded,
    decoded_with_etag,
    decoded_with_etag_if_changed,
    file_content,
    quoted,
    seconds,
    tag_of,
)
from gateway.client.errors import (
    FileDeleted,
    PreconditionFailed,
    UnexpectedAnswer,
    VersionAhead,
    WriteContention,
    problem_from,
)
from gateway.client.hooks import HookRequests
from gateway.client.paths import checked_path, project_path, quoted_path
from gateway.client.policy import PollSettings
from gateway.client.room import Room
from gateway.client.sessions import SessionRequests
from gateway.wire.changes import FeedAnswer, StatusAnswer, StatusQuestion, SyncAnswer, SyncRequest
from gateway.wire.files import (
    DeletedFile,
    DeletedListing,
    EditRequest,
    FileEntry,
    FileListing,
    History,
    MoveRequest,
    Receipt,
    RequestedEdit,
    RestoreRequest,
    TextDifference,
)
from gateway.wire.presence import PresenceAnswer, PresenceState
from gateway.wire.problems import ProblemDetails

_JSON = {"Content-Type": "application/json"}
_MSGPACK = {"Content-Type": "application/msgpack", "Accept": "application/msgpack"}
_UPDATE = {"Content-Type": "application/octet-stream"}
_TEXT = {"Content-Type": "text/plain; charset=utf-8"}
_MARKDOWN = {"Content-Type": "text/markdown; charset=utf-8"}

_EDIT_ATTEMPTS = 5

TextForm = Literal["text", "markdown", "html"]


class Project(SessionRequests, HookRequests):
    """All requests on a project. Created by `GatewayClient.project`. Every method raises GatewayError."""

    def __init__(self, sender: Sender, name: str) -> None:
        super().__init__(sender, project_path(name))
        self.name = name
        self.url = f"{sender.url}{self._path}"

    # Listings and changes

    async def list_files(
        self, prefix: str = "", *, after: str | None = None, limit: int | None = None, tag: str | None = None
    ) -> WithETag[FileListing | None]:
        """List a page of the existing files, ordered by path; None if `tag` names the current state."""
        params = {"prefix": prefix or None, "after": after, "limit": limit}
        headers = {"If-None-Match": quoted(tag)}
        answer = await self._sender.send("GET", f"{self._path}/files", params=params, headers=headers)
        return decoded_with_etag_if_changed(answer, FileListing)

    async def all_files(self, prefix: str = "") -> list[FileEntry]:
        """List all existing files, fetching every page."""
        files: list[FileEntry] = []
        after: str | None = None
        while True:
            page = (await self.list_files(prefix, after=after)).value
            assert page is not None
            files += page.files
            after = page.next
            if after is None:
                return files

    async def list_deleted(
        self, prefix: str = "", *, after: str | None = None, limit: int | None = None, tag: str | None = None
    ) -> WithETag[DeletedListing | None]:
        """List a page of the deleted files that can be restored; None if `tag` names the current state."""
        params = {"deleted": "true", "prefix": prefix or None, "after": after, "limit": limit}
        headers = {"If-None-Match": quoted(tag)}
        answer = await self._sender.send("GET", f"{self._path}/files", params=params, headers=headers)
        return decoded_with_etag_if_changed(answer, DeletedListing)

    async def all_deleted(self, prefix: str = "") -> list[DeletedFile]:
        """List all deleted files that can be restored, fetching every page."""
        files: list[DeletedFile] = []
        after: str | None = None
        while True:
            page = (await self.list_deleted(prefix, after=after)).value
            assert page is not None
            files += page.files
            after = page.next
            if after is None:
                return files

    async def status(
        self,
        paths: Sequence[str] | None = None,
        *,
        since: str | None = None,
        versions: Mapping[str, int] | None = None,
        wait: float = 0,
    ) -> WithETag[StatusAnswer]:
        """Return which of many files changed since a cursor, or are not at the given versions."""
        question = StatusQuestion(
            None if paths is None else list(paths), since, None if versions is None else dict(versions), wait
        )
        body = msgspec.json.encode(question)
        answer = await self._sender.send("POST", f"{self._path}/files/status", wait=wait, headers=_JSON, content=body)
        return decoded_with_etag(answer, StatusAnswer)

    async def changes(
        self,
        since: str | None = None,
        *,
        limit: int | None = None,
        wait: float = 0,
        kinds: Iterable[str] | None = None,
        prefix: str = "",
        paths: Sequence[str] = (),
        tag: str | None = None,
    ) -> WithETag[FeedAnswer | None]:
        """Return a page of the change feed; None if `tag` names the current state."""
        params = {**feed.filters(kinds, prefix, paths), "since": since, "limit": limit, "wait": wait or None}
        headers = {"If-None-Match": quoted(tag)}
        answer = await self._sender.send("GET", f"{self._path}/changes", wait=wait, params=params, headers=headers)
        return decoded_with_etag_if_changed(answer, FeedAnswer)

    async def changes_as_text(
        self,
        since: str | None = None,
        *,
        limit: int | None = None,
        kinds: Iterable[str] | None = None,
        prefix: str = "",
        paths: Sequence[str] = (),
        root: str | None = None,
        max_bytes: int | None = None,
    ) -> FeedAnswer:
        """Return a page of the change feed, each file with the difference of its text, each turn with its prompt.

        Args:
            root: the name of the text root; default `content`.
            max_bytes: the limit for all differences together; entries beyond it have no difference.
        """
        params = {
            **feed.filters(kinds, prefix, paths),
            "since": since,
            "limit": limit,
            "diff": "text",
            "root": root,
            "max_bytes": max_bytes,
        }
        return decoded(await self._sender.send("GET", f"{self._path}/changes", params=params), FeedAnswer)

    def follow(
        self,
        since: str | None = None,
        *,
        transport: Literal["events", "wait"] = "events",
        kinds: Iterable[str] | None = None,
        prefix: str = "",
        paths: Sequence[str] = (),
        settings: PollSettings | None = None,
    ) -> AsyncIterator[FeedAnswer]:
        """Follow the change feed forever, by server-sent events or long polls.

        After every transient failure the feed resumes at the cursor of the last answer that the caller consumed.
        Permanent errors are raised.
        """
        filters = feed.filters(kinds, prefix, paths)
        path = f"{self._path}/changes"
        return feed.follow(self._sender, path, since, filters, transport, settings or PollSettings())

    def connect(
        self, since: str | None, *, transport: Literal["events", "wait"], settings: PollSettings
    ) -> AsyncGenerator[FeedAnswer, None]:
        """Follow the unfiltered feed until the first failure. An answer without changes means that it has caught up."""
        return feed.connect(self._sender, f"{self._path}/changes", since, {}, transport, settings)

    # One file

    async def read_update(
        self,
        path: str,
        *,
        from_version: int | None = None,
        state_vector: str | None = None,
        at_version: int | None = None,
        wait: float = 0,
        tag: str | None = None,
    ) -> FileContent:
        """Read a file as a Yjs update: the whole file, the increments after `from_version`, what the replica with
        `state_vector` is missing, or the file as of `at_version`.

        Args:
            state_vector: encoded as base64url.
        """
        params = {
            "from_version": from_version,
            "state_vector": state_vector,
            "at_version": at_version,
            "wait": wait or None,
        }
        headers = {"Accept": "application/octet-stream", "If-None-Match": quoted(tag)}
        return file_content(await self._sender.send("GET", self._file(path), wait=wait, params=params, headers=headers))

    async def read_text(self, path: str, *, root: str | None = None, at_version: int | None = None) -> WithETag[str]:
        """Read the text of a root of a file; the default root is `content`."""
        return await self._read_as("text", path, root, at_version)

    async def _read_as(self, form: TextForm, path: str, root: str | None, at_version: int | None) -> WithETag[str]:
        read = await self.read_encoded(path, form, root=root, at_version=at_version)
        try:
            return WithETag(read.value.decode(), read.tag, read.backoff_s)
        except UnicodeDecodeError as error:
            raise UnexpectedAnswer(200, str(error)) from error

    async def read_encoded(
        self,
        path: str,
        form: Literal["text", "markdown", "html"] = "text",
        *,
        root: str | None = None,
        at_version: int | None = None,
    ) -> WithETag[bytes]:
        """Read what `read_text`, `read_markdown` or `read_html` returns, in UTF-8 as it is sent."""
        params = {"format": form, "root": root, "at_version": at_version}
        answer = await self._sender.send("GET", self._file(path), params=params)
        return WithETag(answer.content, tag_of(answer), seconds(answer, "Backoff"))

    async def read_markdown(
        self, path: str, *, root: str | None = None, at_version: int | None = None
    ) -> WithETag[str]:
        """Read the rich text of a file as Markdown; without `root` that of the only root that has any.

        Raises:
            NotAText: the file holds no rich text; `roots` tells what it holds.
        """
        return await self._read_as("markdown", path, root, at_version)

    async def read_html(self, path: str, *, root: str | None = None, at_version: int | None = None) -> WithETag[str]:
        """Read the rich text of a file as HTML in which nothing runs."""
        return await self._read_as("html", path, root, at_version)

    async def read_json(self, path: str, *, at_version: int | None = None) -> WithETag[dict[str, Any]]:
        """Read all roots of a file as JSON."""
        params = {"format": "json", "at_version": at_version}
        return decoded_with_etag(await self._sender.send("GET", self._file(path), params=params), dict[str, Any])

    async def append_update(
        self,
        path: str,
        update: bytes,
        *,
        if_match: str | None = None,
        create: bool = False,
        incarnation: str | None = None,
    ) -> WithETag[Receipt]:
        """Append a Yjs update to a file; with `create` only if no file exists, with `incarnation` only to that one."""
        headers = {**_UPDATE, **_conditions(if_match, create, incarnation)}
        return await self._write("PATCH", self._file(path), headers, update)

    async def put_text(
        self,
        path: str,
        text: str | bytes,
        *,
        root: str | None = None,
        base_version: int | None = None,
        if_match: str | None = None,
        create: bool = False,
    ) -> WithETag[Receipt]:
        """Replace the text of a file by the smallest edit.

        Without `base_version` or `if_match` this removes what others have written since the text was read.

        Args:
            text: bytes are taken to be UTF-8.
            base_version: the version that `text` is based on; later edits of others are kept. 0: only if the file does
                not exist.
            if_match: the tag of that version; raises PreconditionFailed if the file has changed since.
        """
        headers = {**_TEXT, **_conditions(if_match, create, None)}
        params = {"root": root, "base_version": base_version}
        return await self._write("PUT", self._file(path), headers, _encoded(text), params)

    async def put_markdown(
        self,
        path: str,
        markdown: str | bytes,
        *,
        root: str | None = None,
        schema: Literal["tiptap", "prosemirror", "blocknote"] | None = None,
        base_version: int | None = None,
        if_match: str | None = None,
        create: bool = False,
    ) -> WithETag[Receipt]:
        """Replace the rich text of a file by the smallest edit of its blocks, as `put_text` does with text.

        Args:
            schema: the schema of a document whose content does not tell it; `tiptap` if None.

        Raises:
            UnsupportedSchema: the edit would change what Markdown cannot hold.
        """
        headers = {**_MARKDOWN, **_conditions(if_match, create, None)}
        params = {"root": root, "schema": schema, "base_version": base_version}
        return await self._write("PUT", self._file(path), headers, _encoded(markdown), params)

    async def edit_text(
        self,
        path: str,
        edits: Sequence[RequestedEdit],
        *,
        root: str | None = None,
        base_version: int | None = None,
        if_match: str | None = None,
        format: Literal["text", "markdown"] = "text",
    ) -> WithETag[Receipt]:
        """Replace parts of the text of a file, or of its rich text as Markdown, all or none.

        Args:
            base_version: the version whose text the edits refer to; without it they refer to the current text, and
                repeating the request may apply them twice.

        Raises:
            EditNotApplicable: one of the edits does not apply to the text.
        """
        headers = {**_JSON, **_conditions(if_match, False, None)}
        body = msgspec.json.encode(EditRequest(list(edits), base_version, root, format))
        return await self._write(
            "POST", f"{self._path}/edits/{quoted_path(path)}", headers, body, repeatable=base_version is not None
        )

    async def edit(
        self, path: str, change: Callable[[str], str | Awaitable[str]], *, root: str | None = None
    ) -> WithETag[Receipt]:
        """Read the text of a file, change it and write it back, as the smallest edit of what was read.

        What others write meanwhile stays. If the version that was read is gone by then, because the file was deleted
        or its history was squashed, the text is read and changed again.

        Args:
            change: called with the text; returns the new text. It may be called several times, and may be async.
            root: the name of the text root; default `content`.

        Raises:
            FileNotFound, FileDeleted: there is no such file.
        """
        for attempt in range(1, _EDIT_ATTEMPTS + 1):
            read = await self.read_text(path, root=root)
            changed = change(read.value)
            text = await changed if inspect.isawaitable(changed) else changed
            try:
                return await self.put_text(path, text, root=root, base_version=read.version)
            except (PreconditionFailed, VersionAhead, FileDeleted, WriteContention):
                if attempt == _EDIT_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    async def delete(self, path: str, *, if_match: str | None = None, incarnation: str | None = None) -> None:
        """Delete a file."""
        headers = _conditions(if_match, False, incarnation)
        await self._sender.send("DELETE", self._file(path), headers=headers, repeatable=False)

    async def move(self, source: str, target: str) -> WithETag[Receipt]:
        """Move a file to another path."""
        body = msgspec.json.encode(MoveRequest(checked_path(source), checked_path(target)))
        answer = await self._sender.send(
            "POST", f"{self._path}/files/move", headers=_JSON, content=body, repeatable=False
        )
        return decoded_with_etag(answer, Receipt)

    async def sync(
        self,
        updates: Mapping[str, bytes] | None = None,
        *,
        since: str | None = None,
        versions: Mapping[str, int] | None = None,
        paths: Sequence[str] | None = None,
        atomic: bool = False,
        max_bytes: int = 4 * 2**20,
    ) -> SyncAnswer:
        """Push updates and pull missing ones of many files; `results` are Receipt or ProblemAnswer (not raised)."""
        request = SyncRequest(
            since,
            None if versions is None else dict(versions),
            dict(updates or {}),
            None if paths is None else list(paths),
            atomic,
            max_bytes,
        )
        body = msgspec.msgpack.encode(request)
        answer = await self._sender.send("POST", f"{self._path}/sync", headers=_MSGPACK, content=body)
        try:
            synced = msgspec.msgpack.decode(answer.content, type=SyncAnswer)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UnexpectedAnswer(answer.status_code, str(error)) from error
        return msgspec.structs.replace(synced, results={path: _result(each) for path, each in synced.results.items()})

    def room(self, path: str) -> Room:
        """Return the WebSocket room of a file, for pycrdt's `Provider`. Entering its `async with` connects."""
        return Room(self._sender, f"{self._path}/ws/{quoted_path(path)}", path)

    # Presence

    async def presence(self, path: str, *, tag: str | None = None, wait: float = 0) -> WithETag[PresenceAnswer | None]:
        """Return the clients present in a file; None if `tag` names the current state."""
        params, headers = {"wait": wait or None}, {"If-None-Match": quoted(tag)}
        answer = await self._sender.send("GET", self._presence(path), wait=wait, params=params, headers=headers)
        return decoded_with_etag_if_changed(answer, PresenceAnswer)

    async def put_presence(
        self, path: str, client_id: int, state: Mapping[str, Any], *, ttl: float = 30, clock: int | None = None
    ) -> WithETag[PresenceAnswer]:
        """Announce a client in a file for `ttl` seconds; returns the clients present."""
        said = PresenceState(dict(state), ttl, UNSET if clock is None else clock)
        path = f"{self._presence(path)}/{client_id}"
        answer = await self._sender.send("PUT", path, headers=_JSON, content=msgspec.json.encode(said))
        return decoded_with_etag(answer, PresenceAnswer)

    async def delete_presence(self, path: str, client_id: int) -> None:
        """Withdraw a client from a file."""
        await self._sender.send("DELETE", f"{self._presence(path)}/{client_id}")

    # History

    async def history(
        self, path: str, *, before: int | None = None, limit: int | None = None, group_s: int | None = None
    ) -> History:
        """List a page of versions, newest first; `group_s` groups adjacent versions of the same author."""
        params = {"before": before, "limit": limit, "group": group_s}
        return decoded(await self._sender.send("GET", self._past(path), params=params), History)

    async def unified_diff(self, path: str, older: int, newer: int, *, root: str | None = None) -> str:
        """Return the unified diff of the text between two versions."""
        params = {"diff": f"{older}..{newer}", "root": root}
        return (await self._sender.send("GET", self._past(path), params=params)).content.decode()

    async def text_difference(self, path: str, older: int, newer: int, *, root: str | None = None) -> TextDifference:
        """Return the difference of the text between two versions as edits."""
        params = {"diff": f"{older}..{newer}", "format": "json", "root": root}
        return decoded(await self._sender.send("GET", self._past(path), params=params), TextDifference)

    async def restore(self, path: str, version: int, *, if_match: str | None = None) -> WithETag[Receipt]:
        """Restore the content of an earlier version as a new version."""
        headers = {**_JSON, **_conditions(if_match, False, None)}
        return await self._write(
            "POST", f"{self._past(path)}/restore", headers, msgspec.json.encode(RestoreRequest(version))
        )

    # Helpers

    def _file(self, path: str) -> str:
        return f"{self._path}/files/{quoted_path(path)}"

    def _presence(self, path: str) -> str:
        return f"{self._path}/presence/{quoted_path(path)}"

    def _past(self, path: str) -> str:
        return f"{self._path}/history/{quoted_path(path)}"

    async def _write(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str | None],
        body: bytes,
        params: Mapping[str, Any] | None = None,
        *,
        repeatable: bool = True,
    ) -> WithETag[Receipt]:
        conditional = bool(headers.get("If-Match") or headers.get("If-None-Match"))
        answer = await self._sender.send(
            method, path, headers=headers, params=params, content=body, repeatable=repeatable and not conditional
        )
        return decoded_with_etag(answer, Receipt)


def _encoded(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _conditions(if_match: str | None, create: bool, incarnation: str | None) -> dict[str, str | None]:
    return {
        "If-Match": if_match if if_match == "*" else quoted(if_match),
        "If-None-Match": "*" if create else None,
        "X-Incarnation": incarnation,
    }


def _result(result: Any) -> Any:
    """Convert the result of one update of a sync."""
    if "code" in result:
        return problem_from(msgspec.convert(result, ProblemDetails))
    return msgspec.convert(result, Receipt)
