"""The guard: a credential is checked once and becomes an `Access`, which is cached until it expires or is revoked."""

import asyncio
import contextlib
import time
import weakref
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import msgspec
import structlog
from msgspec import Struct

from gateway.access.access import Access
from gateway.access.grants import Claims, InvalidGrant, Need, parse_grant
from gateway.access.sessions import Answer, Kind, Question
from gateway.access.tokens import digests_match, is_token, parse_token
from gateway.shared_turn import SharedTurn
from gateway.wire.problems import Forbidden, Problem, Unauthenticated, Unavailable
from storage import AccessToken

_log = structlog.get_logger("gateway.access")

LONGEST_CREDENTIAL = 8192
"""Bytes."""

_REMEMBERED = 16_384
_STORE_USES_S = 60.0
_HEAR_REVOCATIONS_S = 0.5
_KEEP_SESSIONS_S, _ASK_BEFORE_S = 0.25, 1.0
_SESSION = "session"
"""The `credential` of an access by a session of the application."""
_ANYTHING = Question()
_WEB_TOKEN = "jwt"
"""The `credential` of an access by a JSON Web Token, alone or followed by a colon and its `jti`."""


class Tokens(Protocol):
    """Storage of the gateway's tokens."""

    async def token(self, identifier: str) -> AccessToken | None:
        """Return a token by its id."""

    async def revoked_tokens(self, identifiers: Collection[str]) -> list[str]:
        """Return the ids, of those given, of the tokens that were revoked."""

    async def note_use(self, used: Mapping[str, int]) -> None:
        """Note when tokens were last used, in milliseconds since 1970, by id."""


class WebTokens(Protocol):
    """Checks JSON Web Tokens."""

    async def check(self, token: str) -> Claims: ...


class Sessions(Protocol):
    """Asks an application about its sessions."""

    async def ask(self, kind: Kind, value: str, project: str | None, path: str | None, action: Need) -> Answer: ...


class _Session(Struct, frozen=True):
    """What the application is asked. Without a question, this is the key of an answer that holds the whole grant."""

    kind: Kind
    value: str
    question: Question | None = None


class Guard:
    """Checks credentials, and caches those that were checked recently.

    Args:
        web_tokens: None if the application has no JSON Web Tokens.
        sessions: None if the application is not asked about sessions.
        clock: seconds since 1970.
        limit: how many credentials are cached.
        turn: what may be done for all clients in one turn of the event loop.
    """

    def __init__(
        self,
        tokens: Tokens,
        web_tokens: WebTokens | None = None,
        sessions: Sessions | None = None,
        *,
        clock: Callable[[], float] = time.time,
        limit: int = _REMEMBERED,
        turn: SharedTurn | None = None,
    ) -> None:
        self._turn = turn or SharedTurn()
        self._tokens = tokens
        self._web_tokens = web_tokens
        self._sessions = sessions
        self._asked: weakref.WeakKeyDictionary[Access, _Session] = weakref.WeakKeyDictionary()
        """What the application was asked, by access."""
        self._asking: dict[_Session, asyncio.Task[Access]] = {}
        """By question, and for a credential that is new also by credential."""
        self._by_question: dict[_Session, None] = {}
        """Credentials about which the application answers question by question."""
        self._refused: dict[_Session, tuple[float, Problem]] = {}
        """Refusals of the application, and until when they count."""
        self._clock = clock
        self._looked = 0.0
        """When the answers of the application were last looked at."""
        self._limit = limit
        self._known: dict[bytes | _Session, Access] = {}
        self._alive: weakref.WeakSet[Access] = weakref.WeakSet()
        """Includes those that are no longer cached but still connected."""
        self._used: dict[str, int] = {}
        self._revocations = 0

    def __len__(self) -> int:
        return len(self._known)

    def known(self, credential: bytes | _Session) -> Access | None:
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

    async def check(self, credential: bytes, question: Question = _ANYTHING) -> Access:
        """Return the access that a credential proves.

        Args:
            question: what the application is asked about a token that only the application knows.

        Raises:
            Unauthenticated: the credential is not valid.
            Forbidden: the application allows nothing of what is asked.
            Unavailable: the keys of the application's tokens cannot be fetched, or the application cannot be asked.
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
        if self.is_of_application(text):
            return await self._check_session("token", text, question)
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

    def is_of_application(self, token: str) -> bool:
        """Whether only the application can tell whose token this is."""
        return (
            self._sessions is not None and not is_token(token) and (self._web_tokens is None or token.count(".") != 2)
        )

    def known_session(self, kind: Kind, value: str, question: Question) -> Access | None:
        """Return the access of a session if the application's answer is still valid."""
        return self.known(_Session(kind, value)) or self.known(_Session(kind, value, question))

    async def check_cookie(self, cookie: bytes, question: Question = _ANYTHING) -> Access:
        """Return the access that a session cookie of the application proves; raises what `check` raises."""
        return await self._check_session("cookie", cookie.decode("latin-1"), question)

    async def _check_session(self, kind: Kind, value: str, question: Question) -> Access:
        """Ask the application, once for all requests that wait for the same answer.

        Requests with a credential that is new wait for the first answer about it: it may hold the whole grant.
        """
        credential, asked = _Session(kind, value), _Session(kind, value, question)
        while True:
            access = self.known(credential) or self.known(asked)
            if access is not None:
                return access
            self._raise_refusal(credential)
            self._raise_refusal(asked)
            asking = self._asking.get(asked)
            if asking is not None:
                return await asyncio.shield(asking)
            first = None if credential in self._by_question else self._asking.get(credential)
            if first is None:
                break
            with contextlib.suppress(Forbidden):  # it concerns another question
                await asyncio.shield(first)
        task = asyncio.create_task(self._ask(asked))
        keys = [asked] if credential in self._by_question else [asked, credential]
        for key in keys:
            self._asking[key] = task
        task.add_done_callback(lambda _: self._end_asking(keys))
        return await asyncio.shield(task)

    def _end_asking(self, keys: list[_Session]) -> None:
        for key in keys:
            task = self._asking.pop(key)
            if not task.cancelled():
                task.exception()  # whoever waits for it has seen it; if all have left, nobody needs it

    async def _ask(self, asked: _Session) -> Access:
        credential = _Session(asked.kind, asked.value)
        answer, action = await self._answer(asked)
        keeps = answer.until > self._clock()
        if not answer.whole and not answer.unknown:
            self._answers_by_question(credential)
        claims = answer.claims
        if claims is None:
            problem: Problem = Forbidden("read" if action == "read turns" else action)
            if answer.unknown:
                problem = Unauthenticated(f"the application does not know the {asked.kind}")
            if keeps:
                _make_room(self._refused, self._limit)
                self._refused[credential if answer.unknown else asked] = (answer.until, problem)
            raise problem
        access = Access(
            claims.subject,
            claims.grant,
            credential=_SESSION,
            name=claims.name,
            expires=claims.expires,
            clock=self._clock,
            turn=self._turn,
        )
        self._asked[access] = asked
        if keeps:
            self._remember(credential if answer.whole else asked, access)
        return access

    async def _answer(self, asked: _Session) -> tuple[Answer, Need]:
        """Return what the application says about the first action that it allows, or about the last one."""
        assert self._sessions is not None
        assert asked.question is not None
        question = asked.question
        for action in question.actions:
            answer = await self._sessions.ask(asked.kind, asked.value, question.project, question.path, action)
            if answer.claims is not None or answer.unknown:
                break
        return answer, action

    def _answers_by_question(self, credential: _Session) -> None:
        if credential not in self._by_question:
            _make_room(self._by_question, self._limit)
            self._by_question[credential] = None

    def _raise_refusal(self, key: _Session) -> None:
        refused = self._refused.get(key)
        if refused is None:
            return
        until, problem = refused
        if until <= self._clock():
            del self._refused[key]
            return
        raise problem.with_traceback(None)

    async def keep_sessions(self) -> None:
        """Run for ever: ask the application again about the sessions of connected clients before its last answer
        expires. A session that the application no longer knows, or that now grants something else, ends."""
        while True:
            await self.renew_sessions()
            await asyncio.sleep(_KEEP_SESSIONS_S)

    async def renew_sessions(self) -> None:
        """Ask the application about the sessions of connected clients for which its last answer expires soon."""
        now = self._clock()
        if now < self._looked:
            self._set_back(self._looked - now)
        self._looked = now
        due = [
            (access, asked)
            for access, asked in list(self._asked.items())
            if access.is_watched and access.counts and (access.expires or now) - now < _ASK_BEFORE_S
        ]
        await asyncio.gather(*(self._ask_again(access, asked) for access, asked in due))

    def _set_back(self, seconds: float) -> None:
        """The clock was set back: what the application answered before counts no longer for that."""
        for access in list(self._asked):
            if access.expires is not None:
                access.extend(access.expires - seconds)
        self._refused = {key: (until - seconds, problem) for key, (until, problem) in self._refused.items()}

    async def _ask_again(self, access: Access, asked: _Session) -> None:
        """Ask what was asked before; the credential ends by itself unless the application confirms it in time."""
        with contextlib.suppress(Unavailable):
            answer, _ = await self._answer(asked)
            claims = answer.claims
            same = claims is not None and (claims.subject, claims.grant) == (access.subject, access.grant)
            if claims is not None and same and access.ended is None:
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
        return Access(
            token.subject,
            grant,
            credential=identifier,
            name=token.name,
            expires=expires,
            clock=self._clock,
            turn=self._turn,
        )

    async def _check_web_token(self, text: str) -> Access:
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
            turn=self._turn,
        )

    def _remember(self, credential: bytes | _Session, access: Access) -> None:
        _make_room(self._known, self._limit)
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
            of_gateway = [each for each in known if each is not None and not _is_web_token(each)]
            for identifier in await self._tokens.revoked_tokens(of_gateway) if of_gateway else ():
                self.revoke(identifier)

    async def store_uses(self) -> None:
        used, self._used = self._used, {}
        if used:
            await self._tokens.note_use(used)


def _make_room(cache: dict[Any, Any], limit: int) -> None:
    """Drop the oldest entries, so that there is room for one more."""
    while len(cache) >= limit:
        del cache[next(iter(cache))]


def _is_web_token(credential: str) -> bool:
    return credential in (_WEB_TOKEN, _SESSION) or credential.startswith(f"{_WEB_TOKEN}:")
