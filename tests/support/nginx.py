"""nginx with a configuration of the documentation."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    port = free_port()
    assert configuration.count("listen 8080;") == 1
    configuration = configuration.replace("listen 8080;", f"listen 127.0.0.1:{port};")
    (folder / "gateway.conf").write_text(configuration, encoding="utf-8")
    user = "user root;" if os.geteuid() == 0 else ""  # else its workers may not enter the folder
    (folder / "nginx.conf").write_text(_AROUND.format(folder=folder, user=user), encoding="utf-8")
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
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            nginx.terminate()
            nginx.communicate()
