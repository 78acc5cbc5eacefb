"""The metrics of all gateway processes on a port, whichever of them is asked.

Each process has a Unix socket in a folder of the parent, and writes its metrics to whoever connects.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

_ANSWER_S = 2.0


class Siblings:
    """The gateway processes whose sockets are in a folder, this one included.

    Args:
        exposition: the metrics of this process in the Prometheus text format.
    """

    def __init__(self, index: int, folder: Path, count: int, exposition: Callable[[], bytes]) -> None:
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
                writer.write(self._exposition())
                await writer.drain()
            writer.close()

        async with await asyncio.start_unix_server(answer, self._socket(self._index)):
            yield

    async def exposition(self) -> bytes:
        """Return the metrics of all processes, with the label `process`. A process that does not answer has only
        `gateway_process_up` 0."""
        others = [index for index in range(self._count) if index != self._index]
        answers = await asyncio.gather(*map(self._ask, others))
        texts = {self._index: self._exposition(), **dict(zip(others, answers, strict=True))}
        return merged({str(index): texts[index] for index in sorted(texts)})

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


def merged(expositions: Mapping[str, bytes | None]) -> bytes:
    """Return one exposition of those of several processes by their names; None: the process did not answer."""
    registry = CollectorRegistry()
    registry.register(_Merged(expositions))
    return generate_latest(registry)


class _Merged(Collector):
    def __init__(self, expositions: Mapping[str, bytes | None]) -> None:
        self._expositions = expositions

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("gateway_process_up", "1 if a gateway process has answered.", labels=["process"])
        families: dict[str, Metric] = {}
        for name, text in self._expositions.items():
            up.add_metric([name], text is not None)
            for family in text_string_to_metric_families((text or b"").decode()):
                whole = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                whole.samples += [
                    sample._replace(labels={"process": name, **sample.labels}) for sample in family.samples
                ]
        yield from (up, *families.values())
