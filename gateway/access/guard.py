"""The guard: a credential is checked once and becomes an `Access`, which is cached until it expires or is revoked."""

import asyncio
import contextlib
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import msgspec

from gateway.access.grants import ALL, Claims, Grant, InvalidGrant, Need, View, parse_grant
from gateway.access.tokens import digests_match, is_token, parse_token
from gateway.wire.problems import Forbidden, ProjectNotFound, Unauthenticated, Unavailable
from storage import AccessToken

LONGEST_CREDENTIAL = 8192
"""Bytes."""

_REMEMBERED = 16_384
_REMEMBERED_VIEWS = 1024
_LONGEST_SLEEP_S = 3600.0
_STORE_USES_S = 60.0
_HEAR_REVOCATIONS_S = 0.5
_KEEP_SESSIONS_S, _ASK_BEFORE_S = 0.25, 1.0
_SESSION = "session"
"""The `credential` of an access by a session of the application."""
_WEB_TOKEN = "jwt"
"""The `credential` of an access by a JSON Web Token, alone or followed by a colon and its `jti`."""

End = Literal["expired", "revoked"]


class Access:
    """A subject, and what it may do until its credential ends. One object serves all requests with one credential.

    Args:
        subject: who makes the requests; None where no credentials are required.
        credential: the id of the token, `session`, or `jwt` with the `jti`; None where no credentials are required.
        expires: seconds since 1970; None: never.
    """

    __slots__ = (
        "__weakref__",
        "_clock",
        "_timer",
        "_views",
        "_watchers",
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
    ) -> None:
        self.subject = subject
        self.grant = grant
        self.credential = credential
        self.name = name
        self.expires = expires
        self.ended: End | None = None
        self.noted_until = 0.0
        """Until when the use of the token need not be noted again, in seconds since 1970."""
        self._clock = clock
        self._views: dict[str, View | None] = {}
        self._watchers: dict[Callable[[], None], None] = {}
        self._timer: asyncio.TimerHandle | None = None

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
        watchers, self._watchers = self._watchers, {}
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if watchers:
            loop = asyncio.get_running_loop()
            for watcher in watchers:
                loop.call_soon(watcher)

    def _set_timer(self) -> None:
        assert self.expires is not None
        # The wall clock may be changed meanwhile: it is read again at the end of each sleep.
        sleep = min(max(self.expires - self._clock(), 0.0), _LONGEST_SLEEP_S)
        self._timer = asyncio.get_running_loop().call_later(sleep + 0.001, self._check)

    def _check(self) -> None:
        self._timer = None
        if self.counts and self._watchers:
            self._set_timer()


OPEN = Access(None, ALL)
"""The access of every request where no credentials are required: everything is allowed."""


class Tokens(Protocol):
    """Storage of the gateway's tokens."""

    async def token(self, identifier: str) -> AccessToken | None:
        """Return a token by its id."""

    async def tokens(self) -> list[AccessToken]:
        """Return every token."""

    async def note_use(self, used: Mapping[str, int]) -> None:
        """Note when tokens were last used, in milliseconds since 1970, by id."""


class WebTokens(Protocol):
    """Checks JSON Web Tokens."""

    async def check(self, token: str) -> Claims: ...


class Sessions(Protocol):
    """Asks an application about its sessions."""

    async def check(self, kind: str, value: str) -> Claims: ...


class Guard:
    """Checks credentials, and caches those that were checked recently.

    Args:
        web_tokens: None if the application has no JSON Web Tokens.
        sessions: None if the application is not asked about sessions.
        clock: seconds since 1970.
        limit: how many credentials are cached.
    """

    def __init__(
        self,
        tokens: Tokens,
        web_tokens: WebTokens | None = None,
        sessions: Sessions | None = None,
        *,
        clock: Callable[[], float] = time.time,
        limit: int = _REMEMBERED,
    ) -> None:
        self._tokens = tokens
        self._web_tokens = web_tokens
        self._sessions = sessions
        self._asked: weakref.WeakKeyDictionary[Access, tuple[str, str]] = weakref.WeakKeyDictionary()
        """The kind and the value that the application was asked about, by access."""
        self._clock = clock
        self._limit = limit
        self._known: dict[bytes, Access] = {}
        self._alive: weakref.WeakSet[Access] = weakref.WeakSet()
        """Includes those that are no longer cached but still connected."""
        self._used: dict[str, int] = {}
        self._revocations = 0

    def __len__(self) -> int:
        return len(self._known)

    def known(self, credential: bytes) -> Access | None:
        """Return the access of a credential that was checked before and is still valid."""
        access = self._known.get(credential)
        if access is None:
            return None
        now = self._clock()  # read once: every request comes through here
        if access.ended is not None or (access.expires is not None and access.expires <= now):
            access.end("expired")
            del self._known[credential]
            return None
        if now >= access.noted_until:
            self._note(access, int(now // 3600))
        return access

    async def check(self, credential: bytes) -> Access:
        """Return the access that a credential proves.

        Raises:
            Unauthenticated: the credential is not valid.
            Unavailable: the keys of the application's tokens cannot be fetched.
        """
        access = self.known(credential)
        if access is not None:
            return access
        if len(credential) > LONGEST_CREDENTIAL:
            raise Unauthenticated(f"a credential has at most {LONGEST_CREDENTIAL} bytes")
        try:
            text = credential.decode("ascii")
        except UnicodeDecodeError:
            raise Unauthenticated("a credential is ASCII") from None
        while True:
            revocations = self._revocations
            access = await (self._check_token(text) if is_token(text) else self._check_web_token(text))
            if revocations == self._revocations:  # else this token may have been revoked meanwhile
                break
        self._remember(credential, access)
        return access

    @property
    def knows_cookies(self) -> bool:
        """Whether cookies may be credentials."""
        return self._sessions is not None

    async def check_cookie(self, cookie: bytes) -> Access:
        """Return the access that a session cookie of the application proves; raises what `check` raises."""
        key = b"cookie " + cookie
        access = self.known(key)
        if access is None:
            access = await self._check_session("cookie", cookie.decode("latin-1"))
            self._remember(key, access)
        return access

    async def _check_session(self, kind: str, value: str) -> Access:
        assert self._sessions is not None
        claims = await self._sessions.check(kind, value)
        access = Access(
            claims.subject,
            claims.grant,
            credential=_SESSION,
            name=claims.name,
            expires=claims.expires,
            clock=self._clock,
        )
        self._asked[access] = (kind, value)
        return access

    async def keep_sessions(self) -> None:
        """Run for ever: ask the application again about the sessions of connected clients before its last answer
        expires. A session that the application no longer knows, or that now grants something else, ends."""
        while True:
            await asyncio.sleep(_KEEP_SESSIONS_S)
            now = self._clock()
            due = [
                (access, asked)
                for access, asked in list(self._asked.items())
                if access.is_watched and access.counts and (access.expires or now) - now < _ASK_BEFORE_S
            ]
            await asyncio.gather(*(self._ask_again(access, *asked) for access, asked in due))

    async def _ask_again(self, access: Access, kind: str, value: str) -> None:
        assert self._sessions is not None
        with contextlib.suppress(Unauthenticated, Unavailable):
            claims = await self._sessions.check(kind, value)
            if access.ended is None and (claims.subject, claims.grant) == (access.subject, access.grant):
                access.extend(claims.expires)

    async def _check_token(self, text: str) -> Access:
        parsed = parse_token(text)
        if parsed is None:
            raise Unauthenticated("the token is not whole")
        identifier, digest = parsed
        token = await self._tokens.token(identifier)
        if not digests_match(digest, None if token is None else token.digest) or token is None:
            raise Unauthenticated("there is no such token")
        if token.revoked is not None:
            raise Unauthenticated("the token was revoked")
        expires = None if token.expires is None else token.expires / 1000
        if expires is not None and expires <= self._clock():
            raise Unauthenticated("the token has expired")
        try:
            grant = parse_grant(msgspec.json.decode(token.grant))
        except (InvalidGrant, msgspec.DecodeError) as error:
            raise Unauthenticated(f"the token's grant cannot be read: {error}") from None
        return Access(token.subject, grant, credential=identifier, name=token.name, expires=expires, clock=self._clock)

    async def _check_web_token(self, text: str) -> Access:
        if self._sessions is not None and (self._web_tokens is None or text.count(".") != 2):
            return await self._check_session("token", text)
        if self._web_tokens is None:
            raise Unauthenticated("the credential is no token of this gateway")
        claims = await self._web_tokens.check(text)
        identifier = _WEB_TOKEN if claims.identifier is None else f"{_WEB_TOKEN}:{claims.identifier[:100]}"
        return Access(
            claims.subject,
            claims.grant,
            credential=identifier,
            name=claims.name,
            expires=claims.expires,
            clock=self._clock,
        )

    def _remember(self, credential: bytes, access: Access) -> None:
        while len(self._known) >= self._limit:
            del self._known[next(iter(self._known))]
        self._known[credential] = access
        self._alive.add(access)
        self._note(access, int(self._clock() // 3600))

    def _note(self, access: Access, hour: int) -> None:
        access.noted_until = (hour + 1) * 3600.0
        if access.credential is not None and not _is_web_token(access.credential):
            self._used[access.credential] = hour * 3_600_000

    def revoke(self, identifier: str) -> None:
        """Invalidate a token, also for clients that are connected with it."""
        self._revocations += 1
        for access in list(self._alive):
            if access.credential == identifier:
                access.end("revoked")

    async def keep_uses(self) -> None:
        """Run for ever: store now and then when tokens were last used."""
        try:
            while True:
                await asyncio.sleep(_STORE_USES_S)
                await self.store_uses()
        finally:
            with contextlib.suppress(Exception):  # precise to the hour, and not urgent
                await self.store_uses()

    async def hear_revocations(self) -> None:
        """Run for ever: check whether another gateway on the same database has revoked a token that is cached here."""
        while True:
            await asyncio.sleep(_HEAR_REVOCATIONS_S)
            known = {each.credential for each in list(self._alive) if each.ended is None}
            if not any(each is not None and not _is_web_token(each) for each in known):
                continue
            for token in await self._tokens.tokens():
                if token.revoked is not None and token.id in known:
                    self.revoke(token.id)

    async def store_uses(self) -> None:
        used, self._used = self._used, {}
        if used:
            await self._tokens.note_use(used)


def _is_web_token(credential: str) -> bool:
    return credential in (_WEB_TOKEN, _SESSION) or credential.startswith(f"{_WEB_TOKEN}:")
