"""The demo application is served at `/`, and takes nothing away from the API."""

from pathlib import Path

import httpx

from tests.support.server import GatewayProcess


def test_the_demo_is_served_where_no_route_is(shared_gateway: GatewayProcess) -> None:
    with httpx.Client(base_url=shared_gateway.url, verify=False) as client:
        page = client.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert client.get("/demo.js").headers["content-type"].startswith("text/javascript")
        assert client.get("/", headers={"If-None-Match": page.headers["etag"]}).status_code == 304


def test_what_is_no_page_is_not_found_as_before(shared_gateway: GatewayProcess) -> None:
    with httpx.Client(base_url=shared_gateway.url, verify=False) as client:
        for method, path in [
            ("GET", "/none"),
            ("POST", "/"),
            ("GET", "/api/projects/demo.js/none"),
            ("GET", "/api/"),
            ("GET", "/../settings.py"),
            ("GET", "/%2e%2e/settings.py"),
        ]:
            answer = client.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path


def test_the_demo_can_be_left_out(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_DEMO="false") as gateway:
        answer = httpx.get(gateway.url, verify=False)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
