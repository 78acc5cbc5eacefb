"""Prometheus metrics. Counting a request costs a few dictionary operations; all else is read on each scrape."""

import asyncio
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import chain

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.files.documents import Documents
from gateway.http.request_metrics import RequestMetrics
from gateway.maintenance.jobs import Job
from gateway.pace import with_turns
from gateway.rooms.close_codes import REASONS
from gateway.rooms.rooms import Rooms
from gateway.watch.waiters import Waiters
from gateway.workers.pool import Workers
from storage import Storage
from storage.times import Times

_SAMPLES = 128
"""How many samples are written in one step: in half a millisecond."""
_VERSIONS = [version("yjs-gateway"), platform.python_version(), version("pycrdt")]


class _Collector:
    """Reads the metrics on each scrape."""

    def __init__(
        self,
        requests: RequestMetrics,
        storage: Storage,
        documents: Documents,
        waiters: Waiters,
        rooms: Rooms,
        workers: Workers,
        jobs: Sequence[Job],
        bounds: Mapping[str, float],
    ) -> None:
        self._bounds = bounds
        self._requests = requests
        self._storage = storage
        self._documents = documents
        self._waiters = waiters
        self._rooms = rooms
        self._workers = workers
        self._jobs = jobs

    def collect(self) -> Iterator[Metric]:
        answers = CounterMetricFamily("gateway_requests", "Requests answered.", labels=["method", "route", "status"])
        for (method, route, status), count in self._requests.answers.items():
            answers.add_metric([method, route, str(status)], count)
        yield answers
        latency = HistogramMetricFamily(
            "gateway_request_seconds", "Time from receiving a request to answering it.", labels=["route"]
        )
        for route, buckets, seconds in self._requests.latencies():
            latency.add_metric([route], buckets, sum_value=seconds)
        yield latency
        problems = CounterMetricFamily(
            "gateway_problems", "Requests answered with a problem, by its code.", labels=["code"]
        )
        for code, count in self._requests.problems.items():
            problems.add_metric([code], count)
        yield problems
        statistics = self._storage.statistics()
        yield CounterMetricFamily("gateway_commits", "Transactions committed.", value=statistics.commits)
        yield CounterMetricFamily(
            "gateway_changes",
            "Changes committed. Divided by gateway_commits_total: changes per commit.",
            value=statistics.changes,
        )
        yield _histogram(
            "gateway_commit_seconds",
            "Time from the beginning of a transaction of queued changes until it is durable.",
            statistics.commit_times,
        )
        yield _histogram(
            "gateway_flush_seconds",
            "Time of the COMMIT of a transaction, which waits for the disk; with SQLite only.",
            statistics.flush_times,
        )
        yield GaugeMetricFamily("gateway_queued_changes", "Changes waiting to be written.", value=statistics.queued)
        yield GaugeMetricFamily("gateway_database_bytes", "Size of the database.", value=statistics.database_bytes)
        yield GaugeMetricFamily(
            "gateway_log_bytes",
            "Size of the write-ahead log. It grows while a backup or an export is reading.",
            value=statistics.log_bytes,
        )
        yield GaugeMetricFamily(
            "gateway_storage_lag_seconds",
            "Seconds since it was last certain that all changes by other gateways were heard; 0 with SQLite.",
            value=self._storage.lag,
        )
        yield CounterMetricFamily(
            "gateway_catch_ups", "Reads of changes that other gateways had stored.", value=statistics.catch_ups
        )
        yield CounterMetricFamily(
            "gateway_races_lost",
            "Commits made anew because another gateway had written to the project first.",
            value=statistics.races_lost,
        )
        yield GaugeMetricFamily("gateway_hot_documents", "Open documents.", value=self._documents.count)
        yield GaugeMetricFamily(
            "gateway_hot_document_bytes", "Estimated memory of open documents.", value=self._documents.memory
        )
        yield GaugeMetricFamily(
            "gateway_waiters", "Long polls waiting and event streams open.", value=self._waiters.members
        )
        yield GaugeMetricFamily(
            "gateway_waiting_bytes",
            "Bytes of request bodies that long polls keep while they wait.",
            value=self._waiters.question_bytes,
        )
        yield CounterMetricFamily(
            "gateway_wakes",
            "Wake-ups of long polls and event streams, by a change or a deadline. Streams at one cursor count once.",
            value=self._waiters.wakes,
        )
        yield GaugeMetricFamily("gateway_rooms", "Files with WebSocket clients.", value=len(self._rooms))
        yield GaugeMetricFamily("gateway_room_connections", "WebSocket clients.", value=self._rooms.connections)
        yield CounterMetricFamily(
            "gateway_room_messages_ignored",
            "Messages from WebSocket clients that were ignored: unknown types, or awareness states over the limit.",
            value=self._rooms.ignored,
        )
        closes = CounterMetricFamily(
            "gateway_room_closes", "WebSockets that have ended, by reason; client: the client left.", labels=["reason"]
        )
        for close_code, count in self._rooms.closes.items():
            closes.add_metric([REASONS.get(close_code, str(close_code))], count)
        yield closes
        build = GaugeMetricFamily(
            "gateway_build_info", "1, with the versions that run.", labels=["version", "python", "pycrdt"]
        )
        build.add_metric(_VERSIONS, 1)
        yield build
        settings = GaugeMetricFamily(
            "gateway_setting", "The settings that are numbers, by environment variable.", labels=["name"]
        )
        for name, value in self._bounds.items():
            settings.add_metric([name], value)
        yield settings
        yield from self._worker_figures()
        yield from self._job_figures()

    def _worker_figures(self) -> Iterator[Metric]:
        jobs = CounterMetricFamily("gateway_worker_jobs", "Jobs started in worker processes.", labels=["lane"])
        failures = CounterMetricFamily(
            "gateway_worker_failures",
            "Worker jobs that failed: they exceeded the time limit, or their process died twice.",
            labels=["lane"],
        )
        deaths = CounterMetricFamily(
            "gateway_worker_deaths", "Worker processes that died without being stopped by the gateway.", labels=["lane"]
        )
        waiting = GaugeMetricFamily("gateway_worker_waiting", "Jobs waiting for a worker process.", labels=["lane"])
        processes = GaugeMetricFamily("gateway_worker_processes", "Worker processes running.", labels=["lane"])
        for lane, metrics in self._workers.metrics.items():
            jobs.add_metric([lane], metrics.jobs)
            failures.add_metric([lane], metrics.failures)
            deaths.add_metric([lane], metrics.deaths)
            waiting.add_metric([lane], metrics.waiting)
            processes.add_metric([lane], metrics.processes)
        yield from (jobs, failures, deaths, waiting, processes)

    def _job_figures(self) -> Iterator[Metric]:
        failures = CounterMetricFamily(
            "gateway_background_failures", "Failures of background jobs. The log has the details.", labels=["job"]
        )
        at_work = GaugeMetricFamily(
            "gateway_background_running",
            "1 while a background job is running, 0 while it is stopped.",
            labels=["job"],
        )
        for job in self._jobs:
            failures.add_metric([job.name], job.failures)
            at_work.add_metric([job.name], job.stopped is None)
        yield from (failures, at_work)


def _histogram(name: str, documentation: str, times: Times | None) -> Metric:
    family = HistogramMetricFamily(name, documentation)
    if times is not None:
        family.add_metric([], times.cumulative(), sum_value=times.seconds)
    return family


class Metrics:
    """The metrics that `/metrics` exposes."""

    def __init__(
        self,
        storage: Storage,
        documents: Documents,
        waiters: Waiters,
        rooms: Rooms,
        workers: Workers,
        jobs: Sequence[Job],
        bounds: Mapping[str, float],
    ) -> None:
        self.requests = RequestMetrics()
        self._registry = CollectorRegistry()
        self._process = ProcessCollector(registry=None)
        self._registry.register(_Collector(self.requests, storage, documents, waiters, rooms, workers, jobs, bounds))

    def add(self, collector: Collector) -> None:
        """Also expose the metrics of another collector."""
        self._registry.register(collector)

    async def exposition(self) -> bytes:
        """Return all metrics in the Prometheus text format. They are read and written in slices.

        The operating system's figures are read in another thread: for one of them, it lists all open files.
        """
        of_process = await asyncio.to_thread(self._process.collect)
        families = chain(of_process, self._registry.collect())
        return b"".join([part async for part in with_turns(text_parts(families))])


def text_parts(families: Iterable[Metric]) -> Iterator[bytes]:
    """Yield the Prometheus text format of metrics in parts of at most `_SAMPLES` samples."""
    for family in families:
        whole = family.samples
        for start in range(0, max(len(whole), 1), _SAMPLES):
            part = Metric(family.name, family.documentation, family.type)
            part.samples = whole[start : start + _SAMPLES]
            text = generate_latest(_Collected(part))
            yield text.split(b"\n", 2)[2] if start else text  # only the first part has the two lines of the head


class _Collected(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family
