"""For operators: health, readiness, figures, and the description of the API."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.operation import Operation
from gateway.http.requests import json_bytes
from gateway.maintenance.jobs import Job
from gateway.wire.media_types import JSON, TEXT
from gateway.wire.problems import Unavailable
from gateway.wire.system import Health


class SystemRoutes:
    """Requests outside any project."""

    def __init__(
        self,
        ready: Callable[[], Awaitable[None]],
        jobs: Sequence[Job],
        exposition: Callable[[], bytes],
        openapi: Callable[[], bytes],
    ) -> None:
        self._ready = ready
        self._jobs = jobs
        self._exposition = exposition
        self._openapi = openapi

    async def healthz(self, request: Request) -> Response:
        """The process answers."""
        return Response(json_bytes(Health("ok")), media_type=JSON)

    async def readyz(self, request: Request) -> Response:
        """The database answers as well. A job in the background that is stopped keeps nobody from asking."""
        await self._ready()
        checks = {"database": "ok", **{job.name: job.stopped or "ok" for job in self._jobs}}
        status: Literal["ok", "degraded"] = "ok" if set(checks.values()) == {"ok"} else "degraded"
        return Response(json_bytes(Health(status, checks)), media_type=JSON)

    async def metrics(self, request: Request) -> Response:
        return Response(self._exposition(), media_type="text/plain; version=0.0.4")

    async def openapi(self, request: Request) -> Response:
        return Response(self._openapi(), media_type=JSON)

    def operations(self) -> list[Operation]:
        return [
            Operation("GET", "/healthz", "health", self.healthz, "Is it alive?", answers={200: {JSON: Health}}),
            Operation(
                "GET", "/readyz", "readiness", self.readyz, "Can it take requests?",
                answers={200: {JSON: Health}}, problems=(Unavailable,),
            ),
            Operation(
                "GET", "/metrics", "metrics", self.metrics, "For Prometheus.", answers={200: {TEXT: str}}, need="all",
            ),
            Operation("GET", "/openapi.json", "openapi", self.openapi, "This text.", answers={200: {JSON: dict}}),
        ]  # fmt: skip
