"""Metrics of many routes, and of several processes, which are written in parts."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from gateway.metrics import text_parts
from gateway.server.siblings import merged

_ROUTES = 200


class _Figures(Collector):
    def collect(self) -> Iterator[Metric]:
        answers = CounterMetricFamily("answers", 'With a "quote", and a\nsecond line.', labels=["route", "status"])
        latency = HistogramMetricFamily("seconds", "Latencies.", labels=["route"])
        for number in range(_ROUTES):
            answers.add_metric([f'/a "{number}" {{x}}\n# HELP me', "200"], number)
            latency.add_metric([f"/b/{number}"], [("0.5", 1.0), ("+Inf", 2.0)], sum_value=number / 8)
        yield from (answers, GaugeMetricFamily("calm", "One figure.", value=3))
        yield from (CounterMetricFamily("nothing", "None yet.", labels=["route"]), latency)


def test_the_parts_are_what_prometheus_writes_at_once_and_each_has_few_samples() -> None:
    registry = CollectorRegistry()
    registry.register(_Figures())
    parts = list(text_parts(registry.collect()))
    assert b"".join(parts) == generate_latest(registry)
    samples = [sum(not line.startswith(b"#") for line in part.splitlines()) for part in parts]
    assert sum(samples) == 5 * _ROUTES + 1
    assert max(samples) <= 128


def test_each_sample_of_several_processes_has_the_label_of_its_process() -> None:
    registry = CollectorRegistry()
    registry.register(_Figures())
    text = generate_latest(registry)
    parts = list(merged({"0": text, "1": None, "2": text}))
    assert max(map(len, parts)) < len(text)  # a part is a family of a process at most
    found = {family.name: family for family in text_string_to_metric_families(b"".join(parts).decode())}
    up = {sample.labels["process"]: sample.value for sample in found.pop("gateway_process_up").samples}
    assert up == {"0": 1.0, "1": 0.0, "2": 1.0}
    for family in text_string_to_metric_families(text.decode()):
        whole = found.pop(family.name)
        assert (whole.type, whole.documentation) == (family.type, family.documentation)
        expected = [each._replace(labels={**each.labels, "process": name}) for name in "02" for each in family.samples]
        assert whole.samples == expected
    assert not found
