"""Routes for operators: health, readiness, metrics, and the description of the API."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.operation import operation
from gateway.http.requests import json_bytes
from gateway.maintenance.jobs import Job
from gateway.wire.media_types import JSON, TEXT
from gateway.wire.problems import Unavailable
from gateway.wire.system import Health


class SystemRoutes:
    """Handlers of requests about the gateway itself."""

    def __init__(
        self,
        ready: Callable[[], Awaitable[None]],
        warning: Callable[[], str | None],
        jobs: Sequence[Job],
        exposition: Callable[[], Awaitable[bytes]],
        openapi: Callable[[], bytes],
    ) -> None:
        self._ready = ready
        self._warning = warning
        self._jobs = jobs
        self._exposition = exposition
        self._openapi = openapi

    @operation(
        "GET",
        "/healthz",
        name="health",
        summary="Is it alive?",
        answers={200: {JSON: Health}},
    )
    async def healthz(self, request: Request) -> Response:
        """Answer as long as the process is alive."""
        return Response(json_bytes(Health("ok")), media_type=JSON)

    @operation(
        "GET",
        "/readyz",
        name="readiness",
        summary="Can it take requests?",
        answers={200: {JSON: Health}},
        problems=(Unavailable,),
    )
    async def readyz(self, request: Request) -> Response:
        """Check that the database answers too. A stopped background job does not make the gateway unready."""
        await self._ready()
        checks = {"database": self._warning() or "ok", **{job.name: job.stopped or "ok" for job in self._jobs}}
        status: Literal["ok", "degraded"] = "ok" if set(checks.values()) == {"ok"} else "degraded"
        return Response(json_bytes(Health(status, checks)), media_type=JSON)

    @operation(
        "GET",
        "/metrics",
        name="metrics",
        summary="For Prometheus.",
        scope="admin",
        answers={200: {TEXT: str}},
    )
    async def metrics(self, request: Request) -> Response:
        return Response(await self._exposition(), media_type="text/plain; version=0.0.4")

    @operation(
        "GET",
        "/openapi.json",
        name="openapi",
        summary="This text.",
        answers={200: {JSON: dict}},
    )
    async def openapi(self, request: Request) -> Response:
        description = await asyncio.to_thread(self._openapi)  # the first time it is made, in 10 ms
        return Response(description, media_type=JSON)
