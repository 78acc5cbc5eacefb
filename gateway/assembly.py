"""Makes one ASGI application of the parts of the gateway: its operations, and what each request passes through."""

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp

from gateway.access.audit import Audit
from gateway.access.guard import Guard
from gateway.access.tickets import Tickets
from gateway.api.direct_appends import DirectAppends
from gateway.api.not_modified import NotModifiedPolls
from gateway.api.openapi import describe
from gateway.api.operation import Operation, operations_of
from gateway.api.questions import Questions
from gateway.api.routes.access import AccessRoutes
from gateway.api.routes.changes import ChangeRoutes
from gateway.api.routes.files import FileRoutes
from gateway.api.routes.history import HistoryRoutes
from gateway.api.routes.presence import PresenceRoutes
from gateway.api.routes.projects import ProjectRoutes
from gateway.api.routes.readers import ReaderRoutes
from gateway.api.routes.sync import SyncRoutes
from gateway.api.routes.system import SystemRoutes
from gateway.api.routes.turns import TurnRoutes
from gateway.api.routing import cors, router
from gateway.changes.feed import Feed
from gateway.changes.status import Changes
from gateway.changes.sync import Sync
from gateway.files.documents import Documents
from gateway.files.history import Versions
from gateway.files.store import Files
from gateway.graphql.door import PATH as GRAPHQL_PATH
from gateway.graphql.door import GraphQLDoor
from gateway.graphql.services import Services
from gateway.http.access_log import AccessLog
from gateway.http.across_sites import AcrossSites
from gateway.http.authentication import Authentication
from gateway.http.bodies import BoundedBodies
from gateway.http.connections import Connections
from gateway.http.long_poll import LongPolls
from gateway.http.middleware import Boundary, compressed
from gateway.http.pages import Pages
from gateway.http.proxies import BehindProxies
from gateway.http.rate_limits import RateLimiter
from gateway.http.requests import json_bytes
from gateway.http.turn_stream import TurnStreams
from gateway.maintenance.jobs import Job, Work
from gateway.metrics import Metrics
from gateway.presence.presence import Presence
from gateway.presence.writers import Writers
from gateway.readers.opening import Readers
from gateway.rooms.endpoint import RoomEndpoint
from gateway.rooms.hocuspocus import HocuspocusEndpoint
from gateway.rooms.rooms import Rooms
from gateway.settings import Settings
from gateway.turns.store import Turns
from gateway.watch.hub import Hub
from storage import Storage

if TYPE_CHECKING:
    from gateway.mcp.endpoint import McpEndpoint

_FOLDER = Path(__file__).parent
_PAGES = {"/": _FOLDER / "demo", "/docs": _FOLDER / "reference", "/graphiql": _FOLDER / "graphiql"}
_ROOM_PATH = "/api/projects/{project}/ws/{path:file}"
_MCP_PATH = "/mcp"
_HOCUSPOCUS_PATH = "/api/projects/{project}/hocuspocus"


@dataclass(frozen=True)
class Parts:
    """What a running gateway consists of, below its interfaces."""

    settings: Settings
    connections: Connections
    storage: Storage
    guard: Guard
    audit: Audit
    hub: Hub
    documents: Documents
    files: Files
    presence: Presence
    versions: Versions
    feed: Feed
    readers: Readers
    rooms: Rooms
    mcp: "McpEndpoint | None"
    jobs: Mapping[Job, Work]
    """What runs in the background."""
    metrics: Metrics
    exposition: Callable[[], Awaitable[bytes]]
    """Returns the metrics of all processes on the port."""


def assemble(parts: Parts) -> ASGIApp:
    """Return the application, and add to the metrics whatever of it has some."""
    settings, hub = parts.settings, parts.hub
    questions = Changes(parts.storage, hub, paths_limit=settings.paths_limit)
    turns = Turns(
        parts.storage,
        hub,
        lease=settings.turn_lease,
        grace=settings.turn_grace,
        line_limit=settings.body_limit,
        lines_limit=settings.bodies_bytes,
    )
    tickets = Tickets(parts.storage)
    operations = _operations(parts, questions, turns, tickets)
    for each in (parts.connections, parts.readers, turns.unfinished_lines):
        parts.metrics.add(each)
    app = router(operations, _doors(parts, questions, turns), default=Pages(_PAGES if settings.demo else {}))
    app = _before_routes(app, parts, turns)
    return _guarded(app, parts, operations, tickets)


def _operations(parts: Parts, questions: Changes, turns: Turns, tickets: Tickets) -> list[Operation]:
    """Return the operations of all routes."""
    settings, storage, hub, files, readers = parts.settings, parts.storage, parts.hub, parts.files, parts.readers
    body_limit = settings.body_limit
    operations: list[Operation] = []

    @functools.cache
    def openapi() -> bytes:
        return json_bytes(describe(operations, version("yjs-gateway"), asks=settings.asks_for_credentials))

    sync = Sync(files, questions, paths_limit=settings.paths_limit, answer_limit=settings.sync_bytes)
    for routes in (
        FileRoutes(files, hub, Writers(parts.presence), body_limit=body_limit),
        ChangeRoutes(questions, parts.feed, hub, body_limit=body_limit),
        TurnRoutes(
            turns,
            hub,
            body_limit=body_limit,
            prompt_limit=settings.prompt_limit,
            answer_limit=settings.turn_answer_bytes,
        ),
        SyncRoutes(sync, parts.presence, body_limit=body_limit),
        HistoryRoutes(parts.versions, body_limit=body_limit),
        PresenceRoutes(parts.presence, hub),
        AccessRoutes(storage, parts.guard, tickets, parts.audit, body_limit=body_limit),
        ProjectRoutes(storage),
        ReaderRoutes(readers.registry, readers.key, body_limit=body_limit),
        SystemRoutes(storage.ready, lambda: storage.warning, tuple(parts.jobs), parts.exposition, openapi),
    ):
        operations += operations_of(routes)
    return operations


def _doors(parts: Parts, questions: Changes, turns: Turns) -> list[BaseRoute]:
    """Return the routes of what is not an operation: rooms, GraphQL and MCP."""
    settings, connected = parts.settings, parts.hub.waiters.connected
    services = Services(
        parts.hub,
        parts.files,
        parts.versions,
        questions,
        parts.feed,
        turns,
        prompt_limit=settings.prompt_limit,
        answer_bytes=settings.turn_answer_bytes,
        body_limit=settings.body_limit,
        heartbeat=settings.stream_heartbeat,
    )
    graphql = GraphQLDoor(services)
    doors: list[BaseRoute] = [
        WebSocketRoute(_ROOM_PATH, RoomEndpoint(parts.rooms, connected)),
        WebSocketRoute(_HOCUSPOCUS_PATH, HocuspocusEndpoint(parts.rooms, connected)),
        Route(GRAPHQL_PATH, graphql),
        WebSocketRoute(GRAPHQL_PATH, graphql),
    ]
    if parts.mcp is not None:
        doors.append(Route(_MCP_PATH, parts.mcp))
    return doors


def _before_routes(app: ASGIApp, parts: Parts, turns: Turns) -> ASGIApp:
    """Return what answers before the router is asked: long polls, event streams, unchanged polls, direct writes."""
    settings, hub, requests, storage = parts.settings, parts.hub, parts.metrics.requests, parts.storage
    heartbeat = settings.stream_heartbeat
    boundary = Boundary(compressed(app), requests, lambda: storage.load)
    streams = TurnStreams(hub, turns, heartbeat)
    app = LongPolls(boundary, hub.waiters, parts.feed, parts.presence, requests, heartbeat=heartbeat, turns=streams)
    if parts.mcp is not None:
        parts.mcp.ask(app)
    app = NotModifiedPolls(app, hub, parts.documents.sent, boundary, requests, paths_limit=settings.paths_limit)
    app = DirectAppends(app, parts.files, boundary, body_limit=settings.body_limit)
    bodies = BoundedBodies(app, settings.body_limits, requests)
    parts.metrics.add(bodies)
    return bodies


def _guarded(app: ASGIApp, parts: Parts, operations: Sequence[Operation], tickets: Tickets) -> ASGIApp:
    """Return what each request passes first, the innermost here: rates, credentials, origins, proxies, the logs."""
    settings, requests, limits = parts.settings, parts.metrics.requests, parts.settings.rate_limits
    if limits.requests or limits.bytes or limits.connections:
        app = RateLimiter(app, limits, requests)
    if settings.asks_for_credentials:
        asked_about = Questions(
            operations, {_ROOM_PATH: ("write", "read"), _MCP_PATH: ("write", "read"), GRAPHQL_PATH: ("read",)}
        )
        app = Authentication(app, parts.guard, tickets, parts.audit, requests, asked_about, failures=limits.failures)
    if settings.cors_origins:
        app = cors(app, settings.cors_origins)
    app = AcrossSites(app, requests, (settings.host, *settings.hosts), settings.cors_origins)
    if settings.proxies:
        app = BehindProxies(app, settings.proxies)
    if settings.access_log != "off":
        app = AccessLog(app, errors_only=settings.access_log == "errors")
    if settings.tracing:
        from gateway.http.tracing import traced

        app = traced(app)
    return app
