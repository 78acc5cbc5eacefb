"""The commands on whole projects: `projects ls`, `projects rm`."""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from msgspec import Struct

from gateway.cli.options import Headers, Json, Token, headers_of, with_options
from gateway.cli.printing import complain, echo, print_json, print_rows
from gateway.cli.target import GIVEN, required, with_client

if TYPE_CHECKING:
    from gateway.client import GatewayClient

T = TypeVar("T")

projects = typer.Typer(name="projects", help="List and erase whole projects.", no_args_is_help=True)


class _Gateway(Struct, frozen=True):
    """The options of these commands: where the gateway is, and how to print."""

    url: Annotated[str | None, typer.Option(help="URL of the gateway: http://host:8000.", envvar="GATEWAY_URL")] = None
    token: Token = None
    header: Headers = None
    json: Json = False

    def run(self, work: Callable[["GatewayClient"], Coroutine[Any, Any, T]]) -> T:
        """Do it with a client; what the gateway refuses is said in one line."""
        headers = headers_of(self.header)
        return with_client(work, required(url=self.url)["url"], token=self.token, headers=headers)


def _on_gateway(work: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A command on a gateway: `work(client, json, …)`."""

    def run(gateway: _Gateway, arguments: dict[str, Any]) -> None:
        gateway.run(lambda client: work(client, gateway.json, **arguments))

    return with_options(_Gateway, work, run, given=GIVEN)


async def ls(client: "GatewayClient", json: bool) -> None:
    """List the projects that the token may read: id, files, bytes, last change, cursor."""
    found, after = [], None
    while True:
        page = await client.list_projects(after=after)
        found += page.projects
        after = page.next
        if after is None:
            break
    if json:
        print_json(found)
    elif found:
        print_rows(
            [(each.id, _number(each.files), _number(each.size), each.last_modified, each.cursor) for each in found],
            numbers=(1, 2),
        )


async def rm(
    client: "GatewayClient",
    json: bool,
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The id of the project.")],
    yes: Annotated[bool, typer.Option("--yes", help="Really erase it: nothing asks again.")] = False,
) -> None:
    """Erase a project for good: its files with their history, its sessions, turns and webhooks."""
    if not yes:
        complain(f"{identifier} would be erased for good, with its whole history: repeat the command with --yes")
        raise typer.Exit(2)
    await client.delete_project(identifier)
    if json:
        print_json({"erased": identifier})
    else:
        echo(f"{identifier}: erased")


def _number(value: int | None) -> str:
    return "?" if value is None else str(value)


for command in (ls, rm):
    projects.command()(_on_gateway(command))
