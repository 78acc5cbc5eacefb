"""compose.yaml and the Dockerfile, without containers: what they say is run as it is."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import yaml

from gateway.settings import Settings
from tests.docs.markdown import PROJECT
from tests.live.clients import PLAIN
from tests.support.nginx import running_nginx
from tests.support.postgres import PostgresServer
from tests.support.server import PATIENCE_S, GatewayProcess


def _compose() -> dict[str, Any]:
    compose: dict[str, Any] = yaml.safe_load((PROJECT / "compose.yaml").read_text(encoding="utf-8"))
    return compose


def _dockerfile() -> list[tuple[str, str]]:
    """The instructions and their arguments."""
    text = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, arguments) for name, _, arguments in (line.partition(" ") for line in lines)]


def _set_by_image() -> dict[str, str]:
    words = [word for name, arguments in _dockerfile() if name == "ENV" for word in shlex.split(arguments)]
    return dict(word.split("=", 1) for word in words)


def test_the_image_has_all_that_the_package_is_built_from() -> None:
    copied = [
        word
        for name, arguments in _dockerfile()
        if name == "COPY" and "--from" not in arguments
        for word in arguments.split()[:-1]
    ]
    assert all((PROJECT / each).exists() for each in copied)
    project = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    packages = json.loads(re.search(r"^packages = (\[.*gateway.*\])$", project, re.M)[1])  # type: ignore[index]
    assert {*packages, "pyproject.toml", "README.md", "LICENSE"} <= set(copied)
    ignored = (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert [line[1:] for line in ignored if line.startswith("!")] == copied
    extras = re.search(r'"\.\[(.*)\]"', dict(_dockerfile())["RUN"] + (PROJECT / "Dockerfile").read_text())[1]  # type: ignore[index]
    assert all(f"\n{extra} = [" in project for extra in extras.split(","))


def test_the_image_runs_the_gateway_and_knows_when_it_is_ready(tmp_path: Path) -> None:
    steps = dict(_dockerfile())
    assert steps["USER"] == "gateway"
    assert steps["VOLUME"] == "/data"
    assert json.loads(steps["CMD"]) == ["yjs-gateway", "serve"]
    image = {name: value for name, value in _set_by_image().items() if name.startswith("GATEWAY_")}
    assert image.pop("GATEWAY_DATABASE") == "sqlite:////data/yjs-gateway.db"
    assert image.pop("GATEWAY_PORT") == steps["EXPOSE"]
    _, _, check = steps["HEALTHCHECK"].partition("CMD ")
    with GatewayProcess(tmp_path / "gateway.db", **image) as gateway, httpx.Client(timeout=PATIENCE_S) as client:
        command = [sys.executable, *json.loads(check)[1:]]
        environment = {**os.environ, "GATEWAY_PORT": str(gateway.port)}
        deadline = time.monotonic() + PATIENCE_S
        while subprocess.run(command, env=environment, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline  # it gives up after two seconds, and is repeated
        assert client.get(f"http://127.0.0.1:{gateway.port}/api/projects/p/files").status_code == 401
    stopped = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert stopped.returncode != 0


def test_compose_names_what_there_is() -> None:
    compose = _compose()
    services = compose["services"]
    assert sorted(services) == ["gateway-1", "gateway-2", "nginx", "postgres"]
    for service in services.values():
        assert ("build" in service) != ("image" in service)
        for needed, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            has_check = "healthcheck" in services[needed] or "build" in services[needed]
            assert has_check, needed
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or (PROJECT / source).is_file()
    for name in ("gateway-1", "gateway-2"):
        assert services[name]["build"] == "."
        known = {f"GATEWAY_{setting.upper()}" for setting in Settings.model_fields}
        assert set(services[name]["environment"]) <= known


def test_two_gateways_and_nginx_run_as_compose_says(postgres: PostgresServer, tmp_path: Path) -> None:
    services = _compose()["services"]
    started: list[GatewayProcess] = []
    url = postgres.schema_url()
    try:
        for name in ("gateway-1", "gateway-2"):  # the second one waits for the first one
            settings = {**_set_by_image(), **services[name]["environment"]}
            settings = {key: value for key, value in settings.items() if key.startswith("GATEWAY_")}
            settings |= {"GATEWAY_HOSTS": "", "GATEWAY_DATABASE": url}
            settings.pop("GATEWAY_PORT")
            started.append(GatewayProcess(url, **settings).start())
        printed = [line for gateway in started for line in gateway.log if "A token of scope admin" in line]
        assert len(printed) == 1
        token = printed[0].split()[-1]
        shell, flags, script = services["nginx"]["command"]
        script = script.replace("/gateway/", f"{PROJECT}/docs/").replace("/etc/nginx/conf.d", str(tmp_path))
        assert "exec nginx" in script
        subprocess.run([shell, flags, script.partition("exec nginx")[0]], check=True)
        configuration = "".join((tmp_path / name).read_text() for name in ("default.conf", "gateways.conf"))
        for number, gateway in enumerate(started, 1):
            assert configuration.count(f"gateway-{number}:8000 ") == 1
            configuration = configuration.replace(f"gateway-{number}:8000 ", f"127.0.0.1:{gateway.port} ")
        with running_nginx(tmp_path, configuration) as front, httpx.Client(timeout=PATIENCE_S) as client:
            headers = {**PLAIN, "Authorization": f"Bearer {token}"}
            for number in range(6):
                file = f"{front}/api/projects/p{number}/files/a.md"
                client.put(file, content="x", headers=headers).raise_for_status()
                assert client.get(file, params={"format": "text"}, headers=headers).text == "x"
            assert client.get(f"{front}/api/projects/p0/files").status_code == 401
    finally:
        for gateway in started:
            gateway.kill()
