"""The schema: queries, mutations and subscriptions."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated

import strawberry
from graphql import GraphQLError
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from gateway.access.grants import Need, View
from gateway.changes.cursors import parse_cursor
from gateway.files.preconditions import Preconditions
from gateway.files.revisions import NewText, replacements
from gateway.files.store import Written
from gateway.graphql.caller import Caller, checked_path
from gateway.graphql.checking import Checking
from gateway.graphql.selection import fields_of, selected
from gateway.graphql.sources import FeedEvent, FeedSource, FileEvent, FileSource, TurnEvent, TurnSource, filter_of
from gateway.graphql.types import (
    BASE64,
    LONG,
    Base64,
    Change,
    ChangeBatch,
    Deletion,
    Edit,
    File,
    FileChange,
    Info,
    Long,
    Project,
    Receipt,
    Session,
    Turn,
    TurnChange,
    bytes_of,
    checked_count,
    checked_root,
)
from gateway.wire.changes import FileFeedEntry
from gateway.wire.problems import FileNotFound, InvalidParameter, ProjectNotFound, PromptTooLarge
from storage import FINISHED, TurnStatus

_KINDS = frozenset(("file", "turn"))
_STATUSES: tuple[TurnStatus, ...] = ("running", *sorted(FINISHED))
_LONGEST_TITLE, _LONGEST_ERROR = 1000, 10_000
_MOST_EDITS = 1000
_ROOT = "content"


def _require(caller: Caller, project: str, need: Need) -> View:
    view = caller.view(project, need)
    if view is None:
        raise ProjectNotFound(project)
    return view


def _visible(view: View, path: str) -> str:
    if not view.sees(checked_path(path)):
        raise FileNotFound(path)
    return path


def _receipt(caller: Caller, project: str, written: Written) -> Receipt:
    if written.changed:
        caller.note("write", project, written.head.path, written.head.version)
    return Receipt(written)


@strawberry.type
class Query:
    @strawberry.field(description="A project; null where there is none.")
    async def project(self, info: Info, id: str) -> Project | None:
        view = info.context.view(id, None)
        watched = None if view is None else await info.context.services.hub.project(id)
        return None if view is None or watched is None else Project(id, view, watched.cursor)


@strawberry.type
class Mutation:
    @strawberry.mutation(
        description="Replace the text of a root by the smallest edit. With `baseVersion` (0: no file) the text "
        "is meant as an edit of that version, and what others wrote since stays; without it that is removed."
    )
    async def put_text(
        self,
        info: Info,
        project: str,
        path: str,
        text: str,
        in_root: Annotated[str | None, strawberry.argument(name="root")] = None,
        base_version: int | None = None,
    ) -> Receipt:
        caller = info.context
        view = _require(caller, project, "write")
        path, author, files = _visible(view, path), caller.author(view), caller.services.files
        name, make = checked_root(_ROOT if in_root is None else in_root), in_root is not None
        base = checked_count("baseVersion", base_version)
        if base is None:
            written = await files.put_text(project, path, text, name, Preconditions(), author, make=make)
        else:
            revision = NewText(text)
            written = await files.revise(project, path, name, revision, base, Preconditions(), author, make=make)
        return _receipt(caller, project, written)

    @strawberry.mutation(
        description="Replace parts of the text of a root, all or none; with `baseVersion` parts of that version."
    )
    async def edit(
        self,
        info: Info,
        project: str,
        path: str,
        edits: list[Edit],
        in_root: Annotated[str | None, strawberry.argument(name="root")] = None,
        base_version: int | None = None,
    ) -> Receipt:
        caller = info.context
        view = _require(caller, project, "write")
        if not 1 <= len(edits) <= _MOST_EDITS:
            raise InvalidParameter("edits", f"1 to {_MOST_EDITS} are expected")
        if base_version is not None and base_version < 1:
            raise InvalidParameter("baseVersion", "it must be 1 or more")
        written = await caller.services.files.revise(
            project,
            _visible(view, path),
            checked_root(_ROOT if in_root is None else in_root),
            replacements([each.requested() for each in edits]),
            base_version,
            Preconditions(),
            caller.author(view),
        )
        return _receipt(caller, project, written)

    @strawberry.mutation(description="Merge a Yjs update (encoding v1) into a file, and create it if need be.")
    async def append_update(
        self, info: Info, project: str, path: str, update: Base64, incarnation: str | None = None
    ) -> Receipt:
        caller = info.context
        view = _require(caller, project, "write")
        conditions = Preconditions(incarnation=incarnation)
        written = await caller.services.files.append(
            project, _visible(view, path), await bytes_of(update), conditions, caller.author(view)
        )
        return _receipt(caller, project, written)

    @strawberry.mutation(description="Rename a file.")
    async def move(self, info: Info, project: str, source: str, target: str) -> Receipt:
        caller = info.context
        view = _require(caller, project, "write")
        source, target = _visible(view, source), _visible(view, target)
        written = await caller.services.files.move(project, source, target, caller.author(view))
        caller.note("move", project, target, written.head.version, f"from {source}")
        return Receipt(written)

    @strawberry.mutation(description="Delete a file.")
    async def delete(self, info: Info, project: str, path: str) -> Deletion:
        caller = info.context
        view = _require(caller, project, "write")
        head = await caller.services.files.delete(project, _visible(view, path), Preconditions(), caller.author(view))
        caller.note("delete", project, path, head.version)
        return Deletion(head)

    @strawberry.mutation(description="A new session.")
    async def create_session(self, info: Info, project: str, title: str | None = None) -> Session:
        _require(info.context, project, "turns")
        if title is not None and len(title) > _LONGEST_TITLE:
            raise InvalidParameter("title", f"it has more than {_LONGEST_TITLE} characters")
        return Session(project, await info.context.services.turns.create_session(project, title))

    @strawberry.mutation(description="A new turn, pending.")
    async def create_turn(self, info: Info, project: str, session: str, prompt: str) -> Turn:
        services = info.context.services
        _require(info.context, project, "turns")
        if len(prompt.encode("utf-8", "surrogatepass")) > services.prompt_limit:
            raise PromptTooLarge(services.prompt_limit)
        return Turn(project, await services.turns.create(project, session, prompt))

    @strawberry.mutation(description="One step of a turn's life.")
    async def set_turn_status(
        self, info: Info, project: str, session: str, id: str, status: str, error: str | None = None
    ) -> Turn:
        _require(info.context, project, "turns")
        if status not in _STATUSES:
            raise InvalidParameter("status", f"it is one of {', '.join(_STATUSES)}")
        if error is not None and (status not in ("failed", "cancelled") or len(error) > _LONGEST_ERROR):
            raise InvalidParameter(
                "error",
                f"only a turn that becomes failed or cancelled has one, of at most {_LONGEST_ERROR} characters",
            )
        stored = await info.context.services.turns.set_status(project, session, id, status, error)
        return Turn(project, stored.head, stored)


@strawberry.type
class Subscription:
    @strawberry.subscription(
        description="What changes in a project after `since`; without it, first all there is. `kinds`: `file`, `turn`."
    )
    async def changes(
        self,
        info: Info,
        project: str,
        since: str | None = None,
        kinds: list[str] | None = None,
        prefix: str = "",
        paths: list[str] | None = None,
    ) -> AsyncGenerator[ChangeBatch, None]:
        caller = info.context
        view = _require(caller, project, "read")
        if kinds is not None and not set(kinds) <= _KINDS:
            raise InvalidParameter("kinds", "they are `file` and `turn`")
        batch = list(fields_of(info.selected_fields[0].selections, "ChangeBatch"))
        of_changes = [selection for field in batch if field.name == "changes" for selection in field.selections]
        of_files, of_turns = selected(of_changes, "FileChange"), selected(of_changes, "TurnChange")
        watched = await caller.services.hub.require(project)
        wants_all = not of_files and not of_turns
        filter_ = filter_of(
            view,
            files=(kinds is None or "file" in kinds) and (wants_all or bool(of_files)),
            turns=(kinds is None or "turn" in kinds) and (wants_all or bool(of_turns)),
            prefix=prefix,
            paths=None if paths is None else frozenset(map(checked_path, paths)),
        )
        if since is not None:
            parse_cursor(since)
        source = FeedSource[FeedEvent](caller.services, project, watched, filter_, since, of_files, of_turns)
        return _batches(caller.follow(source, info), project)

    @strawberry.subscription(
        description="A file, also one that is still to be made, from the first version after `fromVersion` on."
    )
    async def file(
        self, info: Info, project: str, path: str, from_version: int | None = None
    ) -> AsyncGenerator[File, None]:
        caller = info.context
        view = _require(caller, project, "read")
        watched = await caller.services.hub.require(project)
        fields = selected(info.selected_fields[0].selections, "File")
        known = checked_count("fromVersion", from_version)
        source = FileSource[FileEvent](caller.services, project, watched, _visible(view, path), known, fields)
        return _files(caller.follow(source, info), project)

    @strawberry.subscription(description="A turn until it has ended; of its blocks those after the first `afterBlock`.")
    async def turn(
        self, info: Info, project: str, session: str, id: str, after_block: int = 0
    ) -> AsyncGenerator[Turn, None]:
        caller = info.context
        _require(caller, project, "read turns")
        watched = await caller.services.hub.require(project)
        await caller.services.turns.head(project, session, id)
        fields = selected(info.selected_fields[0].selections, "Turn")
        position = checked_count("afterBlock", after_block) or 0
        source = TurnSource[TurnEvent](caller.services, project, watched, session, id, position, fields)
        return _turns(caller.follow(source, info), project)


async def _batches(events: AsyncIterator[FeedEvent], project: str) -> AsyncGenerator[ChangeBatch, None]:
    async for event in events:
        changes = [
            FileChange(project, entry, event.told.get(entry.path))
            if isinstance(entry, FileFeedEntry)
            else TurnChange(entry)
            for entry in event.answer.changes
        ]
        yield ChangeBatch(changes, event.answer.cursor, event.answer.reset is True)


async def _files(events: AsyncIterator[FileEvent], project: str) -> AsyncGenerator[File, None]:
    async for event in events:
        yield File(project, event.head, event.told)


async def _turns(events: AsyncIterator[TurnEvent], project: str) -> AsyncGenerator[Turn, None]:
    async for event in events:
        yield Turn(project, event.head, event.stored, told=True)


class _Schema(strawberry.Schema):
    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Do nothing: `answers` logs internal errors."""


schema = _Schema(
    Query,
    Mutation,
    Subscription,
    config=StrawberryConfig(scalar_map={Long: LONG, Base64: BASE64}),
    extensions=[Checking],
)

__all__ = ["Change", "schema"]
