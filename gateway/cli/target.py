"""What most commands work on: a project at a gateway, given by options or the environment."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from msgspec import Struct

from gateway.cli.options import Author, Headers, Json, Token, headers_of, with_options
from gateway.cli.printing import fail
from gateway.imports import import_httpx

if TYPE_CHECKING:
    from gateway.client import GatewayClient, Project

T = TypeVar("T")

FilePath = Annotated[str, typer.Argument(help="The path of a file at the gateway.")]


class Target(Struct, frozen=True):
    """The options of every command: where the project is, and how to print."""

    url: Annotated[str | None, typer.Option(help="URL of the gateway: http://host:8000.", envvar="GATEWAY_URL")] = None
    project: Annotated[str | None, typer.Option(help="The project.", envvar="GATEWAY_PROJECT")] = None
    token: Token = None
    author: Author = None
    header: Headers = None
    json: Json = False

    def run(self, work: Callable[["Project"], Awaitable[T]]) -> T:
        """Do it with the project; what the gateway refuses is said in one line."""
        places = required(url=self.url, project=self.project)
        return with_client(
            lambda client: work(client.project(places["project"])),
            places["url"],
            token=self.token,
            author=self.author,
            headers=headers_of(self.header),
        )


def required(**given: str | None) -> dict[str, str]:
    """Return options that a command cannot do without, by name.

    Raises:
        BadParameter: some are missing, which are named.
    """
    missing = [f"--{name} (or GATEWAY_{name.upper()})" for name, value in given.items() if not value]
    if missing:
        raise typer.BadParameter(f"{' and '.join(missing)} missing")
    return {name: value for name, value in given.items() if value}


def with_client(work: Callable[["GatewayClient"], Awaitable[T]], url: str, **options: Any) -> T:
    """Do it with a client of a gateway; what the gateway refuses is said in one line."""
    import_httpx()
    from gateway.client import GatewayClient, GatewayError

    async def main() -> T:
        try:
            connecting = GatewayClient(url, **options)
        except ValueError as error:
            fail(str(error))
        async with connecting as client:
            return await work(client)

    try:
        return asyncio.run(main())
    except GatewayError as error:
        fail(str(error))


GIVEN = 2
"""So many parameters of a command are none of its options: what it works on, and whether it prints JSON."""


def on_project(work: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A command on a project: `work(files, json, …)`."""

    def run(target: Target, arguments: dict[str, Any]) -> None:
        target.run(lambda files: work(files, target.json, **arguments))

    return with_options(Target, work, run, given=GIVEN)
