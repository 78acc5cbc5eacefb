"""Random histories made by npm's Yjs, delivered as a bad network does, to a gateway that is killed and tidied between.

Updates are lost, merged, cut down, repeated and out of order, and come by PATCH and in rooms; every version of which it
is known what it should be is what Yjs makes of it, whatever snapshots were taken and dropped on the way.

`YJS_DELIVERIES` says how many histories (a soak run takes thousands), `YJS_SEED` where they begin. A history that fails
names the seed of its batch and its own.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.app import create_app
from gateway.files.documents import stored_rows
from gateway.settings import Settings
from gateway.yjs.snapshots import make_snapshot
from storage import Snapshot, Version
from tests.support.oracle import FOLDER
from tests.support.server import GatewayProcess
from tests.yjs.test_differential import check_in_gateway

_HISTORIES = int(os.environ.get("YJS_DELIVERIES", "24"))
_SEED = int(os.environ.get("YJS_SEED", "1"))
_BATCH = 40
_ROUNDS = 3


def test_what_a_bad_network_delivers_is_what_yjs_makes_of_it(node: str, tmp_path: Path) -> None:
    failures: list[str] = []
    counts: Counter[str] = Counter()
    for seed in range(_SEED, _SEED + _HISTORIES, _BATCH):
        (folder := tmp_path / str(seed)).mkdir()
        histories = min(_BATCH, _SEED + _HISTORIES - seed)
        for result in _delivered(node, folder, seed, histories, counts):
            try:
                if "failure" in result:
                    raise AssertionError(result["failure"])
                wholes = {0} | {version for builds_on, version, _ in result["fetched"] if builds_on == 0}
                result["fetched"] = [each for each in result["fetched"] if each[0] in wholes]  # others: squashed
                check_in_gateway(result)
            except BaseException as error:  # pycrdt's panics are no Exceptions
                if isinstance(error, KeyboardInterrupt):
                    raise
                failures.append(f"YJS_SEED={seed} YJS_DELIVERIES={_BATCH}, history {result['seed']}: {error}")
            else:
                counts.update(result["ways"], histories=1, fetched=len(result["fetched"]), refused=result["refused"])
    print(f"seed {_SEED}: {dict(counts)}")
    if failures:
        pytest.fail(f"{len(failures)} of {_HISTORIES} histories differ\n" + "\n\n".join(failures[:5]))
    assert counts["histories"] == _HISTORIES
    assert counts["rooms"] > 0


def _delivered(node: str, folder: Path, seed: int, histories: int, counts: Counter[str]) -> list[dict[str, Any]]:
    """What came of a batch of histories, which one gateway is sent at once."""
    chance = random.Random(seed)
    with GatewayProcess(folder / "gateway.db", GATEWAY_ROOM_WINDOW_MS=chance.choice((0, 5, 50))) as gateway:
        with subprocess.Popen(
            [node, "delivery.mjs"], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            request = {"project": gateway.project(), "seed": seed, "histories": histories, "rounds": _ROUNDS}
            print(json.dumps(request), file=process.stdin, flush=True)
            for number in range(_ROUNDS):
                assert json.loads(process.stdout.readline()) == {"round": number}
                last = number == _ROUNDS - 1
                event = chance.choice((_kill, _stop, _take_snapshots, _compact, *([_squash] if last else [])))
                event(gateway, chance)
                counts[event.__name__.strip("_")] += 1
                print(json.dumps({"squashed": event is _squash}), file=process.stdin, flush=True)
            results = [json.loads(line) for line in process.stdout]
        assert process.returncode == 0
    _run("verify", gateway)
    return results


def _kill(gateway: GatewayProcess, chance: random.Random) -> None:
    gateway.kill()
    gateway.start()


def _stop(gateway: GatewayProcess, chance: random.Random) -> None:
    assert gateway.stop() == 0
    gateway.start()


def _take_snapshots(gateway: GatewayProcess, chance: random.Random) -> None:
    """Of every file at some version, as the background work takes them where a log has grown long."""

    async def take() -> None:
        app = create_app(Settings(database=f"sqlite:///{gateway.database}"))
        async with app.running() as storage:
            async for head in storage.files("demo"):
                at = Version(chance.randint(1, head.version))
                stored = await storage.read_document("demo", head.path, at_version=at)
                if stored is not None and stored.updates:
                    body = make_snapshot(await stored_rows(stored))
                    await storage.put_snapshot("demo", head.path, Snapshot(stored.version, body))

    assert gateway.stop() == 0
    asyncio.run(take())
    gateway.start()


def _compact(gateway: GatewayProcess, chance: random.Random) -> None:
    """Nothing is lost but the snapshots."""
    assert gateway.stop() == 0
    _run("compact", gateway)
    gateway.start()


def _squash(gateway: GatewayProcess, chance: random.Random) -> None:
    """Old versions are gone, and nothing else."""
    assert gateway.stop() == 0
    _run("compact", gateway, "--retain-versions", str(chance.randint(1, 8)))
    gateway.start()


def _run(command: str, gateway: GatewayProcess, *options: str) -> None:
    database = f"sqlite:///{gateway.database}"
    arguments = [sys.executable, "-m", "gateway", command, "--database", database, *options]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
