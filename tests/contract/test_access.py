"""What storage promises of tokens and of the audit (`storage/contract.py`)."""

import asyncio

from storage import AccessToken, AuditEntry, Milliseconds, StoredTicket
from tests.contract.conftest import Open, Run


def _token(identifier: str, **more: int) -> AccessToken:
    times = {name: Milliseconds(value) for name, value in more.items()}
    return AccessToken(identifier, bytes(range(32)), "name", "ann", '{"admin":true}', Milliseconds(5), **times)


def _entry(time: int, **more: str) -> AuditEntry:
    return AuditEntry(Milliseconds(time), "write", **more)  # type: ignore[arg-type]


def test_tokens_are_kept_as_they_came_and_over_a_restart(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            assert (await storage.tokens(limit=9), await storage.token("a")) == ([], None)
            await storage.add_token(_token("a"))
            await storage.add_token(_token("b", expires=9))
        async with open_storage() as storage:
            assert await storage.tokens(limit=9) == [_token("a"), _token("b", expires=9)]
            assert await storage.token("b") == _token("b", expires=9)

    run(main())


def test_tokens_are_read_in_pages_oldest_first(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            for name in "cab":
                await storage.add_token(_token(name))
            await storage.note_use({"c": 20})
            assert [each.id for each in await storage.tokens(limit=2)] == ["c", "a"]
            assert [each.id for each in await storage.tokens(after="c", limit=1)] == ["a"]
            assert [each.id for each in await storage.tokens(after="a", limit=9)] == ["b"]
            assert await storage.tokens(after="b", limit=9) == await storage.tokens(after="unknown", limit=9) == []

    run(main())


def test_only_the_tokens_asked_for_are_told_to_be_revoked(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            for name in "abc":
                await storage.add_token(_token(name))
            for name in "ab":
                await storage.revoke_token(name, Milliseconds(7))
            assert await storage.revoked_tokens(["b", "c", 'no"ne']) == ["b"]
            assert await storage.revoked_tokens([]) == []

    run(main())


def test_a_token_is_revoked_once_and_stays_known(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            await storage.add_token(_token("a"))
            assert await storage.revoke_token("a", Milliseconds(7)) == _token("a", revoked=7)
            assert await storage.revoke_token("a", Milliseconds(8)) == _token("a", revoked=7)
            assert await storage.token("a") == _token("a", revoked=7)
            assert await storage.revoke_token("b", Milliseconds(7)) is None

    run(main())


def test_the_last_use_never_goes_back(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            await storage.add_token(_token("a"))
            await storage.note_use({"a": 20, "unknown": 20})
            await storage.note_use({"a": 10})
            assert await storage.token("a") == _token("a", last_used=20)

    run(main())


def test_the_audit_is_read_newest_first_in_pages_and_by_who_and_where(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            await storage.note_audit([_entry(1, project="p", subject="ann", path="a"), _entry(2, project="q")])
            await storage.note_audit([_entry(3, project="p", subject="bob", detail="x")])
            found = await storage.audit(limit=10)
            assert [entry.time for entry in found] == [3, 2, 1]
            assert [entry.time for entry in await storage.audit(limit=10, since=2)] == [3, 2]
            assert [entry.time for entry in await storage.audit(limit=10, project="p")] == [3, 1]
            assert [entry.time for entry in await storage.audit(limit=10, project="p", subject="ann")] == [1]
            page = await storage.audit(limit=2)
            assert await storage.audit(limit=2, before=page[-1].number) == found[2:]
            assert (found[2].project, found[2].subject, found[2].path, found[0].detail) == ("p", "ann", "a", "x")

    run(main())


def test_what_is_old_of_the_audit_is_forgotten(open_storage: Open, run: Run) -> None:
    async def main() -> None:
        async with open_storage() as storage:
            await storage.note_audit([_entry(time) for time in range(2500)])
            forgotten = []
            while count := await storage.forget_audit(Milliseconds(2400)):
                forgotten.append(count)
            assert sum(forgotten) == 2400
            assert len(forgotten) > 1
            rest = await storage.audit(limit=1000)
            assert [entry.time for entry in rest] == list(range(2499, 2399, -1))
            await storage.note_audit([_entry(3000)])
            newest = await storage.audit(limit=1)
            assert newest[0].number > rest[0].number

    run(main())


def test_a_ticket_is_taken_once_and_forgotten_when_it_is_old(open_storage: Open, run: Run) -> None:
    def ticket(name: bytes, expires: int) -> StoredTicket:
        return StoredTicket(name * 32, "p", b"\0sealed", Milliseconds(expires))

    async def main() -> None:
        async with open_storage() as storage:
            await storage.add_ticket(ticket(b"a", 10), Milliseconds(0))
            await storage.add_ticket(ticket(b"b", 20), Milliseconds(9))
            taken = await asyncio.gather(*(storage.take_ticket(b"a" * 32) for _ in range(5)))
            assert [each for each in taken if each is not None] == [ticket(b"a", 10)]
            await storage.add_ticket(ticket(b"c", 40), Milliseconds(20))
            assert await storage.take_ticket(b"b" * 32) is None
        async with open_storage() as storage:
            assert await storage.take_ticket(b"c" * 32) == ticket(b"c", 40)

    run(main())
