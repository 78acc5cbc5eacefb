"""A plot has a bar for every figure of a result, and takes names as they are."""

from xml.etree import ElementTree

from benchmarks.harness import compare
from benchmarks.plot import plot

_SVG = "{http://www.w3.org/2000/svg}"


def test_every_figure_has_a_bar_and_the_largest_of_a_group_is_the_widest() -> None:
    rows = [
        compare("304 of a file", "req/s", [30_000.0], "raw ASGI, <same> answer", [40_000.0]),
        compare("", "req/s", [30_000.0], "raw ASGI, 204", [50_000.0]),
        compare("304 of a file", "req/s", [30_000.0], "another server", [20_000.0]),
        compare("whole fetch", "µs", [0.0], "load & encode", [120.0]),
    ]
    drawn = ElementTree.fromstring(plot("What does a poll cost?", rows))
    texts = [each.text for each in drawn.iter(f"{_SVG}text")]
    _, *bars = [float(each.attrib["width"]) for each in drawn.iter(f"{_SVG}rect")]
    assert texts[:2] == ["What does a poll cost?", "304 of a file (req/s)"]
    assert {"raw ASGI, <same> answer", "50,000", "load & encode", "120"} <= set(texts)
    assert len(bars) == 6
    ours, same, empty, another, fast, slow = bars
    assert another < ours < same < empty
    assert fast < slow == empty
