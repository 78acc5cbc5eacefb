"""Traces by OpenTelemetry: a span for each request and WebSocket. Imported only where `GATEWAY_TRACING` asks for them.

The variables of OpenTelemetry say where the spans go and how many: `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`,
`OTEL_TRACES_SAMPLER` and the others of its specification. A `traceparent` of the client is continued.
"""

from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from starlette.types import ASGIApp, Receive, Scope, Send

_NOT_TRACED = "healthz,readyz,metrics"
_WITH_QUERY = ("http.url", "http.target", "url.full", "url.query")
"""The attributes that may contain the query, which may contain a credential."""
_NAMED_PARTS = 5
"""The first parts of a path that name its span, without the project: the rest is of clients."""


def traced(app: ASGIApp) -> ASGIApp:
    """Return the application with a span for each request. What is not sent yet is sent when the process ends."""

    async def asgi_3(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)  # the middleware knows the version of ASGI by the kind of what is called

    resource = Resource.create({SERVICE_NAME: "yjs-gateway"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    middleware: Any = OpenTelemetryMiddleware(
        asgi_3,
        excluded_urls=_NOT_TRACED,
        default_span_details=_details,
        server_request_hook=_leave_out_query,
        tracer_provider=provider,
        exclude_spans=["receive", "send"],
    )
    return middleware  # type: ignore[no-any-return]


def _details(scope: Scope) -> tuple[str, dict[str, Any]]:
    """Return the name of a span, of which there are few, and its attributes."""
    method = scope.get("method", "WEBSOCKET")
    parts = scope["path"].split("/")
    if parts[:3] == ["", "api", "projects"] and len(parts) > 3:
        parts = ["", "api", "projects", "{project}", *parts[4:_NAMED_PARTS]]
    return f"{method} {'/'.join(parts[:_NAMED_PARTS])}", {}


def _leave_out_query(span: Any, scope: Scope) -> None:
    if span.is_recording():
        for name in _WITH_QUERY:
            if name in span.attributes:
                span.set_attribute(name, "" if name == "url.query" else scope["path"])
