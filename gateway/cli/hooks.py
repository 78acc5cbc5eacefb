"""The commands on webhooks: `hooks ls`, `hooks put`, `hooks show`, `hooks replay`, `hooks rm`."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.printing import print_json, print_rows
from gateway.cli.target import on_project

if TYPE_CHECKING:
    from gateway.client import Project
    from gateway.wire.readers import Hook

hooks = typer.Typer(name="hooks", help="Webhooks: who is told what happens in a project.", no_args_is_help=True)

Identifier = Annotated[str, typer.Argument(metavar="ID", help="The id of the webhook.")]


class Include(StrEnum):
    """What each file comes with."""

    NONE = "none"
    TEXT = "text"
    UPDATE = "update"


async def ls(files: "Project", json: bool) -> None:
    """List the webhooks: id, changes that it is behind, failed attempts, URL, why it has ended."""
    found: list[Hook] = []
    after: str | None = None
    while True:
        page = await files.list_hooks(after=after)
        found += page.hooks
        after = page.next
        if after is None:
            break
    if json:
        print_json(found)
    elif found:
        print_rows(
            [(each.id, str(each.lag), str(each.attempts), each.url, each.ended or "") for each in found], numbers=(1, 2)
        )


async def put(
    files: "Project",
    json: bool,
    identifier: Identifier,
    receiver: Annotated[str, typer.Argument(help="The URL to which messages go.", metavar="RECEIVER")],
    include: Annotated[Include, typer.Option(help="What each file comes with.")] = Include.NONE,
    prefix: Annotated[str, typer.Option(help="Only files whose path begins with this.")] = "",
    finished: Annotated[bool, typer.Option("--finished", help="Of turns only that they have ended.")] = False,
    quiet: Annotated[float, typer.Option(help="Seconds without a change before files are told.")] = 0,
    since: Annotated[str | None, typer.Option(help="A cursor to begin after; left out: now.")] = None,
) -> None:
    """Make a webhook, or change one; prints the secret of a new one, once."""
    from gateway.wire.readers import HookRequest, ReaderFilter

    filter_ = ReaderFilter(prefix, turns="finished" if finished else "all")
    request = HookRequest(receiver, filter_, include.value, quiet, since)
    hook = await files.put_hook(identifier, request)
    if json:
        print_json(hook)
    else:
        typer.echo(hook.secret if isinstance(hook.secret, str) else f"{hook.id}: changed")


async def show(files: "Project", json: bool, identifier: Identifier) -> None:
    """Say how far a webhook is, and what came of the last attempt."""
    hook = await files.read_hook(identifier)
    if json:
        print_json(hook)
        return
    answer = hook.last_answer
    told = "none" if answer is None else f"{answer.status or answer.error} at {answer.at}"
    rows = [("url", hook.url), ("behind", f"{hook.lag} changes"), ("cursor", hook.cursor), ("last answer", told)]
    rows += [("failed attempts", str(hook.attempts))] if hook.attempts else []
    rows += [("next attempt", hook.next_attempt)] if hook.next_attempt else []
    rows += [("ended", hook.ended)] if hook.ended else []
    print_rows(rows, numbers=())


async def replay(
    files: "Project",
    json: bool,
    identifier: Identifier,
    since: Annotated[str, typer.Option(help="The cursor to deliver after.")],
) -> None:
    """Have everything after a cursor delivered once more. A webhook that has ended goes on."""
    hook = await files.replay_hook(identifier, since)
    if json:
        print_json(hook)
    else:
        typer.echo(f"{hook.id}: {hook.lag} changes to deliver")


async def rm(files: "Project", json: bool, identifier: Identifier) -> None:
    """Forget a webhook."""
    await files.delete_hook(identifier)
    if json:
        print_json({"deleted": identifier})
    else:
        typer.echo(f"{identifier}: deleted")


for command in (ls, put, show, replay, rm):
    hooks.command()(on_project(command))
