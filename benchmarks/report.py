"""A result as a table to read and as JSON to keep."""

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, Plan, Row

_HEADINGS = ("", "ours", "beside it", "ratio", "lowest–highest", "of CPU", "aim", "")
_LEFT = (0, 2, 6, 7)


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    cpu = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("pycrdt", "uvicorn", "uvloop", "httptools", "starlette")},
        "flush_ms": round(flush_seconds() * 1e3, 3),
        "load_average": os.getloadavg()[0],
    }


def flush_seconds(times: int = 100) -> float:
    """The median time to make 4 KB durable in the folder that the databases are in."""
    RESULTS.mkdir(exist_ok=True)
    path, taken = RESULTS / f"flush-{os.getpid()}", []
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        for _ in range(times):
            os.write(file, bytes(4096))
            started = time.perf_counter()
            os.fdatasync(file)
            taken.append(time.perf_counter() - started)
    finally:
        os.close(file)
        path.unlink()
    return statistics.median(taken)


def table(rows: Sequence[Row]) -> str:
    """The rows of one question, aligned."""
    lines = [_HEADINGS, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in _LEFT else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    aim, verdict = "", ""
    if row.aim is not None:
        sign = {">=": "≥", "<=": "≤"}[row.aim.relation]
        unit = f" {row.unit}" if row.aim.of == "ours" else ""
        aim, verdict = f"{sign} {_number(row.aim.bound)}{unit}", "met" if row.aim.met(row) else "MISSED"
    return (
        row.what,
        f"{_number(row.ours)} {row.unit}",
        f"{row.baseline}: {_number(row.theirs)}",
        _number(row.ratio),
        "–".join(map(_number, row.spread)),
        _number(row.details["cpu_ratio"]) if "cpu_ratio" in row.details else "",
        aim,
        verdict,
    )


def _number(value: float) -> str:
    """Three digits that count, or all of a whole number."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def write_json(results: dict[str, list[Row]], plan: Plan, about: dict[str, Any], *, to: Path | None) -> Path:
    """Keep a run; returns where."""
    started = datetime.now(UTC)
    path = to or RESULTS / f"{started:%Y%m%dT%H%M%SZ}{'-quick' if plan.quick else ''}.json"
    rows = {
        name: [{**asdict(row), "met": None if row.aim is None else row.aim.met(row)} for row in result]
        for name, result in results.items()
    }
    run = {"finished": started.isoformat(), "plan": asdict(plan), "machine": about, "results": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n")
    return path
