"""The guard: what it remembers of credentials, and for how long."""

import asyncio
import gc
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any

import msgspec
import pytest

from gateway.access.access import OPEN, Access
from gateway.access.grants import Claims, parse_grant
from gateway.access.guard import Guard
from gateway.access.jwt import FixedKey, JsonWebTokens
from gateway.access.sessions import Answer
from gateway.access.tokens import new_token
from gateway.wire.problems import Forbidden, ProjectNotFound, Unauthenticated
from storage import AccessToken, Milliseconds
from tests.access.keys import NOW, SECRET, raw_token


class _Tokens:
    """Tokens in memory, as storage has them; counts who asks."""

    def __init__(self) -> None:
        self.stored: dict[str, AccessToken] = {}
        self.asked = 0
        self.compared: list[str] = []
        self.used: dict[str, int] = {}
        self.before_answer: Any = None

    def add(self, grant: str = '{"projects":{"demo":"write"}}', **more: Any) -> bytes:
        identifier, text, digest = new_token()
        self.stored[identifier] = AccessToken(identifier, digest, "a token", "ann", grant, Milliseconds(0), **more)
        return text.encode()

    async def token(self, identifier: str) -> AccessToken | None:
        self.asked += 1
        found = self.stored.get(identifier)
        await asyncio.sleep(0)
        if self.before_answer is not None:
            self.before_answer()
        return found

    async def revoked_tokens(self, identifiers: Collection[str]) -> list[str]:
        self.compared = list(identifiers)
        return [each for each in identifiers if self.stored[each].revoked is not None]

    async def note_use(self, used: Mapping[str, int]) -> None:
        self.used.update(used)


class _Scene:
    def __init__(self, **options: Any) -> None:
        self.now = NOW
        self.tokens = _Tokens()
        web = JsonWebTokens(FixedKey(SECRET), clock=self.clock)
        self.guard = Guard(self.tokens, web, clock=self.clock, **options)

    def clock(self) -> float:
        return self.now

    async def refused(self, credential: bytes) -> str:
        with pytest.raises(Unauthenticated) as refused:
            await self.guard.check(credential)
        return str(refused.value)


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def _jwt(**claims: object) -> bytes:
    grant = {"projects": {"demo": "read"}}
    payload = {"sub": "ann", "exp": NOW + 60, "yjs_gateway": grant, **claims}
    return raw_token({"alg": "HS256"}, payload, SECRET.encode()).encode()


def test_a_credential_is_checked_once_and_remembered() -> None:
    async def work() -> None:
        scene = _Scene()
        credential = scene.tokens.add()
        access = await scene.guard.check(credential)
        assert access.subject == "ann"
        assert scene.guard.known(bytes(credential)) is access
        assert await scene.guard.check(bytes(credential)) is access
        assert scene.tokens.asked == 1

    _run(work())


def test_what_does_not_count_is_refused_each_time() -> None:
    async def work() -> None:
        scene = _Scene()
        good = scene.tokens.add()
        other_secret = b"ygw_" + good.split(b"_", 2)[1] + b"_" + new_token()[1].encode().split(b"_", 2)[2]
        unknown = new_token()[1].encode()
        for credential in (b"", b"x", b"ygw_", other_secret, unknown, good + b"x", b"\xff", b"a" * 10_000_000):
            for _ in range(2):
                await scene.refused(credential)
            assert scene.guard.known(credential) is None
        assert "revoked" in await scene.refused(scene.tokens.add(revoked=1))
        assert "expired" in await scene.refused(scene.tokens.add(expires=int(NOW * 1000)))
        assert "grant" in await scene.refused(scene.tokens.add(grant='{"projects":{"demo":"everything"}}'))
        assert len(scene.guard) == 0

    _run(work())


def test_an_end_is_heeded_at_each_use() -> None:
    async def work() -> None:
        scene = _Scene()
        for credential in (scene.tokens.add(expires=int((NOW + 60) * 1000)), _jwt()):
            scene.now = NOW
            access = await scene.guard.check(credential)
            scene.now = NOW + 59.9
            assert scene.guard.known(credential) is access
            scene.now = NOW + 60
            assert scene.guard.known(credential) is None
            assert "expired" in await scene.refused(credential)
            with pytest.raises(Unauthenticated):
                access.require_valid()
        assert len(scene.guard) == 0

    _run(work())


def test_no_more_credentials_are_remembered_than_there_is_room_for() -> None:
    async def work() -> None:
        scene = _Scene(limit=3)
        credentials = [scene.tokens.add() for _ in range(10)]
        for credential in credentials:
            await scene.guard.check(credential)
        assert len(scene.guard) == 3
        assert scene.guard.known(credentials[0]) is None
        assert scene.guard.known(credentials[-1]) is not None

    _run(work())


def test_a_revoked_token_counts_no_more_also_for_those_who_are_connected_and_forgotten() -> None:
    async def work() -> None:
        scene = _Scene(limit=1)
        first, second = scene.tokens.add(), scene.tokens.add()
        access = await scene.guard.check(first)
        ended = asyncio.Event()
        access.watch(ended.set)
        other = await scene.guard.check(second)
        gc.collect()
        assert access.credential is not None
        scene.guard.revoke(access.credential)
        await ended.wait()
        assert (access.ended, other.ended) == ("revoked", None)
        assert scene.guard.known(first) is None
        assert scene.guard.known(second) is other

    _run(work())


def test_a_token_that_is_revoked_while_it_is_looked_up_does_not_count() -> None:
    async def work() -> None:
        scene = _Scene()
        credential = scene.tokens.add()
        (identifier,) = scene.tokens.stored

        def revoke() -> None:
            scene.tokens.before_answer = None
            token = scene.tokens.stored[identifier]
            scene.tokens.stored[identifier] = msgspec.structs.replace(token, revoked=Milliseconds(1))
            scene.guard.revoke(identifier)

        scene.tokens.before_answer = revoke
        await scene.refused(credential)
        assert scene.tokens.asked == 2

    _run(work())


def test_a_token_that_another_gateway_revokes_ends_within_a_second() -> None:
    async def work() -> None:
        scene = _Scene()
        credential, other = scene.tokens.add(), scene.tokens.add()
        scene.tokens.add()
        access, kept = await scene.guard.check(credential), await scene.guard.check(other)
        ended = asyncio.Event()
        access.watch(ended.set)
        job = asyncio.create_task(scene.guard.hear_revocations())
        assert access.credential is not None
        token = scene.tokens.stored[access.credential]
        scene.tokens.stored[token.id] = msgspec.structs.replace(token, revoked=Milliseconds(1))
        await ended.wait()
        job.cancel()
        assert (access.ended, kept.ended, scene.guard.known(credential)) == ("revoked", None, None)
        assert set(scene.tokens.compared) == {access.credential, kept.credential}  # not the one that nobody uses

    _run(work())


def test_who_is_connected_is_told_of_the_end() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        ended, left = asyncio.Event(), asyncio.Event()
        access = Access("ann", parse_grant({}), credential="1", expires=loop.time() + 0.05, clock=loop.time)
        access.watch(ended.set)
        access.watch(left.set)
        access.unwatch(left.set)
        await ended.wait()
        assert access.ended == "expired"
        assert not left.is_set()

    _run(work())


def test_the_use_of_a_token_is_noted_by_the_hour() -> None:
    async def work() -> None:
        scene = _Scene()
        credential = scene.tokens.add()
        (identifier,) = scene.tokens.stored
        await scene.guard.check(credential)
        await scene.guard.store_uses()
        hour = int(NOW // 3600)
        assert scene.tokens.used == {identifier: hour * 3_600_000}
        scene.tokens.used.clear()
        scene.guard.known(credential)
        await scene.guard.store_uses()
        assert scene.tokens.used == {}
        scene.now += 3600
        scene.guard.known(credential)
        await scene.guard.store_uses()
        assert scene.tokens.used == {identifier: (hour + 1) * 3_600_000}

    _run(work())


def test_a_project_that_is_not_granted_does_not_exist() -> None:
    access = Access("ann", parse_grant({"projects": {"demo": "read"}}))
    assert access.require("demo", "read").may("read")
    with pytest.raises(ProjectNotFound):
        access.require("other", "read")
    with pytest.raises(Forbidden, match="write"):
        access.require("demo", "write")
    with pytest.raises(Forbidden):
        access.require_admin()
    OPEN.require_admin()
    assert OPEN.require("any", "admin").may("turns")


class _Application:
    """Answers about sessions: each answer counts for a minute."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.asked = 0
        self.knows = True

    async def ask(self, *_: object) -> Answer:
        self.asked += 1
        until = self._clock() + 60
        if not self.knows:
            return Answer(None, whole=False, until=until, unknown=True)
        return Answer(Claims("ann", None, parse_grant({}), until, None), whole=True, until=until)


def test_a_clock_that_is_set_back_makes_no_answer_of_the_application_count_longer() -> None:
    async def work() -> None:
        now = [NOW]
        application = _Application(lambda: now[0])
        guard = Guard(_Tokens(), sessions=application, clock=lambda: now[0])
        access = await guard.check(b"session")
        application.knows = False
        with pytest.raises(Unauthenticated):
            await guard.check(b"unknown")
        await guard.renew_sessions()
        now[0] -= 86_400
        await guard.renew_sessions()
        assert await guard.check(b"session") is access
        now[0] += 61
        for credential in (b"session", b"unknown"):
            with pytest.raises(Unauthenticated):
                await guard.check(credential)
        assert application.asked == 4

    _run(work())
