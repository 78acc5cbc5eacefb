"""The metrics of all gateway processes on a port, whichever of them is asked.

Each process has a Unix socket in a folder of the parent, and writes its metrics to whoever connects.
"""

import asyncio
import contextlib
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path

from gateway.pace import with_turns

_ANSWER_S = 2.0
_WITH_LABELS = re.compile(rb"^([\w:]+\{.*)\} ", re.MULTILINE)
_WITHOUT_LABELS = re.compile(rb"^([\w:]+) ", re.MULTILINE)


class Siblings:
    """The gateway processes whose sockets are in a folder, this one included.

    Args:
        exposition: the metrics of this process in the Prometheus text format.
    """

    def __init__(self, index: int, folder: Path, count: int, exposition: Callable[[], Awaitable[bytes]]) -> None:
        self._index = index
        self._folder = folder
        self._count = count
        self._exposition = exposition

    def _socket(self, index: int) -> Path:
        return self._folder / f"{index}.sock"

    @contextlib.asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Answer the other processes."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                writer.write(await self._exposition())
                await writer.drain()
            writer.close()

        async with await asyncio.start_unix_server(answer, self._socket(self._index)):
            yield

    async def exposition(self) -> bytes:
        """Return the metrics of all processes, with the label `process`. A process that does not answer has only
        `gateway_process_up` 0."""
        others = [index for index in range(self._count) if index != self._index]
        answers = await asyncio.gather(*map(self._ask, others))
        texts = {self._index: await self._exposition(), **dict(zip(others, answers, strict=True))}
        parts = merged({str(index): texts[index] for index in sorted(texts)})
        return b"".join([part async for part in with_turns(parts)])

    async def _ask(self, index: int) -> bytes | None:
        try:
            async with asyncio.timeout(_ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(self._socket(index))
                try:
                    return await reader.read() or None
                finally:
                    writer.close()
        except OSError:  # TimeoutError too: it is starting, or has ended
            return None


def merged(expositions: Mapping[str, bytes | None]) -> Iterator[bytes]:
    """Yield, in parts, one exposition of those of several processes by their names; None: the process did not answer.

    The label is written into the text: to parse the samples takes ten times as long.
    """
    yield b"# HELP gateway_process_up 1 if a gateway process has answered.\n# TYPE gateway_process_up gauge\n"
    heads: dict[bytes, bytes] = {}
    samples: defaultdict[bytes, list[tuple[bytes, bytes]]] = defaultdict(list)
    for name, text in expositions.items():
        process = f'process="{name}"'.encode()
        yield b"gateway_process_up{%b} %.1f\n" % (process, text is not None)
        for family in (b"\n" + (text or b"").removesuffix(b"\n")).split(b"\n# HELP ")[1:]:
            documentation, kind, *lines = family.split(b"\n", 2)
            key = documentation.partition(b" ")[0]
            heads.setdefault(key, b"# HELP %b\n%b\n" % (documentation, kind))
            samples[key] += [(process, each + b"\n") for each in lines]
    for key, head in heads.items():
        yield head
        for process, unlabelled in samples[key]:
            labelled = _WITH_LABELS.sub(rb"\1,%b} " % process, unlabelled)
            yield _WITHOUT_LABELS.sub(rb"\1{%b} " % process, labelled)
