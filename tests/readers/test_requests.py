"""Webhooks and subscriptions over HTTP: a real gateway, its guard, `kill -9`, and the commands."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from gateway.readers.push_encryption import VapidKey
from tests.access.conftest import Subject, bearer, told
from tests.access.keys import SECRET
from tests.live.clients import wait_for_figure
from tests.readers.test_web_push import Browser
from tests.support.receiver import Received
from tests.support.server import GatewayProcess

_KEYS = {"p256dh": "", "auth": "BTBZMqHH6r4Tts7J_aSIgg"}


class Inbox:
    """A receiver in threads of its own; `hold` keeps answers back."""

    def __init__(self) -> None:
        self.messages: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()
        self.answers = threading.Event()
        self.answers.set()
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                inbox.messages.put((dict(self.headers.items()), body))
                inbox.answers.wait(120)
                try:
                    self.send_response(204)
                    self.end_headers()
                except OSError:
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self) -> tuple[dict[str, str], dict[str, Any]]:
        headers, body = self.messages.get(timeout=60)
        return headers, json.loads(body)


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    it = Inbox()
    yield it
    it.answers.set()
    it.server.shutdown()
    it.server.server_close()


def write(client: httpx.Client, path: str, text: str) -> str:
    answer = client.put(f"/files/{path}", content=text, headers={"Content-Type": "text/plain"}).raise_for_status()
    cursor: str = answer.json()["cursor"]
    return cursor


def until_told(client: httpx.Client, hook: str) -> None:
    """Wait until a webhook has noted that it was told everything: a message may come before that is noted."""
    deadline = time.monotonic() + 60
    while client.get(f"/hooks/{hook}").json()["lag"]:
        assert time.monotonic() < deadline


def test_a_message_that_was_sent_and_not_noted_comes_again_after_a_kill(tmp_path: Path, inbox: Inbox) -> None:
    gateway = GatewayProcess(tmp_path / "gateway.db", GATEWAY_HOOK_HOSTS="127.0.0.1")
    with gateway, gateway.client() as client:
        write(client, "a.md", "0")
        made = client.put("/hooks/ci", json={"url": inbox.url})
        assert made.status_code == 201
        secret = made.json()["secret"]
        inbox.answers.clear()
        first = write(client, "a.md", "1")
        headers, message = inbox.take()
        gateway.kill()
        inbox.answers.set()
        gateway.start()
        again, repeated = inbox.take()
        assert (again["webhook-id"], repeated) == (headers["webhook-id"], message)
        assert message["cursor"] == first
        Webhook(secret).verify(json.dumps(repeated, separators=(",", ":"), ensure_ascii=False), again)
        last = write(client, "b.md", "2")
        _, message = inbox.take()
        assert (message["since"], message["cursor"]) == (first, last)
        assert [entry["path"] for entry in message["changes"]] == ["b.md"]
        wait_for_figure(gateway, 'gateway_reader_messages_total{kind="hook"}', 2)
        until_told(client, "ci")
        assert inbox.messages.empty()
        assert client.get(f"{gateway.url}/readyz").json()["checks"]["readers"] == "ok"


def test_a_push_message_that_was_sent_and_not_noted_comes_again_after_a_kill(tmp_path: Path, inbox: Inbox) -> None:
    browser = Browser()

    def taken() -> dict[str, Any]:
        headers, body = inbox.messages.get(timeout=60)
        return browser.open(Received("POST", "/", headers, body))

    gateway = GatewayProcess(tmp_path / "gateway.db", GATEWAY_PUSH_HOSTS="127.0.0.1")
    with gateway, gateway.client() as client:
        session = client.post("/sessions", json={}).raise_for_status().json()["id"]
        subscription = {"endpoint": f"{inbox.url}push/1", "keys": browser.keys, "expirationTime": None}
        client.put("/push/phone", json={"subscription": subscription}).raise_for_status()
        turn = client.post(f"/sessions/{session}/turns", json={"prompt": "Sort"}).raise_for_status().json()["id"]
        inbox.answers.clear()
        for status in ("running", "completed"):
            client.patch(f"/sessions/{session}/turns/{turn}", json={"status": status}).raise_for_status()
        message = taken()
        gateway.kill()
        inbox.answers.set()
        gateway.start()
        assert taken() == message
        wait_for_figure(gateway, 'gateway_reader_messages_total{kind="push"}', 1)
        assert inbox.messages.empty()


def test_readers_are_behind_the_guard(tmp_path: Path, inbox: Inbox) -> None:
    settings = {"GATEWAY_AUTH": "required", "GATEWAY_JWT_KEY": SECRET, "GATEWAY_HOOK_HOSTS": "127.0.0.1"}
    gateway = GatewayProcess(tmp_path / "gateway.db", GATEWAY_PUSH_HOSTS="127.0.0.1", **settings)
    with gateway, contextlib.ExitStack() as open_:

        def subject(token: str | None) -> Subject:
            return open_.enter_context(Subject(gateway, "demo", token))

        admin = subject(bearer("root", projects={"demo": "admin"}))
        writer = subject(bearer("will", projects={"demo": "write"}))
        reader = subject(bearer("rose", projects={"demo": {"scope": "read", "paths": ["docs/"]}}))
        stranger = subject(bearer("sam", projects={"other": "admin"}))
        nobody = subject(None)
        write(admin, "a.md", "0")
        hook = {"url": inbox.url}
        assert told(writer.put("/hooks/ci", json=hook)) == (403, "forbidden")
        assert told(stranger.put("/hooks/ci", json=hook)) == (404, "project_not_found")
        assert told(nobody.put("/hooks/ci", json=hook)) == (401, "unauthenticated")
        assert admin.put("/hooks/ci", json=hook).status_code == 201
        for method, path in (("GET", "/hooks"), ("GET", "/hooks/ci"), ("DELETE", "/hooks/ci")):
            assert told(writer.request(method, path)) == (403, "forbidden")
        assert told(writer.post("/hooks/ci/replay", json={"since": "0.0"})) == (403, "forbidden")
        assert "secret" not in admin.get("/hooks/ci").json()
        assert "whsec_" not in admin.get("/hooks").text
        keys = {**_KEYS, "p256dh": VapidKey(VapidKey.make()).public}
        push = {"subscription": {"endpoint": inbox.url, "keys": keys}, "filter": {}, "quiet_seconds": 0}
        assert told(stranger.put("/push/c1", json=push)) == (404, "project_not_found")
        assert reader.put("/push/c1", json=push).status_code == 200
        assert told(writer.put("/push/c1", json=push)) == (403, "forbidden")
        assert told(writer.delete("/push/c1")) == (403, "forbidden")
        write(admin, "secret.md", "s")
        inbox.take()  # of the hook
        write(admin, "docs/a.md", "d")
        both = [inbox.messages.get(timeout=60)[0] for _ in range(2)]  # the hook's and the one push
        assert sorted(headers.get("content-encoding", "") for headers in both) == ["", "aes128gcm"]
        assert inbox.messages.empty()
        assert reader.delete("/push/c1").status_code == 204


def test_what_is_no_hook_is_refused(shared_project: httpx.Client) -> None:
    write(shared_project, "a.md", "0")
    good = {"url": "https://example.org/"}
    for body in ({}, {"url": 1}, {**good, "include": "all"}, {**good, "filter": {"x": 1}}, {**good, "more": 1}):
        assert told(shared_project.put("/hooks/ci", json=body)) == (400, "invalid_body")
    assert told(shared_project.put("/hooks/a%20b", json=good)) == (400, "invalid_parameter")
    assert told(shared_project.put("/hooks/ci", json={**good, "since": "x"})) == (400, "invalid_cursor")
    assert told(shared_project.get("/hooks/ci")) == (404, "hook_not_found")
    assert told(shared_project.post("/hooks/ci/replay", json={"since": "0.0"})) == (404, "hook_not_found")
    large = [f"{number}/{'a' * 1000}" for number in range(66)]
    for filter_ in ({"prefix": "a" * 70_000}, {"paths": large}, {"prefix": "é" * 32_769}):
        assert told(shared_project.put("/hooks/ci", json={**good, "filter": filter_})) == (400, "invalid_parameter")
    assert shared_project.get("/hooks").json() == {"hooks": [], "next": None}


def test_a_page_of_hooks_is_bounded_by_the_bytes_of_their_filters(shared_project: httpx.Client) -> None:
    write(shared_project, "a.md", "0")
    body = {"url": "https://example.org/", "filter": {"prefix": "a" * 60_000}}
    names = [f"h{number:02}" for number in range(40)]
    for name in names:
        shared_project.put(f"/hooks/{name}", json=body).raise_for_status()
    found: list[str] = []
    pages, after = 0, ""
    while after is not None:
        answer = shared_project.get("/hooks", params={"limit": 1000, "after": after}).raise_for_status()
        assert len(answer.content) < 3 * 2**20
        found += [hook["id"] for hook in answer.json()["hooks"]]
        pages, after = pages + 1, answer.json()["next"]
    assert (found, pages) == (names, 2)
    few = shared_project.get("/hooks", params={"limit": 3}).json()
    assert ([hook["id"] for hook in few["hooks"]], few["next"]) == (names[:3], "h02")


def test_the_commands_make_show_replay_and_forget_a_hook(tmp_path: Path, inbox: Inbox) -> None:
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_HOOK_HOSTS="127.0.0.1") as gateway, gateway.client() as client:
        environment = {**os.environ, "GATEWAY_URL": gateway.url, "GATEWAY_PROJECT": "demo"}

        def run(*arguments: str, code: int = 0) -> str:
            command = [sys.executable, "-m", "gateway", "hooks", *arguments]
            result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert result.returncode == code, result.stderr
            return result.stdout + result.stderr

        since = write(client, "a.md", "0")
        secret = run("put", "ci", inbox.url, "--include", "text", "--finished").strip()
        write(client, "a.md", "1")
        headers, message = inbox.take()
        assert message["changes"][0]["diff"]
        until_told(client, "ci")
        assert secret.startswith("whsec_")
        assert headers["webhook-signature"].startswith("v1,")
        assert run("ls").split()[0] == "ci"
        assert run("put", "ci", inbox.url) == "ci: changed\n"
        assert "last answer" in run("show", "ci")
        assert run("replay", "ci", "--since", since).startswith("ci: ")
        assert inbox.take()[1]["since"] == since
        assert json.loads(run("show", "ci", "--json"))["url"] == inbox.url
        assert run("rm", "ci") == "ci: deleted\n"
        assert "there is no webhook 'ci'" in run("show", "ci", code=1)
