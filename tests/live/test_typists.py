"""People who type at the same time through the stock y-websocket provider, and those who follow them over HTTP."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.oracle import FOLDER
from tests.support.server import GatewayProcess
from tests.yjs.generated_traces import typed_together

_GENERATED = {"generated, a few edits": (1, 500), "generated, many edits": (2, 4000)}


@pytest.mark.parametrize("name", ["friendsforever", *_GENERATED])
def test_two_typists_and_two_followers_end_with_what_was_typed(
    tmp_path: Path, node: str, trace: Callable[[str], dict[str, Any]], name: str
) -> None:
    typed = typed_together(*_GENERATED[name]) if name in _GENERATED else trace(name)
    # The trace goes back and forth 2,400 times; each time one waits for what the other one typed to be stored.
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_ROOM_WINDOW_MS=2) as gateway, gateway.client() as project:
        question = {"project": gateway.project(), "path": "friends.md", "trace": typed}
        done = subprocess.run(
            [node, "live_typists.mjs"],
            cwd=FOLDER,
            input=json.dumps(question),
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        result = json.loads(done.stdout)
        answer = project.get("/files/friends.md", params={"format": "text"})
    end = typed["endContent"]
    assert result["texts"] == [end] * 4
    assert answer.text == end
    assert result["versions"] == [int(answer.headers["X-Version"])] * 2
    assert result["versions"][0] < sum(result["edits"])
