"""(s) How soon does a gateway answer after its start, and how long does a command take?

Time from the start of the process to the answer to the first request, on a database that is there already; against a
raw ASGI callable that is served by the same uvicorn, which imports pycrdt and Starlette, too. And time of `yjs-gateway
ls` at a gateway, against a program that does nothing but import httpx, with which `ls` asks.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.harness import Aim, Plan, Row, compare, folder, take_turns
from benchmarks.load import fetch, request
from benchmarks.servers import CLIENT_CORE, Server, baseline, gateway, on_core


def run(plan: Plan) -> Iterator[Row]:
    """Measure."""
    with folder() as data:
        database = data / "gateway.db"
        ready = request("GET", "/readyz")
        taken = take_turns(
            plan,
            {
                "ours": partial(_until_answered, partial(gateway, database), ready),
                "raw": partial(_until_answered, partial(baseline, "silent"), ready),
            },
        )
        yield compare(
            "start to the first answer", "ms", taken["ours"], "raw ASGI", taken["raw"], aim=Aim("<=", 600, of="ours")
        )
        with gateway(database) as server:
            fetch(server, request("PUT", "/api/projects/demo/files/a.md", b"text", content_type="text/plain"))
            place = {"GATEWAY_URL": f"http://127.0.0.1:{server.port}", "GATEWAY_PROJECT": "demo"}
            taken = take_turns(
                plan,
                {
                    "ours": partial(_until_ended, "-m", "gateway", "ls", **place),
                    "httpx": partial(_until_ended, "-c", "import httpx"),
                },
            )
        yield compare("ls", "ms", taken["ours"], "import httpx", taken["httpx"], aim=Aim("<=", 300, of="ours"))


def _until_answered(start: Callable[[], Server], message: bytes) -> float:
    """Milliseconds from the start of a server to its first answer."""
    started = time.perf_counter()
    with start() as server:
        fetch(server, message)
        return 1000 * (time.perf_counter() - started)


def _until_ended(*arguments: str, **environment: str) -> float:
    """Milliseconds that a run of Python takes."""
    started = time.perf_counter()
    with on_core(CLIENT_CORE):
        subprocess.run(
            [sys.executable, *arguments], env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL
        )
    return 1000 * (time.perf_counter() - started)
