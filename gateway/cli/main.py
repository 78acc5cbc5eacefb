"""The command `yjs-gateway`. What a command needs is imported when it runs: none waits for what others need."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gateway.cli import access as access_commands
from gateway.cli import files as file_commands
from gateway.cli import folders as folder_commands
from gateway.cli import hooks as hook_commands
from gateway.cli import projects as project_commands
from gateway.cli import turns as turn_commands
from gateway.cli.options import Author, Token
from gateway.cli.settings import needs_gateway, settings_of

if TYPE_CHECKING:
    from gateway.settings import Settings

T = TypeVar("T")

main = typer.Typer(
    name="yjs-gateway",
    help="The sync backend for files that people and coding agents edit together: Yjs over plain HTTP.",
    no_args_is_help=True,
    epilog="Exit codes: 0 done; 1 the gateway refused, a conflict, or a check that failed; 2 wrong arguments or"
    " settings; `turn pipe`, `turn run` and `turn follow` have codes of their own, see their --help.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@main.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None: ...


main.add_typer(project_commands.projects)
main.add_typer(access_commands.tokens)
main.add_typer(hook_commands.hooks)

file_commands.add_to(main)
folder_commands.add_to(main)
turn_commands.add_to(main)
main.command()(access_commands.audit)

Database = Annotated[
    str | None,
    typer.Option(help="Database URL: sqlite:///file.db or postgresql://… (GATEWAY_DATABASE).", callback=needs_gateway),
]


@main.command()
def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on (GATEWAY_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on; 0 picks a free port (GATEWAY_PORT).")] = None,
    database: Database = None,
    processes: Annotated[
        int | None,
        typer.Option("--workers", help="The number of processes on the port; needs PostgreSQL (GATEWAY_PROCESSES)."),
    ] = None,
    same: Annotated[
        bool, typer.Option("--same", help="Treat the database as the original, not as a copy (GATEWAY_SAME_DATABASE).")
    ] = False,
) -> None:
    """Run the gateway until SIGTERM or SIGINT. With several processes, SIGHUP replaces one after the other."""
    settings = settings_of(host=host, port=port, database=database, processes=processes, same_database=same or None)
    from storage.opening import is_postgres

    if settings.processes > 1 and not is_postgres(settings.database):
        typer.echo("error: a SQLite database is served by one process; for several use PostgreSQL", err=True)
        raise typer.Exit(2)
    from gateway.server.process import run_server

    if not run_server(settings):
        raise typer.Exit(1)


@main.command()
def verify(database: Database = None) -> None:
    """Check database integrity by replaying every file's log, and check every turn. Exit code 1 if anything differs.

    A gateway may be serving the database meanwhile.
    """
    from gateway.maintenance.verify import verify_storage
    from storage.opening import open_storage_read_only

    async def work(settings: "Settings") -> int:
        async with open_storage_read_only(settings.database, settings.storage_limits) as storage:
            return await verify_storage(storage, typer.echo)

    faults = _run(work, settings_of(database=database))
    raise typer.Exit(1 if faults else 0)


@main.command()
def compact(
    database: Database = None,
    retain_versions: Annotated[
        int | None, typer.Option(help="Keep the newest N versions of each file (GATEWAY_RETAIN_VERSIONS).")
    ] = None,
    retain_days: Annotated[
        float | None, typer.Option(help="Keep versions of the last N days (GATEWAY_RETAIN_DAYS).")
    ] = None,
    retain_tombstone_days: Annotated[
        float | None, typer.Option(help="Keep deleted files for N days (GATEWAY_RETAIN_TOMBSTONE_DAYS).")
    ] = None,
) -> None:
    """Squash versions that are not retained, drop all snapshots, and return free space to the OS.

    Without limits on what is kept nothing is lost. The gateway must not be running.
    """
    from gateway.maintenance.verify import compact_storage
    from storage.opening import open_storage

    async def work(settings: "Settings") -> int:
        async with open_storage(settings.database, settings.storage_limits) as storage:
            return await compact_storage(storage, settings.retention, typer.echo)

    limits = {
        "retain_versions": retain_versions,
        "retain_days": retain_days,
        "retain_tombstone_days": retain_tombstone_days,
    }
    _run(work, settings_of(database=database, **limits))


@main.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The database file to create.")], database: Database = None
) -> None:
    """Copy the database to a file and verify the copy. The gateway may be running.

    When the copy is served one day, its projects begin a new epoch: clients that know more than it holds start over.
    """
    from gateway.maintenance.backup import back_up
    from storage.opening import open_storage_read_only

    async def work(settings: "Settings") -> None:
        async with open_storage_read_only(settings.database, settings.storage_limits) as storage:
            await back_up(storage, file, open_storage_read_only, typer.echo)

    _run(work, settings_of(database=database))


@main.command("begin-new-incarnations")
def begin_new_incarnations(database: Database = None) -> None:
    """Say that a PostgreSQL database was set back to an earlier time: every client starts over.

    Without it a client that knows what was lost would take new changes for those. Gateways may be serving the database.
    A SQLite database that was set back or copied is noticed when it is opened.
    """
    from storage.opening import open_storage

    async def work(settings: "Settings") -> None:
        async with open_storage(settings.database, settings.storage_limits) as storage:
            typer.echo(f"{await storage.begin_new_incarnations()} projects begin new incarnations")

    _run(work, settings_of(database=database))


@main.command()
def copy(
    to: Annotated[str, typer.Option("--to", help="The URL of the database to copy into.")],
    source: Annotated[str | None, typer.Option("--from", help="The URL of the database (GATEWAY_DATABASE).")] = None,
) -> None:
    """Copy every project and token of a database into another one, of whatever kind, and verify it.

    A gateway may go on reading from the first; what is written there meanwhile may be missing. A project that is in the
    second one already is left as it is.
    """
    needs_gateway(None)
    from gateway.maintenance.backup import copy_database
    from storage.opening import open_storage, open_storage_read_only

    async def work(settings: "Settings") -> int:
        target = settings_of(database=to)
        async with (
            open_storage_read_only(settings.database, settings.storage_limits) as storage,
            open_storage(target.database, target.storage_limits) as other,
        ):
            return await copy_database(storage, other, typer.echo)

    raise typer.Exit(1 if _run(work, settings_of(database=source)) else 0)


@main.command()
def export(
    project: Annotated[str, typer.Argument(help="The project.")],
    file: Annotated[Path, typer.Argument(help="The file to create.")],
    database: Database = None,
) -> None:
    """Write a project with its whole history to one portable file. The gateway may be running."""

    from gateway.maintenance.backup import export_project
    from storage.opening import open_storage_read_only

    async def work(settings: "Settings") -> None:
        async with open_storage_read_only(settings.database, settings.storage_limits) as storage:
            await export_project(storage, project, file, typer.echo)

    _run(work, settings_of(database=database))


@main.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A file made by `export`.")],
    project: Annotated[str | None, typer.Option(help="The project to create (default: the name in the file).")] = None,
    database: Database = None,
) -> None:
    """Read a project from a portable file, completely or not at all. The gateway must be stopped."""

    from gateway.maintenance.backup import import_project
    from storage.opening import open_storage

    async def work(settings: "Settings") -> None:
        async with open_storage(settings.database, settings.storage_limits) as storage:
            await import_project(storage, file, project, typer.echo)

    _run(work, settings_of(database=database))


@main.command()
def mcp(
    url: Annotated[str, typer.Option(help="The gateway: http://host:8000.", envvar="GATEWAY_URL")],
    project: Annotated[str, typer.Option(help="The project.", envvar="GATEWAY_PROJECT")],
    token: Token = None,
    author: Author = None,
) -> None:
    """Serve the files of a project by the Model Context Protocol on stdin and stdout: a coding agent runs this.

    Without a token that says who writes, the agent writes as --author.
    """
    from gateway.client import GatewayError

    try:
        from gateway.mcp.stdio import serve_stdio
    except ModuleNotFoundError as error:
        if error.name not in ("mcp", "mcp_types"):
            raise
        typer.echo("error: another package is needed: pip install 'yjs-gateway[mcp]'", err=True)
        raise typer.Exit(2) from None
    try:
        asyncio.run(serve_stdio(url, project, token=token, author=author))
    except GatewayError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


@main.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as package_version

    typer.echo(package_version("yjs-gateway"))


def _run(work: Callable[["Settings"], Coroutine[Any, Any, T]], settings: "Settings") -> T:
    from gateway.maintenance.backup import NotCopied
    from storage import StorageError

    try:
        return asyncio.run(work(settings))
    except (StorageError, NotCopied) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
