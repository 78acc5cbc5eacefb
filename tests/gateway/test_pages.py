"""The demo application is served at `/`, and takes nothing away from the API."""

from pathlib import Path

import httpx
import pytest

from tests.support.server import GatewayProcess


def test_the_demo_is_served_where_no_route_is(shared_gateway: GatewayProcess) -> None:
    plain = {"Accept-Encoding": "identity"}
    with httpx.Client(base_url=shared_gateway.url, verify=False, headers=plain) as client:
        for path in ("/", "/index.html"):
            page = client.get(path)
            assert page.status_code == 200
            assert page.headers["content-type"].startswith("text/html")
            assert client.head(path).headers["content-length"] == str(len(page.content))
        script = client.get("/demo.js")
        assert script.headers["content-type"].startswith("text/javascript")
        assert client.get("/demo.js", headers={"If-None-Match": script.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("index", ["/", "/graphiql"])
def test_each_answer_of_the_page_has_a_nonce_of_its_own_and_is_not_stored(
    shared_gateway: GatewayProcess, index: str
) -> None:
    with httpx.Client(base_url=shared_gateway.url, verify=False) as client:
        nonces = set()
        for headers in ({}, {}, {"If-None-Match": "*"}, {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}):
            page = client.get(index, headers=headers)
            assert page.status_code == 200
            assert page.headers["cache-control"] == "no-store"
            assert not {"etag", "last-modified"} & {*page.headers}
            nonce = page.text.partition('nonce="')[2].partition('"')[0]
            assert _policy(page)["style-src"] == f"'self' 'nonce-{nonce}'"
            nonces.add(nonce)
        assert len(nonces) == 4


def test_no_page_may_have_inline_styles_or_scripts(shared_gateway: GatewayProcess) -> None:
    with httpx.Client(base_url=shared_gateway.url, verify=False) as client:
        for path in (
            "/",
            "/index.html",
            "/demo.js",
            "/demo.css",
            "/graphiql",
            "/graphiql/graphiql.js",
            "/docs",
            "/docs/reference.js",
        ):
            page = client.get(path)
            assert "unsafe" not in page.headers["content-security-policy"]
            policy = _policy(page)
            assert (policy["default-src"], policy["script-src"]) == ("'none'", "'self'")
            assert policy["frame-ancestors"] == "'none'"


def _policy(page: httpx.Response) -> dict[str, str]:
    directives = (part.strip().partition(" ") for part in page.headers["content-security-policy"].split(";"))
    return {name: value for name, _, value in directives}


def test_what_is_no_page_is_not_found_as_before(shared_gateway: GatewayProcess) -> None:
    with httpx.Client(base_url=shared_gateway.url, verify=False) as client:
        for method, path in [
            ("GET", "/none"),
            ("GET", "/graphiql/none"),
            ("GET", "/graphiql.js"),
            ("POST", "/"),
            ("GET", "/api/projects/demo.js/none"),
            ("GET", "/api/"),
            ("GET", "/../settings.py"),
            ("GET", "/%2e%2e/settings.py"),
            ("GET", "/%00"),
            ("GET", "/demo.js%00"),
            ("GET", "/%ED%A0%80"),
            ("GET", "/%ff"),
            ("GET", "/%"),
            ("GET", f"/{'x' * 5000}"),
            ("GET", f"/{'x/' * 5000}"),
        ]:
            answer = client.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path


def test_the_demo_can_be_left_out(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_DEMO="false") as gateway:
        for path in ("/", "/demo.js", "/graphiql", "/docs", "/docs/reference.js"):
            answer = httpx.get(f"{gateway.url}{path}", verify=False)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
