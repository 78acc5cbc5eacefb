"""The access log: one line a request, with the id that the client was told."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.live.clients import put, wait_for_figure
from tests.live.test_rooms import Edit
from tests.support.server import GatewayProcess


def _lines(gateway: GatewayProcess, event: str) -> list[dict[str, Any]]:
    """What was logged, once the gateway has stopped."""
    entries = [json.loads(line) for line in gateway.log if line.startswith("{")]
    return [entry for entry in entries if entry["event"] == event]


def test_every_request_is_logged_with_its_id(tmp_path: Path, open_editor: Edit) -> None:
    settings = {"GATEWAY_ACCESS_LOG": "all", "GATEWAY_LOG_FORMAT": "json", "GATEWAY_LOG_LEVEL": "debug"}
    with GatewayProcess(tmp_path / "gateway.db", **settings) as gateway, gateway.client() as client:
        put(client, "ä b.md", "x")
        assert client.get("/files/%1B.md").status_code == 400
        given = client.get("/files/ä b.md", headers={"X-Request-ID": "from-proxy:1"})
        assert given.headers["X-Request-ID"] == "from-proxy:1"
        made = client.get("/files/none.md?ticket=secret", headers={"X-Request-ID": "no id"})
        editor = open_editor(gateway, "demo", "a.md")
        editor.synced()
        editor.leave()
        wait_for_figure(gateway, "gateway_room_connections", 0)  # else the gateway may close the room as it stops
        gateway.stop()
    (started,) = _lines(gateway, "started")
    assert started["version"]
    assert len(_lines(gateway, "stopped")) == 1
    requests = [entry for entry in _lines(gateway, "request") if "/files/" in entry["path"]]
    assert [(entry["method"], entry["status"], entry["path"].rpartition("/")[2]) for entry in requests] == [
        ("PUT", 201, "%C3%A4%20b.md"),
        ("GET", 400, "%1B.md"),
        ("GET", 200, "%C3%A4%20b.md"),
        ("GET", 404, "none.md"),
    ]
    assert [entry["request_id"] for entry in requests[2:]] == ["from-proxy:1", made.headers["X-Request-ID"]]
    assert made.headers["X-Request-ID"] != "no id"
    assert not [line for line in gateway.log if "secret" in line]
    (connection,) = _lines(gateway, "websocket")
    assert (connection["path"], connection["code"]) == ("/api/projects/demo/ws/a.md", 1005)
    for event in ("room opened", "room closed"):
        (room,) = _lines(gateway, event)
        assert (room["project"], room["path"], room["level"]) == ("demo", "a.md", "debug")
        assert room["request_id"] == connection["request_id"]


@pytest.mark.parametrize("mode", ["errors", "off"])
def test_only_errors_are_logged_or_nothing(tmp_path: Path, mode: str) -> None:
    settings = {"GATEWAY_ACCESS_LOG": mode, "GATEWAY_LOG_FORMAT": "json"}
    with GatewayProcess(tmp_path / "gateway.db", **settings) as gateway, gateway.client() as client:
        put(client, "a.md", "x")
        answer = client.get("/files/none.md")
        assert ("X-Request-ID" in answer.headers) == (mode == "errors")
        gateway.stop()
    assert [entry["status"] for entry in _lines(gateway, "request")] == ([404] if mode == "errors" else [])


def test_an_address_in_use_is_logged_in_the_format_of_all_lines(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "gateway", "serve", "--port", str(taken.getsockname()[1])]
        command += ["--database", f"sqlite:///{tmp_path / 'gateway.db'}"]
        environment = {**os.environ, "GATEWAY_LOG_FORMAT": "json"}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 3
    (entry,) = [json.loads(line) for line in run.stderr.splitlines()]
    assert entry["level"] == "error"
    assert "address already in use" in entry["event"]
