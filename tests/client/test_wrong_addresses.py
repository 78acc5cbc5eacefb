"""What a client says where there is no gateway at the address that it was given."""

import http.server
import socket
import threading
from collections.abc import Iterator

import pytest

from gateway.client import NoAnswer, NotFound, SyncGatewayClient, UnexpectedAnswer
from tests.support.server import GatewayProcess


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The URL of a web server that is no gateway and has one page for everything."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html>welcome</html>"
            self.send_response(404 if "missing" in self.path else 200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_another_server_is_no_gateway(elsewhere: str) -> None:
    with SyncGatewayClient(elsewhere) as client:
        with pytest.raises(UnexpectedAnswer, match=rf"^200: what answers at {elsewhere}/\S+ is no yjs-gateway$"):
            client.project("demo").list_files()
        with pytest.raises(UnexpectedAnswer, match=r"^404: Not Found; what answers at \S+ is no yjs-gateway$"):
            client.project("missing").list_files()


def test_a_refused_connection_is_named() -> None:
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        client = SyncGatewayClient(f"http://127.0.0.1:{bound.getsockname()[1]}")
        with client, pytest.raises(NoAnswer, match=r"^GET http://127\.0\.0\.1:\d+/healthz: Connection refused$"):
            client.healthz()


def test_a_url_has_a_scheme() -> None:
    with pytest.raises(ValueError, match="begins with http:// or https://"):
        SyncGatewayClient("127.0.0.1:8000")


def test_a_path_in_the_url_of_the_gateway_is_noticed(gateway: GatewayProcess) -> None:
    advice = r"not_found.*Check the URL of the gateway, which is http://host:port\.$"
    with SyncGatewayClient(f"{gateway.url}/api") as client, pytest.raises(NotFound, match=advice):
        client.project("demo").list_files()
