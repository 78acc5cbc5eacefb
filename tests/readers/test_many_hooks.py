"""Many webhooks that want different things: the log is scanned once for all, and a page of it at a time."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from storage import AppendUpdate, Version
from tests.readers.conftest import place
from tests.support.iterations import Iterations

_HOOKS, _CHANGES, _PAGE = 40, 1_000, 100


def test_the_log_is_scanned_once_for_many_hooks_and_a_page_per_iteration_of_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), place(tmp_path) as here:
            await here.put("a.md", "x")
            for number in range(_HOOKS):
                await here.hook(f"h{number}", "http://127.0.0.1:9/", filter={"prefix": f"no/{number}"})
            for number in range(_HOOKS):
                await here.settled(f"h{number}", lag=0)
            iterations, scans = Iterations(), list[int]()
            changes_since = here.storage.changes_since

            async def noted(*args: Any, **options: Any) -> Any:
                scans.append(iterations.count)
                return await changes_since(*args, **options)

            monkeypatch.setattr(here.storage, "changes_since", noted)
            await here.storage.append(
                "demo", tuple(AppendUpdate(f"many/{number}", Version(0), b"\0\0") for number in range(_CHANGES))
            )
            for number in range(_HOOKS):
                await here.settled(f"h{number}", lag=0)
            iterations.stop()
            pages = _CHANGES // _PAGE + 1
            assert pages - 1 <= len(scans) <= 2 * pages
            assert len(set(scans)) == len(scans)

    asyncio.run(main())
