"""What operators are given names only metrics, settings, codes and reasons that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gateway.rooms.close_codes import REASONS
from gateway.settings import Settings
from gateway.wire.problems import Problem
from tests.docs.markdown import PROJECT
from tests.support.server import GatewayProcess

_DOCS = PROJECT / "docs"
_SUFFIXES = {"counter": [""], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of all series that a gateway exposes."""
    with GatewayProcess(tmp_path_factory.mktemp("operators") / "gateway.db") as process:
        kinds = re.findall(r"^# TYPE (\w+) (\w+)$", httpx.get(f"{process.url}/metrics").text, re.M)
    return {name + suffix for name, kind in kinds for suffix in _SUFFIXES[kind]}


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((_DOCS / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _panels() -> list[dict[str, Any]]:
    dashboard = json.loads((_DOCS / "grafana-dashboard.json").read_text(encoding="utf-8"))
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    return panels


def _expressions() -> list[str]:
    return [rule["expr"] for rule in _rules()] + [target["expr"] for panel in _panels() for target in panel["targets"]]


def test_every_metric_that_is_asked_for_exists(series: set[str]) -> None:
    asked = {name for expression in _expressions() for name in re.findall(r"\b(?:gateway|process)_\w+", expression)}
    assert asked - series == set()
    dashboard = (_DOCS / "grafana-dashboard.json").read_text(encoding="utf-8")
    assert {name for name in re.findall(r"\b(?:gateway|process)_\w+", dashboard) if name != "process"} - series == set()


def test_every_label_value_that_is_asked_for_exists() -> None:
    text = "\n".join(_expressions())
    codes = {each.code for each in _problems(Problem)}
    for value in re.findall(r'code=~?"([^"]+)"', text):
        assert set(value.split("|")) - codes == set()
    settings = {f"GATEWAY_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r'name="([^"]+)"', text)) - settings == set()
    for value in re.findall(r'reason=~?"([^"]+)"', text):
        assert set(value.split("|")) - set(REASONS.values()) == set()


def _problems(kind: type[Problem]) -> list[type[Problem]]:
    return [kind, *(each for below in kind.__subclasses__() for each in _problems(below))]


def test_every_alert_says_what_to_do() -> None:
    rules = _rules()
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "action"}


_UNIT = _DOCS / "yjs-gateway.service"


def test_settings_that_operators_are_told_to_set_exist() -> None:
    settings = {f"GATEWAY_{name.upper()}" for name in Settings.model_fields}
    for page in (_DOCS / "deploy.md", _UNIT):
        assert set(re.findall(r"GATEWAY_[A-Z_]+", page.read_text(encoding="utf-8"))) - settings == set()


def test_the_unit_is_one_and_is_hardened(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / _UNIT.name
    text = _UNIT.read_text(encoding="utf-8")
    unit.write_text(text.replace("/opt/yjs-gateway/bin/yjs-gateway serve", "/bin/true"), encoding="utf-8")
    verified = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    secure = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=20", unit], capture_output=True, text=True, check=False
    )
    assert secure.returncode == 0, secure.stdout


def test_the_unit_stops_later_than_the_gateway_gives_up() -> None:
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", _UNIT.read_text(encoding="utf-8"), re.M)
    assert int(seconds) > Settings.model_fields["shutdown_seconds"].default
