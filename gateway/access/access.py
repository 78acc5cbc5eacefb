"""What a subject may do, and until when."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec
import structlog

from gateway.access.grants import ALL, Grant, Need, View
from gateway.access.sessions import Question
from gateway.shared_turn import Pieces, SharedTurn
from gateway.wire.problems import Forbidden, ProjectNotFound, Unauthenticated
from storage import Author

_log = structlog.get_logger("gateway.access")

_END_S = 0.0001
"""What a task takes that ends a connection, in seconds: many connections are ended in several turns."""
_REMEMBERED_VIEWS = 1024
_LONGEST_SLEEP_S = 3600.0

End = Literal["expired", "revoked"]


class Access:
    """A subject, and what it may do until its credential ends. One object serves all requests with one credential.

    Args:
        subject: who makes the requests; None where no credentials are required.
        credential: the id of the token, `session`, or `jwt` with the `jti`; None where no credentials are required.
        expires: seconds since 1970; None: never.
        turn: what may be done for all clients in one turn of the event loop.
    """

    __slots__ = (
        "__weakref__",
        "_clock",
        "_timer",
        "_turn",
        "_views",
        "_watchers",
        "author",
        "credential",
        "ended",
        "expires",
        "grant",
        "name",
        "noted_until",
        "subject",
    )

    def __init__(
        self,
        subject: str | None,
        grant: Grant,
        *,
        credential: str | None = None,
        name: str | None = None,
        expires: float | None = None,
        clock: Callable[[], float] = time.time,
        turn: SharedTurn | None = None,
    ) -> None:
        self.subject = subject
        self.grant = grant
        self.credential = credential
        self.author = Author(subject, credential)
        """The author of what the subject writes."""
        self.name = name
        self.expires = expires
        self.ended: End | None = None
        self.noted_until = 0.0
        """Until when the use of the token need not be noted again, in seconds since 1970."""
        self._clock = clock
        self._views: dict[str, View | None] = {}
        self._watchers: dict[Callable[[], None], None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._turn = turn

    @property
    def counts(self) -> bool:
        """Whether the credential is still valid."""
        if self.ended is None and self.expires is not None and self.expires <= self._clock():
            self.end("expired")
        return self.ended is None

    def require_valid(self) -> None:
        """Raise Unauthenticated if the credential has expired or was revoked."""
        if not self.counts:
            raise Unauthenticated(f"the credential has {'expired' if self.ended == 'expired' else 'been revoked'}")

    def view(self, project: str) -> View | None:
        """Return what the subject may do in a project; None: the project does not exist for the subject."""
        try:
            return self._views[project]
        except KeyError:
            if len(self._views) >= _REMEMBERED_VIEWS:
                self._views.clear()
            view = self._views[project] = self.grant.view(project)
            return view

    def identity(self, project: str) -> str:
        """Return an opaque name of the credential and of what it grants in a project, the same on every gateway.

        What one request with a name was told, another one with the same name would be told as well."""
        if self.credential is None:
            return "open"
        view = self.view(project)
        paths = None if view is None or view.paths is None else (view.paths.folders, view.paths.files)
        scopes = [] if view is None else sorted(view.scopes)
        named = msgspec.json.encode([self.subject, self.credential, project, scopes, paths])
        return hashlib.sha256(named).hexdigest()[:32]

    def require(self, project: str, need: Need) -> View:
        """Return what the subject may do in a project.

        Raises:
            ProjectNotFound: the subject may do nothing there.
            Forbidden: the subject may do less than `need`.
        """
        view = self.view(project)
        if view is None:
            raise ProjectNotFound(project)
        if not view.may(need):
            raise Forbidden(view.missing(need))
        return view

    def require_admin(self) -> None:
        """Raise Forbidden unless the grant is one of all projects, tokens and the audit."""
        if not self.grant.admin:
            raise Forbidden("admin")

    # While clients are connected

    def watch(self, ended: Callable[[], None]) -> None:
        """Call `ended`, which must not block, once the credential is no longer valid."""
        if self.credential is None:  # such an access never ends
            return
        if not self.counts:
            asyncio.get_running_loop().call_soon(ended)
            return
        self._watchers[ended] = None
        if self._timer is None and self.expires is not None:
            self._set_timer()

    def unwatch(self, ended: Callable[[], None]) -> None:
        self._watchers.pop(ended, None)
        if not self._watchers and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def extend(self, expires: float) -> None:
        """Prolong the credential: the application has confirmed it."""
        self.expires = expires
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.ended is None and self._watchers:
            self._set_timer()

    @property
    def is_watched(self) -> bool:
        """Whether a client is connected with this credential."""
        return bool(self._watchers)

    def end(self, why: End) -> None:
        """Invalidate the credential, and notify the connections that use it."""
        if self.ended is not None:
            return
        self.ended = why
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._watchers:
            turn = self._turn or SharedTurn()
            asyncio.get_running_loop().call_soon(turn.run, self._call_watchers())

    def _call_watchers(self) -> Pieces:
        while self._watchers:
            watcher = next(iter(self._watchers))
            del self._watchers[watcher]
            try:
                watcher()
            except Exception:
                _log.exception("a connection was not told that its credential has ended")
            yield _END_S
        return 0.0

    def _set_timer(self) -> None:
        assert self.expires is not None
        # The wall clock may be changed meanwhile: it is read again at the end of each sleep.
        sleep = min(max(self.expires - self._clock(), 0.0), _LONGEST_SLEEP_S)
        self._timer = asyncio.get_running_loop().call_later(sleep + 0.001, self._check)

    def _check(self) -> None:
        self._timer = None
        if self.counts and self._watchers:
            self._set_timer()


Check = Callable[[bytes | None, Question | None], Awaitable[Access]]
"""Checks a credential from a message of a WebSocket, or, with None, that of the request that opened the connection.

Raises Unauthenticated, Forbidden, RateLimited or Unavailable.
"""

OPEN = Access(None, ALL)
"""The access of every request where no credentials are required: everything is allowed."""
