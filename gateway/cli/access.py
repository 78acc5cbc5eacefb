"""The commands on tokens and the audit: `token create`, `token ls`, `token revoke`, `audit`.

They ask a gateway that runs (`--url`, with a token of scope `admin`), or work on the database of one that does not.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gateway.cli.options import Json, Token
from gateway.cli.printing import print_json, print_rows
from gateway.cli.settings import settings_of

if TYPE_CHECKING:
    from gateway.client import GatewayClient
    from storage import Storage

T = TypeVar("T")

Url = Annotated[str | None, typer.Option(help="URL of a running gateway: http://host:8000.", envvar="GATEWAY_URL")]
Database = Annotated[
    str | None, typer.Option(help="Database URL of a stopped gateway: sqlite:///file.db (GATEWAY_DATABASE).")
]

tokens = typer.Typer(name="token", help="Create, list and revoke access tokens.", no_args_is_help=True)

_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@tokens.command("create")
def create(
    name: Annotated[str, typer.Option(help="Name of the token; also its subject, unless --subject is given.")],
    project: Annotated[
        list[str] | None,
        typer.Option(
            help="A project that the token grants access to; a trailing `*` matches any suffix. May be repeated."
        ),
    ] = None,
    scope: Annotated[str, typer.Option(help="read, write, admin, turns; several with spaces between.")] = "read",
    path: Annotated[
        list[str] | None, typer.Option(help="Grant only this folder (docs/) or file of the projects. May be repeated.")
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="Grant all projects, tokens and the audit log.")] = False,
    subject: Annotated[
        str | None, typer.Option(help="The subject: the author of everything written with the token.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="Lifetime of the token: 12h, 30d.")] = None,
    url: Url = None,
    token: Token = None,
    database: Database = None,
    json: Json = False,
) -> None:
    """Make a token, and print it. It is shown this once."""
    from gateway.wire.access import NewToken

    grant: Any = {"scope": scope, "paths": path} if path else scope
    given = NewToken(
        name,
        subject,
        dict.fromkeys(project or (), grant),
        admin,
        None if expires is None else _seconds(expires),
    )

    async def ask(client: "GatewayClient") -> Any:
        return await client.create_token(given)

    async def work(storage: "Storage") -> Any:
        from gateway.access.records import made_token, token_of

        stored, text = token_of(given)
        await storage.add_token(stored)
        return made_token(stored, text)

    made = _run(ask, work, url, token, database)
    if json:
        print_json(made)
        return
    typer.echo(made.token)
    typer.echo(f"Keep it: it is shown this once. Revoke it with: yjs-gateway token revoke {made.id}", err=True)


@tokens.command("ls")
def list_tokens(url: Url = None, token: Token = None, database: Database = None, json: Json = False) -> None:
    """List the tokens: id, name, subject, grant, last use (to the hour), end."""

    async def ask(client: "GatewayClient") -> Any:
        page = await client.tokens()
        found = page.tokens
        while page.next is not None:
            page = await client.tokens(after=page.next)
            found += page.tokens
        return found

    async def work(storage: "Storage") -> Any:
        from gateway.access.records import every_token, token_entry

        return [token_entry(each) async for each in every_token(storage)]

    found = _run(ask, work, url, token, database)
    if json:
        print_json(found)
        return
    print_rows(
        [
            (each.id, each.name, each.subject, _grant(each), each.last_used or "never used", _end(each))
            for each in found
        ],
        numbers=(),
    )


@tokens.command("revoke")
def revoke(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The id of the token.")],
    url: Url = None,
    token: Token = None,
    database: Database = None,
) -> None:
    """Revoke a token. Clients that are connected with it are sent away."""

    async def ask(client: "GatewayClient") -> None:
        await client.revoke_token(identifier)

    async def work(storage: "Storage") -> None:
        from storage import wall_clock

        if await storage.revoke_token(identifier, wall_clock()) is None:
            typer.echo(f"error: there is no token {identifier}", err=True)
            raise typer.Exit(1)

    _run(ask, work, url, token, database)


def audit(
    project: Annotated[str | None, typer.Option(help="Only entries of this project.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only entries of this subject.")] = None,
    since: Annotated[str | None, typer.Option(help="Only entries since this time: 2026-11-29T12:00:00Z.")] = None,
    limit: Annotated[int, typer.Option(help="Maximum number of entries.", min=1, max=1000)] = 100,
    url: Url = None,
    token: Token = None,
    database: Database = None,
    json: Json = False,
) -> None:
    """Show the audit log, newest first: time, subject, credential, action, project, path, version."""

    async def ask(client: "GatewayClient") -> Any:
        return (await client.audit(project=project, subject=subject, since=since, limit=limit)).entries

    async def work(storage: "Storage") -> Any:
        from gateway.access.records import audit_record
        from gateway.wire.values import parse_rfc3339

        start = 0 if since is None else parse_rfc3339(since)
        found = await storage.audit(since=start, project=project, subject=subject, limit=limit)
        return [audit_record(entry) for entry in found]

    found = _run(ask, work, url, token, database)
    if json:
        print_json(found)
        return
    print_rows(
        [
            (
                each.time,
                each.subject or "",
                each.credential or "",
                each.action,
                each.project or "",
                each.path or each.detail or "",
                "" if each.version is None else str(each.version),
            )
            for each in found
        ],
        numbers=(),
    )


def _run(
    ask: Callable[["GatewayClient"], Coroutine[Any, Any, T]],
    work: Callable[["Storage"], Coroutine[Any, Any, T]],
    url: str | None,
    token: str | None,
    database: str | None,
) -> T:
    """Ask the gateway that runs, or work on the database of one that does not."""
    from gateway.client.errors import GatewayError
    from gateway.wire.problems import Problem
    from storage import StorageError

    async def over_http() -> T:
        from gateway.client import GatewayClient

        assert url is not None
        async with GatewayClient(url, token=token) as client:
            return await ask(client)

    async def on_database() -> T:
        from storage.opening import open_storage

        settings = settings_of(database=database)
        async with open_storage(settings.database, settings.storage_limits) as storage:
            return await work(storage)

    try:
        return asyncio.run(over_http() if url is not None and database is None else on_database())
    except (GatewayError, StorageError, Problem, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise typer.BadParameter("a number with s, m, h, d or w is expected, as in 30d")
    return float(match[1]) * _SECONDS[match[2]]


def _grant(entry: Any) -> str:
    if entry.admin:
        return "everything"
    return "; ".join(
        f"{project}: {grant}" if isinstance(grant, str) else f"{project}: {grant['scope']} {' '.join(grant['paths'])}"
        for project, grant in entry.projects.items()
    )


def _end(entry: Any) -> str:
    return f"revoked {entry.revoked}" if entry.revoked else f"ends {entry.expires}" if entry.expires else "does not end"
