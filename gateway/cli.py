"""The command `yjs-gateway`."""

import asyncio
import contextlib
import logging
import resource
import signal
import sys
from collections.abc import Callable, Coroutine
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated, Any, TypeVar

import structlog
import typer
import uvicorn
from pydantic import ValidationError

from gateway.app import Gateway, create_app, open_sqlite, open_sqlite_read_only
from gateway.client.pipe import PipeOptions, run_pipe
from gateway.http_protocol import HttpProtocol
from gateway.settings import Settings
from gateway.transfer import NotCopied, back_up, export_project, import_project
from gateway.upkeep import compact_storage, verify_storage
from storage import StorageError

_KEEP_ALIVE_S = 75
"""Longer than proxies keep idle connections to their servers: the proxy closes first, and no request is lost."""

T = TypeVar("T")

main = typer.Typer(
    name="yjs-gateway",
    help="The sync backend for files that people and coding agents edit together: Yjs over plain HTTP.",
    no_args_is_help=True,
    add_completion=False,
)

turns = typer.Typer(name="turn", help="What a coding agent is doing.", no_args_is_help=True)
main.add_typer(turns)

Database = Annotated[str | None, typer.Option(help="Where the data is: sqlite:///file.db (GATEWAY_DATABASE).")]


@main.command()
def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on (GATEWAY_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 takes a free one (GATEWAY_PORT).")] = None,
    database: Database = None,
) -> None:
    """Run the gateway until it is told to stop (SIGTERM, SIGINT)."""
    settings = _settings(host=host, port=port, database=database)
    _configure_log(settings)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on the address of a client
        timeout_keep_alive=_KEEP_ALIVE_S,
        http=HttpProtocol,
        ws="websockets-sansio",
        ws_max_size=settings.body_limit,
        ws_per_message_deflate=False,  # 90 KB a connection, for messages of some bytes
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    server = _Server(config, app)
    _raise_file_limit()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises the signal again after it has stopped
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn passes a SIGINT on after it has stopped
        server.run()
    if not server.started:
        raise typer.Exit(1)


def _raise_file_limit() -> None:
    """Each connection is an open file: take as many as the system lets us."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Server(uvicorn.Server):
    """Says where it listens and where its data is, once it does; lets nobody wait while it stops."""

    def __init__(self, config: uvicorn.Config, app: Gateway) -> None:
        super().__init__(config)
        self._gateway = app

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup()
        for server in self.servers if self.started else []:
            for listener in server.sockets:
                host, port = listener.getsockname()[:2]
                print(f"Listening on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
        if self.started:
            print(f"Data in {self._gateway.settings.database_path.resolve()}", flush=True)

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self._gateway.drain()
        await super().shutdown()


@main.command()
def verify(database: Database = None) -> None:
    """Derive every file again from its log, and compare. Exits with 1 and names what differs.

    A gateway may be serving the database meanwhile.
    """

    async def work(settings: Settings) -> int:
        async with open_sqlite_read_only(settings.database_path) as storage:
            return await verify_storage(storage, typer.echo)

    faults = _run(work, _settings(database=database))
    raise typer.Exit(1 if faults else 0)


@main.command()
def compact(
    database: Database = None,
    retain_versions: Annotated[
        int | None, typer.Option(help="Keep the newest so many versions of a file (GATEWAY_RETAIN_VERSIONS).")
    ] = None,
    retain_days: Annotated[
        float | None, typer.Option(help="Keep the versions of so many days (GATEWAY_RETAIN_DAYS).")
    ] = None,
    retain_tombstone_days: Annotated[
        float | None, typer.Option(help="Keep deleted files for so many days (GATEWAY_RETAIN_TOMBSTONE_DAYS).")
    ] = None,
) -> None:
    """Fold the versions that need not be kept, drop all snapshots, give unused space back to the disk.

    Without limits on what is kept nothing is lost. The gateway must not be running.
    """

    async def work(settings: Settings) -> int:
        async with open_sqlite(settings) as storage:
            return await compact_storage(storage, settings.retention, typer.echo)

    limits = {
        "retain_versions": retain_versions,
        "retain_days": retain_days,
        "retain_tombstone_days": retain_tombstone_days,
    }
    _run(work, _settings(database=database, **limits))


@main.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The database file to be made.")], database: Database = None
) -> None:
    """Copy the database as it is now into a file, and verify the copy. The gateway may go on.

    When the copy is served one day, its projects begin a new epoch: clients that know more than it holds start over.
    """

    async def work(settings: Settings) -> None:
        async with open_sqlite_read_only(settings.database_path) as storage:
            await back_up(storage, file, open_sqlite_read_only, typer.echo)

    _run(work, _settings(database=database))


@main.command()
def export(
    project: Annotated[str, typer.Argument(help="The project.")],
    file: Annotated[Path, typer.Argument(help="The file to be made.")],
    database: Database = None,
) -> None:
    """Write a project with its whole history into one portable file. The gateway may go on."""

    async def work(settings: Settings) -> None:
        async with open_sqlite_read_only(settings.database_path) as storage:
            await export_project(storage, project, file, typer.echo)

    _run(work, _settings(database=database))


@main.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A file that `export` made.")],
    project: Annotated[str | None, typer.Option(help="The project to be made; left out, its name is kept.")] = None,
    database: Database = None,
) -> None:
    """Read a project from a portable file, all of it or nothing. The gateway must not be running."""

    async def work(settings: Settings) -> None:
        async with open_sqlite(settings) as storage:
            await import_project(storage, file, project, typer.echo)

    _run(work, _settings(database=database))


@main.command()
def version() -> None:
    """Print the version."""
    typer.echo(package_version("yjs-gateway"))


@turns.command()
def pipe(
    url: Annotated[str, typer.Option(help="The gateway: http://host:8000.", envvar="GATEWAY_URL")],
    project: Annotated[str, typer.Option(help="The project.", envvar="GATEWAY_PROJECT")],
    session: Annotated[str | None, typer.Option(help="The session; left out, one is created.")] = None,
    turn: Annotated[str | None, typer.Option(help="The turn; left out, one is created.")] = None,
    prompt: Annotated[str, typer.Option(help="The prompt of a turn that is created.")] = "",
) -> None:
    """Make what an agent prints the output of a turn, and pass it on: claude -p … | yjs-gateway turn pipe …

    The agent prints with --output-format stream-json --verbose. Exits with 0 when the turn is completed, with 1 when it
    has failed, 2 when the gateway refused it, 3 when somebody cancelled it, 4 when the gateway could not be reached.
    """
    if turn is not None and session is None:
        raise typer.BadParameter("a turn is named together with its session")
    raise typer.Exit(asyncio.run(run_pipe(PipeOptions(url, project, session, turn, prompt))))


def _settings(**given: object) -> Settings:
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        for fault in error.errors():
            typer.echo(f"error: {'.'.join(map(str, fault['loc']))}: {fault['msg']}", err=True)
        raise typer.Exit(2) from None


def _run(work: Callable[[Settings], Coroutine[Any, Any, T]], settings: Settings) -> T:
    try:
        return asyncio.run(work(settings))
    except (StorageError, NotCopied) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


def _configure_log(settings: Settings) -> None:
    renderer = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
