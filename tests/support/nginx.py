"""nginx with a configuration of the documentation."""

import os
import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.support.ports import free_port
from tests.support.server import GatewayProcess

CONFIGURATION = Path(__file__).parent.parent.parent / "docs" / "nginx.conf"
_UPSTREAM = re.compile(r"^upstream yjs_gateway \{.*?^\}\n", re.MULTILINE | re.DOTALL)
_SERVERS = re.compile(r"^ +server .*\n(?: +server .*\n)*", re.MULTILINE)
_AROUND = """
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
    include {folder}/gateway.conf;
}}
"""


def in_front_of(gateways: Iterable[GatewayProcess]) -> str:
    """The configuration of the documentation for several gateways, with these."""
    several = (CONFIGURATION.parent / "nginx-gateways.conf").read_text(encoding="utf-8")
    found = _SERVERS.search(several)
    assert found is not None
    first = found[0].splitlines(keepends=True)[0]
    assert first.count(":8000 ") == 1
    servers = "".join(first.replace(":8000 ", f":{gateway.port} ") for gateway in gateways)
    several = several[: found.start()] + servers + several[found.end() :]
    whole, count = _UPSTREAM.subn(lambda _: several, CONFIGURATION.read_text(encoding="utf-8"))
    assert count == 1
    return whole


@contextmanager
def running_nginx(folder: Path, configuration: str) -> Iterator[str]:
    """The URL at which nginx listens with a configuration as `docs/nginx.conf`; skips the test where there is none."""
    port = free_port()
    assert configuration.count("listen 8080;") == 1
    configuration = configuration.replace("listen 8080;", f"listen 127.0.0.1:{port};")
    (folder / "gateway.conf").write_text(configuration, encoding="utf-8")
    with started_nginx(folder, _AROUND.format(folder=folder, user=user())):
        yield f"http://127.0.0.1:{port}"


def user() -> str:
    """The directive by which nginx's processes may enter the folder of a test."""
    return "user root;" if os.geteuid() == 0 else ""


@contextmanager
def started_nginx(folder: Path, configuration: str) -> Iterator[None]:
    """nginx with a whole configuration, which logs to its standard error; skips the test where there is none."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    (folder / "nginx.conf").write_text(configuration, encoding="utf-8")
    command = [program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as nginx:
        assert nginx.stderr is not None
        lines: queue.Queue[str | None] = queue.Queue()
        # To the end: nginx stands still once nobody reads what it logs.
        reader = threading.Thread(target=_read, args=(nginx.stderr, lines))
        reader.start()
        log = []
        try:
            while "start worker process " not in (line := lines.get(timeout=120) or ""):
                log.append(line)
                if not line:
                    raise AssertionError("nginx did not start:\n" + "".join(log))
            yield
        finally:
            nginx.terminate()
            nginx.wait()
            reader.join()


def _read(log: IO[str], lines: "queue.Queue[str | None]") -> None:
    for line in log:
        lines.put(line)
    lines.put(None)
