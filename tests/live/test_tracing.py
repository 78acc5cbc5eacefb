"""Traces by OpenTelemetry, sent by the real exporter to a collector on loopback."""

import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.server import GatewayProcess

_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Collector:
    """Takes what is exported; `bodies` are the requests as they came."""

    def __init__(self) -> None:
        self.bodies: queue.Queue[bytes] = queue.Queue()
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.put(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self, count: int) -> list[Any]:
        """The first `count` spans, once they are there; none of what came has a credential."""
        found: list[Any] = []
        while len(found) < count:
            body = self.bodies.get(timeout=60)
            assert b"secret" not in body
            request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                names = {each.key: each.value.string_value for each in resource.resource.attributes}
                assert names["service.name"] == "yjs-gateway"
                found += [span for scope in resource.scope_spans for span in scope.spans]
        return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    it = Collector()
    yield it
    it.server.shutdown()
    it.server.server_close()


def test_requests_are_traced_without_their_queries(tmp_path: Path, collector: Collector) -> None:
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "60",
    }
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_TRACING="true", **settings) as gateway:
        with gateway.client() as project:
            parent = {"traceparent": f"00-{_TRACE}-00f067aa0ba902b7-01", "Content-Type": "text/plain"}
            assert project.put("/files/a.md", content="x", headers=parent).status_code == 201
            gateway.get("/healthz").raise_for_status()
            assert project.get("/files/b.md", params={"token": "secret"}).status_code in (400, 404)
        put, get = sorted(collector.spans(2), key=lambda span: span.start_time_unix_nano)
    assert put.trace_id.hex() == _TRACE
    assert (put.name, get.name) == ("PUT /api/projects/{project}/files", "GET /api/projects/{project}/files")
    assert get.trace_id != put.trace_id
