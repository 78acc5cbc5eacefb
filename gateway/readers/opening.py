"""Assembles the parts of readers."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.changes.feed import Feed
from gateway.files.history import Versions
from gateway.files.store import Files
from gateway.readers.delivery import Clock, Deliveries, WallClock
from gateway.readers.door import Door
from gateway.readers.hosts import Hosts, is_local
from gateway.readers.outside import Outside
from gateway.readers.registry import HOOK, PUSH, Registry
from gateway.readers.vapid import OwnKey
from gateway.readers.web_push import WebPush
from gateway.readers.webhooks import Webhooks
from gateway.trusted_clock import TrustedClock
from gateway.watch.hub import Hub
from storage import Storage

_PUSH_HOSTS = (
    "fcm.googleapis.com",
    "updates.push.services.mozilla.com",
    "web.push.apple.com",
    "*.push.apple.com",
    "*.notify.windows.com",
)
"""The push services of Chrome, Firefox, Safari and Edge."""


class Readers(Collector):
    """All readers of a gateway. As a collector it reports how many there are, and how far they are behind."""

    def __init__(
        self,
        deliveries: Deliveries,
        registry: Registry,
        key: OwnKey,
        outside: tuple[Outside, ...],
    ) -> None:
        self.deliveries = deliveries
        self.registry = registry
        self.key = key
        self._outside = outside

    def collect(self) -> Iterator[Metric]:
        figures = self.deliveries.figures
        count = GaugeMetricFamily("gateway_readers", "Webhooks and push subscriptions.", labels=["kind"])
        ended = GaugeMetricFamily(
            "gateway_readers_ended", "Webhooks and push subscriptions that get nothing any more.", labels=["kind"]
        )
        behind = GaugeMetricFamily(
            "gateway_readers_behind", "Webhooks and push subscriptions whose project has moved on.", labels=["kind"]
        )
        lag = GaugeMetricFamily(
            "gateway_reader_lag_changes", "Changes by which the one that is furthest behind is.", labels=["kind"]
        )
        for each in figures:
            count.add_metric([each.kind], each.count)
            ended.add_metric([each.kind], each.ended)
            behind.add_metric([each.kind], each.behind)
            lag.add_metric([each.kind], each.furthest)
        delivered = CounterMetricFamily("gateway_reader_messages", "Messages delivered to readers.", labels=["kind"])
        failed = CounterMetricFamily(
            "gateway_reader_failures", "Attempts to deliver a message that failed.", labels=["kind"]
        )
        for kind, number in self.deliveries.delivered.items():
            delivered.add_metric([kind], number)
        for kind, number in self.deliveries.failed.items():
            failed.add_metric([kind], number)
        yield from (count, ended, behind, lag, delivered, failed)

    async def close(self) -> None:
        for each in self._outside:
            await each.close()


async def open_readers(
    storage: Storage,
    hub: Hub,
    feed: Feed,
    versions: Versions,
    files: Files,
    *,
    vapid_key: str,
    push_contact: str,
    push_hosts: tuple[str, ...],
    hook_hosts: tuple[str, ...],
    limit: int,
    clock: Clock | None = None,
    trusted: TrustedClock | None = None,
) -> Readers:
    """Open everything that sends. A key for push services that is not given is made when it is first needed, and kept.

    Raises:
        StorageError
        ValueError: `vapid_key` is not a valid key.
    """
    key = OwnKey(storage, vapid_key, push_contact)
    if vapid_key:
        await key.open()
    clock = clock or WallClock()
    trusted = trusted or TrustedClock(storage, clock.now)
    hooks = Outside(Hosts(hook_hosts))
    push_hosts = push_hosts or _PUSH_HOSTS
    named = Hosts(tuple(filter(is_local, push_hosts)))
    push = Outside(named, only=Hosts(push_hosts))
    doors: dict[str, Door] = {HOOK: Webhooks(storage, versions, files, hooks), PUSH: WebPush(push, key)}
    deliveries = Deliveries(storage, hub, feed, doors, hub.waiters.connected, clock, trusted)
    registry = Registry(storage, hub, hooks, push, limit=limit, wake=deliveries.wake, now=clock.now)
    return Readers(deliveries, registry, key, (hooks, push))
