"""The commands on turns of coding agents: `sessions`, `turn list`, `turn show`, `turn follow`, `turn cancel`, and
`turn pipe` and `turn run`, which write a turn.

A turn that is not named is the newest of its session, and a session that is not named is the newest of the project.
"""

import asyncio
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import Struct

from gateway.cli.options import Author, Token, with_options
from gateway.cli.printing import echo, fail, print_json, print_rows, printable
from gateway.cli.target import on_project

if TYPE_CHECKING:
    from gateway.client import Project
    from gateway.wire.turns import Block, BlockDelta, Turn

turns = typer.Typer(
    name="turn", help="Turns of coding agents: list, follow, cancel, and record them.", no_args_is_help=True
)

SessionId = Annotated[str | None, typer.Argument(metavar="SESSION", help="The session (default: the newest).")]
TurnId = Annotated[str | None, typer.Argument(metavar="TURN", help="The turn (default: the newest of the session).")]
Limit = Annotated[int, typer.Option(help="Maximum number of entries, newest first.", min=1, max=1000)]

_PROMPT_CHARACTERS = 80
_RESULT_LINES = 3
"""How many lines of a tool's result are printed."""
_NOT_PRINTED = ("system", "result")
"""What an agent says of itself; its result repeats its last text."""
_EXIT_CODES = {"completed": 0, "failed": 1, "cancelled": 3}


def add_to(main: typer.Typer) -> None:
    """Add the commands."""
    main.command()(sessions)
    main.add_typer(turns)


@on_project
async def sessions(files: "Project", json: bool, limit: Limit = 20) -> None:
    """List the sessions of agents: id, time, title."""
    found = (await files.list_sessions(limit=limit)).sessions
    if json:
        print_json(found)
    elif found:
        print_rows([(each.id, each.created_at, each.title or "") for each in found], numbers=())


async def _list(files: "Project", json: bool, session: SessionId = None, limit: Limit = 20) -> None:
    """List the turns of a session: id, status, blocks, time, prompt."""
    found = (await files.list_turns(await _session(files, session), limit=limit)).turns
    if json:
        print_json(found)
    elif found:
        print_rows(
            [
                (each.id, each.status, str(each.block_count), each.created_at, _first_line(each.prompt))
                for each in found
            ],
            numbers=(2,),
        )


async def _show(files: "Project", json: bool, session: SessionId = None, turn: TurnId = None) -> None:
    """Print a turn: its prompt, its blocks, and how it stands."""
    name = await _turn(files, session, turn)
    shown = await _read(files, *name)
    if json:
        print_json(shown)
        return
    _print_prompt(shown.prompt)
    printer = _Printer()
    for block in shown.blocks:
        printer.show(block)
    printer.end(shown.id, shown.status, shown.error)


async def _follow(
    files: "Project",
    json: bool,
    session: SessionId = None,
    turn: TurnId = None,
    after_block: Annotated[int, typer.Option(min=0, help="Leave out the first so many blocks.")] = 0,
) -> None:
    """Print a turn as it grows, until it ends. While the gateway cannot be reached the command waits.

    Exits with 0 when the turn is completed, with 1 when it failed, with 3 when it was cancelled. With --json one line
    for each block, for what is added to a block, and for the status.
    """
    from gateway.wire.turns import TurnProgress

    of, identifier = await _turn(files, session, turn)
    if not json:
        _print_prompt((await _read(files, of, identifier, after_block=2**31)).prompt)
    printer = _Printer()
    status: str = "failed"
    async for event in files.follow_turn(of, identifier, after_block=after_block):
        if json:
            print_json(event, indent=0)
        elif not isinstance(event, TurnProgress):
            printer.show(event)
        elif event.status in _EXIT_CODES:
            printer.end(identifier, event.status, event.error)
        if isinstance(event, TurnProgress):
            status = event.status
        sys.stdout.flush()
    raise typer.Exit(_EXIT_CODES[status])


async def _cancel(files: "Project", json: bool, session: SessionId = None, turn: TurnId = None) -> None:
    """Cancel a turn: the agent's next write is refused, and `turn run` stops the agent."""
    of, identifier = await _turn(files, session, turn)
    summary = await files.set_turn_status(of, identifier, "cancelled")
    if json:
        print_json(summary)
    else:
        echo(f"turn {summary.id}: {summary.status}")


turns.command("list")(on_project(_list))
turns.command("show")(on_project(_show))
turns.command("follow")(on_project(_follow))
turns.command("cancel")(on_project(_cancel))


async def _session(files: "Project", named: str | None) -> str:
    if named is not None:
        return named
    newest = (await files.list_sessions(limit=1)).sessions
    if not newest:
        fail("the project has no sessions")
    return newest[0].id


async def _turn(files: "Project", session: str | None, named: str | None) -> tuple[str, str]:
    of = await _session(files, session)
    if named is not None:
        return of, named
    newest = (await files.list_turns(of, limit=1)).turns
    if not newest:
        fail(f"the session {of} has no turns")
    return of, newest[0].id


async def _read(files: "Project", session: str, turn: str, *, after_block: int = 0) -> "Turn":
    """The turn with all its blocks but the first `after_block`."""
    from msgspec import UNSET
    from msgspec.structs import replace

    read = (await files.read_turn(session, turn, after_block=after_block)).value
    assert read is not None  # no tag was sent
    blocks = read.blocks
    while read.more is True:
        read = (await files.read_turn(session, turn, after_block=len(blocks))).value
        assert read is not None
        first = read.blocks[0].index if read.blocks else len(blocks)
        blocks = blocks[:first] + read.blocks  # the last ones may have grown
    return replace(read, blocks=blocks, more=UNSET)


class _Printer:
    """Prints the blocks of a turn, and what is added to them."""

    def __init__(self) -> None:
        self._last: int | None = None
        """The index of the last block that was printed; its line is not ended, since it may go on."""
        self._line_ended = True

    def show(self, event: "Block | BlockDelta") -> None:
        from gateway.wire.turns import Block

        if isinstance(event, Block):
            if event.type in _NOT_PRINTED:
                return
            self._begin(event.index)
            self._write(_text_of(event))
        else:
            if event.index != self._last:
                self._begin(event.index)
            self._write(event.delta)

    def end(self, turn: str, status: str, error: str | None) -> None:
        self._begin(None)
        echo(f"turn {turn}: {status}{f' ({error})' if error else ''}")

    def _begin(self, index: int | None) -> None:
        if not self._line_ended:
            self._write("\n")
        self._last = index

    def _write(self, text: str) -> None:
        if text:
            typer.echo("\n".join(map(printable, text.split("\n"))), nl=False)
            self._line_ended = text.endswith("\n")


def _print_prompt(prompt: str) -> None:
    for line in prompt.split("\n"):
        echo(f"> {line}")


def _text_of(block: "Block") -> str:
    """A block as people read it: prose as it is, tools in a line."""
    import msgspec

    content = msgspec.json.decode(block.content)
    if block.type == "tool_use" and isinstance(content, dict):
        return f"[{content.get('name')}] {msgspec.json.encode(content.get('input')).decode()}"
    if block.type == "tool_result" and isinstance(content, dict):
        lines = _plain(content.get("content")).rstrip("\n").split("\n")
        more = [f"  … {len(lines) - _RESULT_LINES} lines more"] if len(lines) > _RESULT_LINES else []
        return "\n".join([f"  {line}" for line in lines[:_RESULT_LINES]] + more)
    if block.type == "thinking":
        return f"(thinking) {_plain(content)}"
    return _plain(content)


def _plain(content: Any) -> str:
    """Text, the texts of parts, or JSON."""
    import msgspec

    match content:
        case str(text) | {"text": str(text)}:
            return text
        case [*parts] if parts and all(isinstance(part, dict) and "text" in part for part in parts):
            return "\n".join(_plain(part) for part in parts)
        case _:
            return msgspec.json.encode(content).decode()


def _first_line(prompt: str) -> str:
    line = printable(prompt.partition("\n")[0])
    return line if len(line) <= _PROMPT_CHARACTERS else f"{line[: _PROMPT_CHARACTERS - 1]}…"


class Agent(StrEnum):
    """How an agent tells what it does."""

    AUTO = "auto"
    CLAUDE = "claude"
    CODEX = "codex"
    ACP = "acp"
    GEMINI = "gemini"
    TEXT = "text"


class TurnOptions(Struct, frozen=True):
    """The options of the commands that write a turn."""

    url: Annotated[str, typer.Option(help="URL of the gateway: http://host:8000.", envvar="GATEWAY_URL")]
    project: Annotated[str, typer.Option(help="The project.", envvar="GATEWAY_PROJECT")]
    session: Annotated[str | None, typer.Option(help="The session (default: create one).")] = None
    turn: Annotated[str | None, typer.Option(help="The turn (default: create one).")] = None
    prompt: Annotated[str, typer.Option(help="The prompt, if a turn is created.")] = ""
    agent: Annotated[
        Agent,
        typer.Option("--agent", "--dialect", help="Format of the agent's output; auto: detected from its first line."),
    ] = Agent.AUTO
    token: Token = None
    author: Author = None

    def pipe(self, command: tuple[str, ...] = ()) -> None:
        """Pipe the output of a command, or else stdin; exits as that ends."""
        from gateway.cli.turn_pipe import PipeOptions, run_pipe

        if self.turn is not None and self.session is None:
            raise typer.BadParameter("a turn is named together with its session")
        options = PipeOptions(
            self.url,
            self.project,
            self.session,
            self.turn,
            self.prompt,
            self.token,
            self.author,
            self.agent.value,
            command,
        )
        raise typer.Exit(asyncio.run(run_pipe(options)))


def _on_turn(work: Callable[..., None]) -> Callable[..., None]:
    return with_options(TurnOptions, work, lambda options, arguments: work(options, **arguments))


@turns.command()
@_on_turn
def pipe(options: TurnOptions) -> None:
    """Make what an agent prints the output of a turn, and pass it on: claude -p … | yjs-gateway turn pipe …

    Exits with 0 when the turn is completed, with 1 when it has failed, 2 when the gateway refused it, 3 when somebody
    cancelled it, 4 when the gateway could not be reached.
    """
    options.pipe()


@turns.command("run", context_settings={"allow_interspersed_args": False})
@_on_turn
def run_agent(
    options: TurnOptions,
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="The agent's command and its arguments.")],
) -> None:
    """Run an agent, make what it prints the output of a turn, and pass it on: turn run --agent codex -- codex exec …

    Where the agent does not say how it went, its exit code does. Exits with the exit code of the agent.
    """
    options.pipe(tuple(command))
