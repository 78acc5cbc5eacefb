"""Mirrors beside people whose editors part surrogate pairs, as Yjs does: it counts UTF-16 code units, yrs cannot."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.client import DocumentMirror, MirrorReset
from tests.client.test_mirror import text
from tests.client.test_pollers import NEVER, TRANSPORTS, Seen, disturb, heal, site
from tests.live.editors import Editor
from tests.support.oracle import Oracle
from tests.support.server import GatewayProcess

OpenEditor = Callable[..., Editor]


async def ask(editor: Editor, do: str, **request: Any) -> Any:
    return await asyncio.wrap_future(editor.start(do, **request))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_mirror_shows_what_editors_show_that_part_pairs_while_it_types(
    shared_gateway: GatewayProcess, open_editor: OpenEditor, oracle: Oracle, transport: Any
) -> None:
    async def main() -> None:
        async with site(shared_gateway) as the:
            resets, changed = Seen(), Seen()
            await the.writer.put_text("a.md", "".join(f"{number}\U0001f600 " for number in range(60)))
            parter, halver = editors = [open_editor(shared_gateway, the.writer.name, "a.md") for _ in range(2)]
            await asyncio.gather(*(ask(editor, "synced") for editor in editors))
            async with DocumentMirror(
                the.polling, the.reader, "a.md", transport=transport, batch=0, on_reset=resets, on_change=changed
            ) as mirror:
                await mirror.synced()  # else it may see the first pairs when they are parted, and need no reset
                for number in range(32):
                    text(mirror).insert(0, f"<m{number}>\U0001f680")
                    await ask(parter, "part", text=f"<p{number}>")
                    text(mirror).insert(0, f"<n{number}>")
                    if number < 16:
                        await ask(halver, "halve", half=number % 2)
                    disturb(the.proxy, number)
                    if number % 16 == 13:
                        await resets.until(len)
                heal(the.proxy)
                await asyncio.gather(*(ask(editor, "insert", text=f"<{editor.name}>") for editor in editors))
                await changed.until(lambda _: all(f"<{editor.name}>" in str(text(mirror)) for editor in editors))
                await mirror.synced()
                written = str(text(mirror))
                await asyncio.gather(*(ask(editor, "until_text", text=written) for editor in editors))
                assert oracle.text([(await the.writer.read_update("a.md")).update or b""]) == written
                typed = [f"<{each}{number}>" for number in range(32) for each in "pmn"]
                assert [each for each in typed if written.count(each) != 1] == []
                assert "\ufffd" in written
                assert {reset.reason for reset in resets.items} == {"parted"}
                assert mirror.unsent == 0

    asyncio.run(main())


_WHOLE = bytes.fromhex("01010100040107636f6e74656e740661f09f98806200")
"""Yjs: the text "a😀b"."""
_PARTING = {
    "typed between the halves": bytes.fromhex("01010200c401010102015800"),
    "first half deleted": bytes.fromhex("000101010101"),
    "second half deleted": bytes.fromhex("000101010201"),
}


@pytest.mark.parametrize("how", _PARTING)
def test_an_edit_that_parts_a_pair_may_come_through_the_mirror_itself(
    shared_gateway: GatewayProcess, oracle: Oracle, how: str
) -> None:
    """As where a server of rooms shares its document with browsers."""
    shown = oracle.text([_WHOLE, _PARTING[how]])

    async def main() -> None:
        async with site(shared_gateway) as the:
            resets = Seen()
            async with DocumentMirror(
                the.polling, the.reader, "a.md", transport="poll", interval=NEVER, batch=0, on_reset=resets
            ) as mirror:
                mirror.doc.apply_update(_WHOLE)  # not sent yet: the gateway does not have the file
                mirror.doc.apply_update(_PARTING[how])
                await mirror.flush()
                assert str(text(mirror)) == shown == (await the.writer.read_text("a.md")).value
                await resets.until(len)
                assert [(each.reason, each.unsent) for each in resets.items] == [("parted", 0)]

    asyncio.run(main())


def test_what_is_typed_into_a_replaced_document_until_its_holder_was_told_is_not_lost(
    shared_gateway: GatewayProcess, oracle: Oracle
) -> None:
    async def main() -> None:
        async with site(shared_gateway) as the:
            held = asyncio.Event()

            async def hold_on(_: MirrorReset) -> None:
                await held.wait()

            await the.writer.append_update("a.md", _WHOLE)
            async with DocumentMirror(
                the.polling, the.reader, "a.md", transport="poll", interval=NEVER, on_reset=hold_on
            ) as mirror:
                await mirror.synced()
                old = text(mirror)
                await the.writer.append_update("a.md", _PARTING["first half deleted"])
                await mirror.synced()
                old.insert(0, "typed ")
                assert str(text(mirror)) == "typed a\ufffdb"
                await mirror.flush()
                written = await the.writer.read_update("a.md")
                assert oracle.text([written.update or b""]) == "typed a\ufffdb"
                held.set()

    asyncio.run(main())


def test_edits_that_a_file_keeps_may_part_pairs_of_each_other(
    shared_gateway: GatewayProcess, oracle: Oracle, tmp_path: Path
) -> None:
    parting = _PARTING["first half deleted"]
    shown = oracle.text([_WHOLE, parting])

    async def main() -> None:
        async with site(shared_gateway) as the:
            options: dict[str, Any] = {"transport": "poll", "interval": NEVER, "pending": tmp_path / "edits"}
            the.proxy.go_down()
            async with DocumentMirror(the.polling, the.reader, "a.md", **options) as mirror:
                mirror.doc.apply_update(_WHOLE)
                mirror.doc.apply_update(parting)
            async with DocumentMirror(the.polling, the.reader, "a.md", **options) as mirror:
                assert str(text(mirror)) == shown
                heal(the.proxy)
                await mirror.synced()
                assert str(text(mirror)) == shown == (await the.writer.read_text("a.md")).value

    asyncio.run(main())
