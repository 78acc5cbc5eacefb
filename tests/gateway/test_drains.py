"""Who waits until the queued updates of a document are durable waits for those alone."""

import asyncio

from gateway.files.open_document import OpenDocument
from gateway.yjs.updates import EMPTY_UPDATE, build_document
from storage import new_incarnation


def test_a_drain_waits_for_the_updates_that_were_queued_before_it() -> None:
    async def work() -> None:
        document = OpenDocument("p", "a.md", None, new_incarnation(), build_document([]))
        await document.drain()  # nothing is queued

        async def begun() -> asyncio.Task[None]:
            drain = asyncio.create_task(document.drain())
            await asyncio.sleep(0)  # the task begins
            assert not drain.done()
            return drain

        document.queued(EMPTY_UPDATE)
        early, cancelled = await begun(), await begun()
        document.queued(EMPTY_UPDATE)
        late = await begun()
        cancelled.cancel()
        document.settled(None)
        await early
        assert document.pending
        assert not late.done()
        document.settled(None)
        await late
        assert not document.pending
        assert cancelled.cancelled()

    asyncio.run(work())
