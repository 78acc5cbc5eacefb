"""The composition root, which opens the storage and assembles the gateway from all other packages."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.audit import Audit
from gateway.access.grants import ALL
from gateway.access.guard import Guard
from gateway.access.records import make_token
from gateway.access.sessions import ApplicationSessions
from gateway.access.tickets import Tickets
from gateway.api.direct_appends import DirectAppends, may_be_appended
from gateway.api.not_modified import NotModifiedPolls, may_be_unchanged
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
from gateway.asgi.answers import DirectAnswers, directly
from gateway.changes.feed import Feed
from gateway.changes.status import Changes
from gateway.changes.sync import Sync
from gateway.files.documents import Documents
from gateway.files.history import Versions
from gateway.files.quotas import Quotas
from gateway.files.store import Files
from gateway.graphql.door import PATH as GRAPHQL_PATH
from gateway.graphql.door import GraphQLDoor
from gateway.graphql.services import Services
from gateway.http.access_log import AccessLog
from gateway.http.across_sites import AcrossSites
from gateway.http.authentication import Authentication
from gateway.http.bodies import BoundedBodies
from gateway.http.connections import Connections
from gateway.http.half_messages import HalfMessages
from gateway.http.long_poll import LongPolls
from gateway.http.middleware import Boundary, compressed
from gateway.http.pages import Pages
from gateway.http.proxies import BehindProxies
from gateway.http.rate_limits import RateLimiter
from gateway.http.requests import json_bytes
from gateway.http.responses import send_problem
from gateway.http.turn_stream import TurnStreams
from gateway.maintenance.jobs import Job, running
from gateway.maintenance.memory import FreeMemory
from gateway.maintenance.retention import Retainer
from gateway.maintenance.silent_turns import SilentTurns
from gateway.maintenance.snapshots import Maintenance
from gateway.metrics import Metrics
from gateway.presence.presence import Presence
from gateway.presence.writers import Writers
from gateway.readers.opening import Readers, open_readers
from gateway.rooms.endpoint import RoomEndpoint
from gateway.rooms.hocuspocus import HocuspocusEndpoint
from gateway.rooms.rooms import Rooms
from gateway.settings import Settings
from gateway.shared_turn import SharedTurn
from gateway.trusted_clock import TrustedClock
from gateway.turns.store import Turns
from gateway.watch.hub import Hub
from gateway.watch.waiters import Waiters
from gateway.wire.problems import ShuttingDown
from gateway.workers.pool import Workers, worker_processes
from storage import Storage, StorageError
from storage.opening import StorageLimits, open_storage

if TYPE_CHECKING:
    from gateway.mcp.endpoint import McpEndpoint

_log = structlog.get_logger("gateway.app")

_FOLDER = Path(__file__).parent
_PAGES = {"/": _FOLDER / "demo", "/docs": _FOLDER / "reference", "/graphiql": _FOLDER / "graphiql"}
_ROOM_PATH = "/api/projects/{project}/ws/{path:file}"
_MCP_PATH = "/mcp"
_HOCUSPOCUS_PATH = "/api/projects/{project}/hocuspocus"


class Gateway:
    """The ASGI application. Before lifespan startup and after shutdown it answers 503."""

    def __init__(
        self,
        settings: Settings,
        open_storage: Callable[[str, StorageLimits], contextlib.AbstractAsyncContextManager[Storage]],
    ) -> None:
        self.settings = settings
        self.connections = Connections(settings.connection_limits)
        """The connections of the server, if it runs the gateway's own protocol classes."""
        self.half_messages = HalfMessages(settings.bodies_bytes)
        """What has arrived of its WebSocket messages."""
        self.own_metrics: Callable[[], bytes] = bytes
        """Returns the metrics of this process in the Prometheus text format; empty while the gateway does not run."""
        self.all_metrics: Callable[[], Awaitable[bytes]] | None = None
        """Returns those of all processes on the port, where there are several."""
        self._open_storage = open_storage
        self._serve(_unavailable)
        self._draining: list[Callable[[], None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self._app(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self.running():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except StorageError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
        else:
            await send({"type": "lifespan.shutdown.complete"})

    def answer_directly(self, scope: Scope, body: bytes, server: DirectAnswers) -> bool:
        """See `AnswerDirectly`."""
        may_be = may_be_appended if scope["method"] == "PATCH" else may_be_unchanged
        return may_be(scope) and self._answer_directly(scope, body, server)

    def _serve(self, app: ASGIApp) -> None:
        self._app = app
        self._answer_directly = directly(app)

    def drain(self) -> None:
        """Answer all long polls and end all streams and rooms. Call this when the server begins to stop."""
        for drain in self._draining:
            drain()

    async def _metrics(self) -> bytes:
        return self.own_metrics() if self.all_metrics is None else await self.all_metrics()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Storage]:
        """Run the gateway; on exit, write all accepted changes and close the storage."""
        settings = self.settings
        opening = self._open_storage(settings.database, settings.serving_limits)
        async with opening as storage, _workers(settings) as workers:
            sessions = ApplicationSessions(settings.authorize_url) if settings.authorize_url else None
            turn = self.connections.turn
            guard = await _open_guard(self.settings, storage, sessions, turn)
            trusted = TrustedClock(storage)
            audit = Audit(storage, self.settings.audit_days, trusted)
            hub = Hub(
                storage,
                Waiters(
                    project_limit=self.settings.project_waiters,
                    limit=self.settings.waiters,
                    question_limit=self.settings.waiting_bytes,
                    turn=turn,
                ),
            )
            documents = Documents(
                storage,
                memory_limit=self.settings.hot_document_bytes,
                size_limit=self.settings.document_bytes,
                quotas=Quotas(storage, files=settings.project_files, bytes_=settings.project_bytes),
            )
            files = Files(storage, documents, hub)
            presence = Presence(storage, hub)
            rooms = _open_rooms(self.settings, storage, files, documents, presence, turn)
            mcp = _open_mcp(self.settings)
            self._draining = [hub.drain, rooms.drain, *([] if mcp is None else [mcp.drain])]
            silent = SilentTurns(storage, self.settings.turn_lease, self.settings.turn_grace)
            maintenance = Maintenance(storage, documents)
            memory = FreeMemory()
            versions = Versions(storage, files)
            feed = Feed(storage, hub, versions, files)
            readers = await open_readers(
                storage,
                hub,
                feed,
                versions,
                files,
                vapid_key=settings.vapid_key,
                push_contact=settings.push_contact,
                push_hosts=settings.push_hosts,
                hook_hosts=settings.hook_hosts,
                limit=settings.readers,
                trusted=trusted,
            )
            jobs = {
                silent.job: silent.run,
                maintenance.job: maintenance.run,
                Job("awareness"): presence.expire,
                memory.job: memory.run,
                readers.deliveries.job: readers.deliveries.run,
                Job("clock"): trusted.run,
            }
            if not self.settings.retention.keeps_all:
                retainer = Retainer(storage, self.settings.retention)
                jobs[retainer.job] = lambda: retainer.run(self.settings.retention_interval, trusted)
            if self.settings.asks_for_credentials:
                jobs |= {Job("tokens"): guard.keep_uses, Job("audit"): audit.keep}
                if settings.authorize_url:
                    jobs[Job("sessions")] = guard.keep_sessions
                if not settings.database.startswith("sqlite:"):  # an SQLite database is open in one gateway only
                    jobs[Job("revocations")] = guard.hear_revocations
            metrics = Metrics(storage, documents, hub.waiters, rooms, workers, tuple(jobs), settings.bounds)
            metrics.add(self.half_messages)
            self.own_metrics = metrics.exposition
            app = _assemble(
                self.settings,
                self.connections,
                metrics,
                self._metrics,
                storage,
                guard,
                audit,
                hub,
                documents,
                files,
                presence,
                versions,
                feed,
                readers,
                rooms,
                mcp,
                tuple(jobs),
            )
            self._serve(app)
            try:
                async with running(jobs), contextlib.nullcontext() if mcp is None else mcp.running():
                    yield storage
            finally:
                self._serve(_unavailable)
                await rooms.close()
                await audit.close()
                await readers.close()
                documents.close()
                if sessions is not None:
                    await sessions.close()


def create_app(settings: Settings | None = None) -> Gateway:
    """Create the gateway as an ASGI application on the database that the settings name."""
    return Gateway(settings or Settings(), open_storage)


async def _open_guard(
    settings: Settings, storage: Storage, sessions: ApplicationSessions | None, turn: SharedTurn
) -> Guard:
    """Create the guard. If no credentials exist yet, create a first admin token and print it once."""
    if not settings.asks_for_credentials and not settings.is_local:
        _log.warning("anybody who reaches this address may read and write everything (GATEWAY_AUTH=none)")
    web_tokens = settings.web_tokens()
    has_others = web_tokens is not None or sessions is not None
    if settings.asks_for_credentials and not has_others and not await storage.tokens(limit=1):
        token, text = make_token("admin", "admin", ALL, None)
        await storage.add_token(token)
        print(f"A token of scope admin, shown this once: {text}", flush=True)
        print("Make others with it: yjs-gateway token create --token TOKEN --url URL ...", flush=True)
    return Guard(storage, web_tokens, sessions, turn=turn)


def _open_mcp(settings: Settings) -> "McpEndpoint | None":
    if not settings.mcp:
        return None
    from gateway.mcp.endpoint import McpEndpoint  # its dependency takes seconds to import

    return McpEndpoint(body_limit=settings.body_limit)


def _workers(settings: Settings) -> contextlib.AbstractAsyncContextManager[Workers]:
    return worker_processes(processes=settings.workers, queue=settings.worker_queue, seconds=settings.worker_seconds)


def _open_rooms(
    settings: Settings, storage: Storage, files: Files, documents: Documents, presence: Presence, turn: SharedTurn
) -> Rooms:
    return Rooms(
        storage,
        files,
        documents,
        presence,
        window=settings.room_window_ms / 1000,
        queue_limit=settings.room_queue_bytes,
        inbox_limit=settings.body_limit,
        connection_limit=settings.room_connections,
        turn=turn,
    )


def _assemble(
    settings: Settings,
    connections: Connections,
    metrics: Metrics,
    exposition: Callable[[], Awaitable[bytes]],
    storage: Storage,
    guard: Guard,
    audit: Audit,
    hub: Hub,
    documents: Documents,
    files: Files,
    presence: Presence,
    versions: Versions,
    feed: Feed,
    readers: Readers,
    rooms: Rooms,
    mcp: "McpEndpoint | None",
    jobs: Sequence[Job],
) -> ASGIApp:
    metrics.add(connections)
    file_routes = FileRoutes(files, hub, Writers(presence), body_limit=settings.body_limit)
    metrics.add(readers)
    questions = Changes(storage, hub, paths_limit=settings.paths_limit)
    changes = ChangeRoutes(questions, feed, hub, body_limit=settings.body_limit)
    sync = SyncRoutes(
        Sync(files, questions, paths_limit=settings.paths_limit, answer_limit=settings.sync_bytes),
        presence,
        body_limit=settings.body_limit,
    )
    history = HistoryRoutes(versions, body_limit=settings.body_limit)
    turns = Turns(
        storage,
        hub,
        lease=settings.turn_lease,
        grace=settings.turn_grace,
        line_limit=settings.body_limit,
        lines_limit=settings.bodies_bytes,
    )
    metrics.add(turns.unfinished_lines)
    turn_routes = TurnRoutes(
        turns,
        hub,
        body_limit=settings.body_limit,
        prompt_limit=settings.prompt_limit,
        answer_limit=settings.turn_answer_bytes,
    )
    operations: list[Operation] = []

    def openapi() -> bytes:
        return json_bytes(describe(operations, version("yjs-gateway"), asks=settings.asks_for_credentials))

    system = SystemRoutes(
        storage.ready,
        lambda: storage.warning,
        jobs,
        exposition,
        openapi,
    )
    tickets = Tickets(storage)
    access = AccessRoutes(storage, guard, tickets, audit, body_limit=settings.body_limit)
    here = PresenceRoutes(presence, hub)
    reader_routes = ReaderRoutes(readers.registry, readers.key, body_limit=settings.body_limit)
    projects = ProjectRoutes(storage)
    for each in (file_routes, changes, turn_routes, sync, history, here, access, projects, reader_routes, system):
        operations += operations_of(each)
    room = WebSocketRoute(_ROOM_PATH, RoomEndpoint(rooms, hub.waiters.connected))
    hocuspocus = WebSocketRoute(_HOCUSPOCUS_PATH, HocuspocusEndpoint(rooms, hub.waiters.connected))
    services = Services(
        hub,
        files,
        versions,
        questions,
        feed,
        turns,
        prompt_limit=settings.prompt_limit,
        answer_bytes=settings.turn_answer_bytes,
        body_limit=settings.body_limit,
        heartbeat=settings.stream_heartbeat,
    )
    graphql = GraphQLDoor(services)
    doors = [room, hocuspocus, Route(GRAPHQL_PATH, graphql), WebSocketRoute(GRAPHQL_PATH, graphql)]
    if mcp is not None:
        doors.append(Route(_MCP_PATH, mcp))
    app = router(operations, doors, default=Pages(_PAGES if settings.demo else {}))
    boundary = Boundary(compressed(app), metrics.requests, lambda: storage.load)
    heartbeat = settings.stream_heartbeat
    streams = TurnStreams(hub, turns, heartbeat)
    app = LongPolls(boundary, hub.waiters, feed, presence, metrics.requests, heartbeat=heartbeat, turns=streams)
    if mcp is not None:
        mcp.ask(app)
    app = NotModifiedPolls(app, hub, documents.sent, boundary, metrics.requests, paths_limit=settings.paths_limit)
    app = DirectAppends(app, files, boundary, body_limit=settings.body_limit)
    bodies = BoundedBodies(app, settings.body_limits, metrics.requests)
    metrics.add(bodies)
    app = bodies
    limits = settings.rate_limits
    if limits.requests or limits.bytes or limits.connections:
        app = RateLimiter(app, limits, metrics.requests)
    if settings.asks_for_credentials:
        asked_about = Questions(
            operations, {_ROOM_PATH: ("write", "read"), _MCP_PATH: ("write", "read"), GRAPHQL_PATH: ("read",)}
        )
        app = Authentication(app, guard, tickets, audit, metrics.requests, asked_about, failures=limits.failures)
    if settings.cors_origins:
        app = cors(app, settings.cors_origins)
    app = AcrossSites(app, metrics.requests, (settings.host, *settings.hosts), settings.cors_origins)
    if settings.proxies:
        app = BehindProxies(app, settings.proxies)
    if settings.access_log != "off":
        app = AccessLog(app, errors_only=settings.access_log == "errors")
    if settings.tracing:
        from gateway.http.tracing import traced

        app = traced(app)
    return app


async def _unavailable(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await send_problem(ShuttingDown(), send)
    else:
        await send({"type": "websocket.close", "code": 1012})
