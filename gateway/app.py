"""The composition root, which opens the storage and makes the parts of the gateway."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.audit import Audit
from gateway.access.grants import ALL
from gateway.access.guard import Guard
from gateway.access.records import make_token
from gateway.access.sessions import ApplicationSessions
from gateway.api.direct_appends import may_be_appended
from gateway.api.not_modified import may_be_unchanged
from gateway.asgi.answers import DirectAnswers, directly
from gateway.assembly import Parts, assemble
from gateway.changes.feed import Feed
from gateway.files.documents import Documents
from gateway.files.history import Versions
from gateway.files.quotas import Quotas
from gateway.files.store import Files
from gateway.http.connections import Connections
from gateway.http.half_messages import HalfMessages
from gateway.http.responses import send_problem
from gateway.maintenance.jobs import Job, Work, running
from gateway.maintenance.memory import FreeMemory
from gateway.maintenance.retention import Retainer
from gateway.maintenance.silent_turns import SilentTurns
from gateway.maintenance.snapshots import Maintenance
from gateway.metrics import Metrics
from gateway.pace import share_turns
from gateway.presence.presence import Presence
from gateway.readers.opening import Readers, open_readers
from gateway.rooms.rooms import Rooms
from gateway.settings import Settings
from gateway.shared_turn import SharedTurn
from gateway.trusted_clock import TrustedClock
from gateway.watch.hub import Hub
from gateway.watch.waiters import Waiters
from gateway.wire.problems import ShuttingDown
from gateway.workers.pool import Workers, worker_processes
from storage import Storage, StorageError
from storage.opening import StorageLimits, open_storage

if TYPE_CHECKING:
    from gateway.mcp.endpoint import McpEndpoint

_log = structlog.get_logger("gateway.app")


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
        self.own_metrics: Callable[[], Awaitable[bytes]] = _no_metrics
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
        return await (self.own_metrics if self.all_metrics is None else self.all_metrics)()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Storage]:
        """Run the gateway; on exit, write all accepted changes and close the storage."""
        settings = self.settings
        opening = self._open_storage(settings.database, settings.serving_limits)
        async with opening as storage, _workers(settings) as workers:
            sessions = ApplicationSessions(settings.authorize_url) if settings.authorize_url else None
            share_turns(self.connections.turn)
            parts = await self._open_parts(storage, workers, sessions)
            mcp = parts.mcp
            self._draining = [parts.hub.drain, parts.rooms.drain, *([] if mcp is None else [mcp.drain])]
            self.own_metrics = parts.metrics.exposition
            self._serve(assemble(parts))
            try:
                async with running(parts.jobs), contextlib.nullcontext() if mcp is None else mcp.running():
                    yield storage
            finally:
                self._serve(_unavailable)
                await parts.rooms.close()
                await parts.audit.close()
                await parts.readers.close()
                parts.documents.close()
                if sessions is not None:
                    await sessions.close()

    async def _open_parts(self, storage: Storage, workers: Workers, sessions: ApplicationSessions | None) -> Parts:
        """Make what the gateway consists of."""
        settings, turn = self.settings, self.connections.turn
        guard = await _open_guard(settings, storage, sessions, turn)
        trusted = TrustedClock(storage)
        audit = Audit(storage, settings.audit_days, trusted)
        hub = Hub(
            storage,
            Waiters(
                project_limit=settings.project_waiters,
                limit=settings.waiters,
                question_limit=settings.waiting_bytes,
                turn=turn,
            ),
        )
        documents = Documents(
            storage,
            memory_limit=settings.hot_document_bytes,
            size_limit=settings.document_bytes,
            quotas=Quotas(storage, files=settings.project_files, bytes_=settings.project_bytes),
        )
        files = Files(storage, documents, hub)
        presence = Presence(storage, hub)
        rooms = _open_rooms(settings, storage, files, documents, presence, turn)
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
        jobs = _jobs(settings, storage, guard, audit, documents, presence, readers, trusted)
        metrics = Metrics(storage, documents, hub.waiters, rooms, workers, tuple(jobs), settings.bounds)
        metrics.add(self.half_messages)
        return Parts(
            settings=settings,
            connections=self.connections,
            storage=storage,
            guard=guard,
            audit=audit,
            hub=hub,
            documents=documents,
            files=files,
            presence=presence,
            versions=versions,
            feed=feed,
            readers=readers,
            rooms=rooms,
            mcp=_open_mcp(settings),
            jobs=jobs,
            metrics=metrics,
            exposition=self._metrics,
        )


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


def _jobs(
    settings: Settings,
    storage: Storage,
    guard: Guard,
    audit: Audit,
    documents: Documents,
    presence: Presence,
    readers: Readers,
    trusted: TrustedClock,
) -> dict[Job, Work]:
    """Return what runs in the background."""
    silent = SilentTurns(storage, settings.turn_lease, settings.turn_grace)
    maintenance = Maintenance(storage, documents)
    memory = FreeMemory()
    jobs: dict[Job, Work] = {
        silent.job: silent.run,
        maintenance.job: maintenance.run,
        Job("awareness"): presence.expire,
        memory.job: memory.run,
        readers.deliveries.job: readers.deliveries.run,
        Job("clock"): trusted.run,
    }
    if not settings.retention.keeps_all:
        retainer = Retainer(storage, settings.retention)
        jobs[retainer.job] = lambda: retainer.run(settings.retention_interval, trusted)
    if settings.asks_for_credentials:
        jobs |= {Job("tokens"): guard.keep_uses, Job("audit"): audit.keep}
        if settings.authorize_url:
            jobs[Job("sessions")] = guard.keep_sessions
        if not settings.database.startswith("sqlite:"):  # an SQLite database is open in one gateway only
            jobs[Job("revocations")] = guard.hear_revocations
    return jobs


async def _no_metrics() -> bytes:
    return b""


async def _unavailable(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await send_problem(ShuttingDown(), send)
    else:
        await send({"type": "websocket.close", "code": 1012})
