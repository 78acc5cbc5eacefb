"""The benchmarks run, and say what they should. How fast anything is, is not asked here."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import uvicorn

from benchmarks.__main__ import QUESTIONS
from benchmarks.baselines import SERVER_OPTIONS
from gateway.cli.main import serve

_REPOSITORY = Path(__file__).parent.parent.parent


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=_REPOSITORY, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_benchmark_runs_and_prints_ratios(name: str, tmp_path: Path) -> None:
    if name == "scale" and not (shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))):
        pytest.skip("PostgreSQL is not installed")
    result = tmp_path / "result.json"

    run = _run(name, "--quick", "--output", str(result))

    assert run.returncode == 0, run.stderr
    rows = json.loads(result.read_text())["results"][name]
    assert f"[{name}, " in run.stdout
    assert any(row["aim"] for row in rows)
    for row in rows:
        assert row["what"] in run.stdout
        assert math.isfinite(row["ratio"])
        assert (row["met"] is None) == (row["aim"] is None)


def test_a_name_that_is_no_benchmark_is_refused_with_those_there_are() -> None:
    run = _run("fastness")

    assert run.returncode == 2
    assert "unchanged" in run.stderr


def test_baselines_have_the_same_uvicorn_as_the_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Configured(Exception):
        pass

    def config(_: object, **options: object) -> None:
        raise Configured(options)

    monkeypatch.setattr(uvicorn, "Config", config)
    monkeypatch.setattr("gateway.server.process._configure_log", lambda _: None)
    with pytest.raises(Configured) as raised:
        serve(host="127.0.0.1", port=0, database=f"sqlite:///{tmp_path}/never-opened.db")

    options = raised.value.args[0]
    of_http = {name: value for name, value in options.items() if not name.startswith("ws")}
    of_http["http"] = of_http["http"].func  # with bounds that the settings name
    assert of_http == {"host": "127.0.0.1", "port": 0, **SERVER_OPTIONS}
