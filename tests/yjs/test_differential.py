"""Random histories made by npm's Yjs: every version is what Yjs makes of it, there and in another gateway.

`YJS_HISTORIES` says how many (a soak run takes 50,000), `YJS_SEED` where they begin (else
always at the same: whether a change passes does not depend on chance). A history that fails names its
seed: `YJS_SEED=<it> YJS_HISTORIES=1` runs it again.
"""

import base64
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.files.open_document import OpenDocument
from gateway.yjs.roots import read_roots
from gateway.yjs.stored_form import to_wire
from gateway.yjs.updates import build_document
from storage import Incarnation
from tests.support.oracle import FOLDER
from tests.support.server import GatewayProcess

_HISTORIES = int(os.environ.get("YJS_HISTORIES", "400"))
_PAIR = re.compile("[\U00010000-\U0010ffff]")
_SEED = int(os.environ.get("YJS_SEED", "1"))
_AT_ONCE = 16


def test_every_version_is_what_yjs_makes_of_the_updates(node: str, gateway: GatewayProcess) -> None:
    failures = []
    counts: Counter[str] = Counter()
    for replay in _replays(node, gateway):
        try:
            if "failure" in replay:
                raise AssertionError(replay["failure"])
            check_in_gateway(replay)
        except BaseException as error:  # pycrdt's panics are no Exceptions
            if isinstance(error, KeyboardInterrupt):
                raise
            failures.append(f"YJS_SEED={replay['seed']}: {error}")
        else:
            counts.update(
                replay["order"].split(), sent=replay["sent"], refused=replay["refused"], incomplete=replay["incomplete"]
            )
            counts.update(histories=1, fetched=len(replay["fetched"]), versions=len(replay["versions"]) - 1)
    print(f"seed {_SEED}: {dict(counts)}")
    if failures:
        pytest.fail(f"{len(failures)} of {_HISTORIES} histories differ\n" + "\n\n".join(failures[:5]))
    assert counts["histories"] == _HISTORIES


def _replays(node: str, gateway: GatewayProcess) -> Iterator[dict[str, Any]]:
    """What came of each history, as it comes."""
    request = {"project": gateway.project(), "seed": _SEED, "histories": _HISTORIES, "at_once": _AT_ONCE}
    with subprocess.Popen(
        [node, "differential.mjs"], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request).encode())
        process.stdin.close()
        for line in process.stdout:
            yield json.loads(line)
    assert process.returncode == 0


def check_in_gateway(replay: dict[str, Any]) -> None:
    """A gateway that is sent what this one serves has the same."""
    wholes = {0: b"\x00\x00"}
    for builds_on, version, encoded in sorted(replay["fetched"]):  # the whole documents first
        update = base64.b64decode(encoded)
        document = OpenDocument("project", "path", None, Incarnation(""), build_document([]))
        for part in (wholes[builds_on], update):
            assert not document.admit(part).incomplete, f"version {version} from {builds_on}"
        if builds_on == 0:
            wholes[version] = update
        roots = read_roots(to_wire(document.encode()))
        for name, readings in replay["versions"][version]["json"].items():
            written = _written(roots.get(name))
            right = any(_alike(written, _written(reading)) for reading in readings)
            assert right, f"{name} of version {version} from {builds_on}: {written}"


def _alike(one: str, other: str) -> bool:
    """Whether two texts say the same; a pair that is parted may be shown whole, as in `differential.mjs`."""
    if one == other:
        return True
    return "\ufffd" in one + other and _PAIR.sub("\ufffd\ufffd", one) == _PAIR.sub("\ufffd\ufffd", other)


def _written(value: Any) -> str:
    """As text, the members of objects in their order, but for names that are numbers: JavaScript has those first."""
    return json.dumps(_numbers_first(value), ensure_ascii=False)


def _numbers_first(value: Any) -> Any:
    if type(value) is int:
        return float(value)  # the digits of a BigInt are all there, JavaScript's reader makes a double of them
    if isinstance(value, list):
        return [_numbers_first(each) for each in value]
    if not isinstance(value, dict):
        return value
    numbers = sorted((name for name in value if name in ("9", "10")), key=int)
    return {name: _numbers_first(value[name]) for name in [*numbers, *(each for each in value if each not in numbers)]}


@pytest.mark.parametrize("seed", [1597755704, 1002800, 1002778, 1008079])
def test_a_put_before_a_formatted_embed_leaves_its_formats(
    node: str, gateway: GatewayProcess, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """yrs takes the end of a format before an embedded shared type for superfluous."""
    monkeypatch.setitem(globals(), "_SEED", seed)
    monkeypatch.setitem(globals(), "_HISTORIES", 1)
    test_every_version_is_what_yjs_makes_of_the_updates(node, gateway)
