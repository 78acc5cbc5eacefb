"""The readers of projects as their owners manage them: put, read, replay, delete."""

import secrets
from collections.abc import Callable

from msgspec.structs import replace

from gateway.access.access import Access
from gateway.access.grants import View
from gateway.changes.cursors import parse_cursor
from gateway.pace import next_slice
from gateway.readers.hosts import Refused
from gateway.readers.outside import Outside
from gateway.readers.reader import (
    HookTarget,
    Owner,
    PushTarget,
    ReaderSettings,
    ReaderState,
    encoded,
    settings_of,
    state_of,
)
from gateway.readers.vapid import check_keys
from gateway.readers.webhooks import new_secret
from gateway.watch.hub import Hub
from gateway.wire.problems import (
    Forbidden,
    HookNotFound,
    InvalidCursor,
    InvalidParameter,
    InvalidPath,
    ProjectNotFound,
    QuotaExceeded,
)
from gateway.wire.readers import Hook, HookListing, HookRequest, PushRequest, PushState, ReaderFilter
from gateway.wire.values import path_fault, rfc3339
from storage import Milliseconds, ProjectHead, Reader, Storage

HOOK, PUSH = "hook", "push"
_MOST_PATHS = 1000
_LARGEST_FILTER = 64 * 1024
"""Bytes of the prefix and the paths of a filter together: they are read with the reader at every change."""
_LONGEST_URL = 2048
_LISTED_AT_ONCE, _LISTED_BYTES = 16, 2**20
"""How many hooks are read in one step, and how many bytes of settings end a page."""


class Registry:
    """Manages the readers of all projects.

    Args:
        limit: how many readers a project may have.
        wake: called with the project of a reader that was put.
        now: returns milliseconds since 1970.
    """

    def __init__(
        self,
        storage: Storage,
        hub: Hub,
        hooks: Outside,
        push: Outside,
        *,
        limit: int,
        wake: Callable[[str], None],
        now: Callable[[], int],
    ) -> None:
        self._storage = storage
        self._hub = hub
        self._hooks = hooks
        self._push = push
        self._limit = limit
        self._wake = wake
        self._now = now

    async def put_hook(
        self, project: str, name: str, request: HookRequest, access: Access, view: View
    ) -> tuple[Hook, bool]:
        """Create a hook, or change one, which keeps its secret and its position. Return whether it is new.

        Raises:
            ProjectNotFound, InvalidParameter, InvalidCursor, InvalidPath, Forbidden, QuotaExceeded
        """
        _check_url(self._hooks, request.url)
        former = await self._former(project, HOOK, name, request.filter, access)
        known = None if former is None else settings_of(former).hook
        secret = new_secret() if known is None else known.secret
        settings = ReaderSettings(
            Owner.of(access, view),
            request.filter,
            request.quiet_seconds,
            hook=HookTarget(request.url, request.include, secret),
        )
        reader, head = await self._put(project, HOOK, name, settings, request.since, former)
        hook = _hook(reader, head)
        return (hook if former is not None else replace(hook, secret=secret)), former is None

    async def hook(self, project: str, name: str) -> Hook:
        """Return a hook with its position.

        Raises:
            ProjectNotFound, HookNotFound
        """
        reader, head = await self._require_hook(project, name)
        return _hook(reader, head)

    async def list_hooks(self, project: str, after: str, limit: int) -> HookListing:
        """Return a page of the hooks, by name.

        Raises:
            ProjectNotFound
        """
        head = await self._head(project)
        hooks: list[Hook] = []
        size = 0
        while True:
            wanted = min(limit - len(hooks), _LISTED_AT_ONCE)
            found = await self._storage.readers(project, HOOK, after=after, limit=wanted + 1)
            hooks += [_hook(reader, head) for reader in found[:wanted]]
            size += sum(len(reader.settings) for reader in found[:wanted])
            if len(found) <= wanted:
                return HookListing(hooks, None)
            after = hooks[-1].id
            if len(hooks) == limit or size > _LISTED_BYTES:
                return HookListing(hooks, after)
            await next_slice()

    async def replay(self, project: str, name: str, since: str) -> Hook:
        """Deliver everything after a cursor once more; a hook that has ended resumes.

        Raises:
            ProjectNotFound, HookNotFound, InvalidCursor
        """
        reader, head = await self._require_hook(project, name)
        settings = settings_of(reader)
        reader, head = await self._put(project, HOOK, name, settings, since, reader)
        return _hook(reader, head)

    async def delete_hook(self, project: str, name: str) -> None:
        """Delete a hook.

        Raises:
            ProjectNotFound, HookNotFound
        """
        await self._head(project)
        if not await self._storage.delete_reader(project, HOOK, name):
            raise HookNotFound(name)

    async def put_push(self, project: str, client: str, request: PushRequest, access: Access, view: View) -> PushState:
        """Create a subscription, or renew one.

        Raises:
            ProjectNotFound, InvalidParameter, InvalidCursor, InvalidPath, Forbidden, QuotaExceeded
        """
        subscription = request.subscription
        _check_url(self._push, subscription.endpoint)
        try:
            await check_keys(subscription.keys)
        except ValueError as error:
            raise InvalidParameter("keys", str(error)) from None
        former = await self._former(project, PUSH, client, request.filter, access)
        target = PushTarget(subscription.endpoint, subscription.keys)
        settings = ReaderSettings(Owner.of(access, view), request.filter, request.quiet_seconds, push=target)
        reader, head = await self._put(project, PUSH, client, settings, request.since, former)
        state = state_of(reader)
        return PushState(client, reader.cursor, _lag(reader, head), state.attempts, state.answer, state.ended)

    async def delete_push(self, project: str, client: str, access: Access) -> None:
        """Delete a subscription, if there is one.

        Raises:
            ProjectNotFound, Forbidden
        """
        await self._head(project)
        reader = await self._storage.reader(project, PUSH, client)
        if reader is not None:
            _require_own(reader, access)
            await self._storage.delete_reader(project, PUSH, client)

    async def _head(self, project: str) -> ProjectHead:
        head = (await self._hub.require(project)).head
        assert head is not None
        return head

    async def _require_hook(self, project: str, name: str) -> tuple[Reader, ProjectHead]:
        head = await self._head(project)
        reader = await self._storage.reader(project, HOOK, name)
        if reader is None:
            raise HookNotFound(name)
        return reader, head

    async def _former(self, project: str, kind: str, name: str, filter_: ReaderFilter, access: Access) -> Reader | None:
        """Return the reader of this name, which must be the subject's own."""
        await self._head(project)
        if len(filter_.paths or ()) > _MOST_PATHS:
            raise InvalidParameter("paths", f"at most {_MOST_PATHS} are expected")
        if sum(len(each.encode()) for each in (filter_.prefix, *(filter_.paths or ()))) > _LARGEST_FILTER:
            raise InvalidParameter("filter", f"its prefix and paths have more than {_LARGEST_FILTER} bytes")
        for path in filter_.paths or ():
            if (fault := path_fault(path)) is not None:
                raise InvalidPath(path, fault)
        former = await self._storage.reader(project, kind, name)
        if former is not None:
            _require_own(former, access)
        elif await self._storage.count_readers(project) >= self._limit:
            raise QuotaExceeded(project, "webhooks and push subscriptions", self._limit)
        return former

    async def _put(
        self,
        project: str,
        kind: str,
        name: str,
        settings: ReaderSettings,
        since: str | None,
        former: Reader | None,
    ) -> tuple[Reader, ProjectHead]:
        head = await self._head(project)
        if since is not None:
            cursor = str(parse_cursor(since))
        elif former is not None and settings_of(former).owner.subject == settings.owner.subject:
            cursor = former.cursor
        else:
            cursor = head.cursor
        now = Milliseconds(self._now())
        revision, told = secrets.token_hex(8), encoded(settings)
        reader = Reader(project, kind, name, revision, told, cursor, 0, encoded(ReaderState()), now, "retry")
        if not await self._storage.put_reader(reader):
            raise ProjectNotFound(project)
        self._wake(project)
        return reader, head


def _require_own(reader: Reader, access: Access) -> None:
    """Raise Forbidden if a reader was made by another subject."""
    if settings_of(reader).owner.subject != access.subject and not access.grant.admin:
        raise Forbidden("admin")


def _check_url(outside: Outside, url: str) -> None:
    if len(url) > _LONGEST_URL:
        raise InvalidParameter("url", f"it has more than {_LONGEST_URL} characters")
    try:
        outside.check(url)
    except Refused as refusal:
        raise InvalidParameter("url", str(refusal)) from None


def _lag(reader: Reader, head: ProjectHead) -> int:
    try:
        cursor = parse_cursor(reader.cursor)
    except InvalidCursor:
        return head.sequence
    return max(head.sequence - cursor.sequence, 0) if cursor.epoch == head.epoch else head.sequence


def _hook(reader: Reader, head: ProjectHead) -> Hook:
    settings, state = settings_of(reader), state_of(reader)
    target = settings.hook
    assert target is not None
    return Hook(
        reader.name,
        target.url,
        settings.filter,
        target.include,
        settings.quiet_seconds,
        reader.cursor,
        _lag(reader, head),
        state.attempts,
        rfc3339(reader.due) if reader.stage == "retry" and state.attempts and reader.due else None,
        state.answer,
        state.ended,
    )
