"""A cache between gateway and clients (nginx, which honours `Vary` and revalidates by tag) never mixes two forms."""

from collections.abc import Iterator

import httpx
import pytest

from tests.live.clients import name_of
from tests.support.nginx import started_nginx, user
from tests.support.ports import free_port
from tests.support.server import PATIENCE_S, GatewayProcess

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
    folder, port = tmp_path_factory.mktemp("cache"), free_port()
    options = {"user": user(), "folder": folder, "port": port, "gateway": shared_gateway.port, "valid": request.param}
    with started_nginx(folder, _CONFIGURATION.format(**options)):
        yield f"http://127.0.0.1:{port}"


def test_each_form_comes_as_it_was_asked_for(behind_cache: str, shared_project: httpx.Client) -> None:
    shared_project.put("/files/a", content="hello\n", headers=_PLAIN)
    forms = ("*/*", "text/plain", "application/octet-stream")
    right = {accept: shared_project.get("/files/a", headers={"Accept": accept}) for accept in forms}
    assert right["*/*"].content != right["text/plain"].content
    base = f"{behind_cache}/api/projects/{name_of(shared_project)}"
    with httpx.Client(base_url=base, timeout=PATIENCE_S, verify=False) as cached:
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
