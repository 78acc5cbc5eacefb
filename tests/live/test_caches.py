"""A cache between gateway and clients (nginx, which honours `Vary` and revalidates by tag) never mixes two forms."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from tests.live.clients import name_of
from tests.support.server import GatewayProcess

_CONFIGURATION = """
{user}
error_log stderr notice;
pid {folder}/nginx.pid;
daemon off;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_cache_path {folder}/cache keys_zone=files:1m;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{gateway};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_cache files;
            proxy_cache_key $request_uri;
            proxy_cache_valid 200 {valid};
            proxy_cache_revalidate on;
            # What nginx keeps is what a private cache may keep: it is asked for again each time unless `valid` says so.
            proxy_ignore_headers Cache-Control Expires;
            add_header X-Cache $upstream_cache_status always;
        }}
    }}
}}
"""
_PLAIN = {"Content-Type": "text/plain"}


@pytest.fixture(scope="module", params=["1s", "1h"], ids=["revalidates", "keeps"])
def behind_cache(
    request: pytest.FixtureRequest, shared_gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of the shared gateway behind nginx as a cache."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    folder = tmp_path_factory.mktemp("cache")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    user = "user root;" if os.geteuid() == 0 else ""  # else its workers may not enter the folder
    text = _CONFIGURATION.format(user=user, folder=folder, port=port, gateway=shared_gateway.port, valid=request.param)
    (folder / "nginx.conf").write_text(text, encoding="utf-8")
    command = [program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as nginx:
        assert nginx.stderr is not None
        log = []
        for line in nginx.stderr:
            log.append(line)
            if "start worker process " in line:
                break
        else:
            raise AssertionError("nginx did not start:\n" + "".join(log))
        yield f"http://127.0.0.1:{port}"
        nginx.terminate()
        nginx.communicate()


def test_each_form_comes_as_it_was_asked_for(behind_cache: str, shared_project: httpx.Client) -> None:
    shared_project.put("/files/a", content="hello\n", headers=_PLAIN)
    forms = ("*/*", "text/plain", "application/octet-stream")
    right = {accept: shared_project.get("/files/a", headers={"Accept": accept}) for accept in forms}
    assert right["*/*"].content != right["text/plain"].content
    with httpx.Client(base_url=f"{behind_cache}/api/projects/{name_of(shared_project)}", verify=False) as cached:
        seen = set()
        for _ in range(4):
            for accept in forms:
                answer = cached.get("/files/a", headers={"Accept": accept})
                seen.add(answer.headers["X-Cache"])
                for name in ("ETag", "Content-Type"):
                    assert answer.headers[name] == right[accept].headers[name]
                assert answer.content == right[accept].content
                for known in forms:
                    tag = right[known].headers["ETag"]
                    asked = cached.get("/files/a", headers={"Accept": accept, "If-None-Match": tag})
                    same = tag == right[accept].headers["ETag"]
                    assert asked.status_code == (304 if same else 200), (accept, known)
                    assert asked.content == (b"" if same else right[accept].content)
        assert "HIT" in seen or "REVALIDATED" in seen
