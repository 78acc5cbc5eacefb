"""`yjs-gateway turn follow`: a turn as it grows, for a person or, as JSON, for a program."""

import sys

import msgspec

from gateway.cli.files import printable
from gateway.cli.turn_pipe import CANCELLED, COMPLETED, FAILED, REFUSED
from gateway.client.errors import GatewayError
from gateway.client.http import GatewayClient
from gateway.client.turn_events import TurnEvent
from gateway.wire.turns import Block, BlockDelta, TurnProgress

_EXIT_CODES = {"completed": COMPLETED, "failed": FAILED, "cancelled": CANCELLED}


async def print_turn(
    url: str, project: str, session: str, turn: str, after_block: int, *, json: bool, token: str | None
) -> int:
    """Print a turn to its end; return the exit code of the command."""
    page, status = _Page(), ""
    try:
        async with GatewayClient(url, token=token) as gateway:
            async for event in gateway.project(project).follow_turn(session, turn, after_block=after_block):
                if isinstance(event, TurnProgress):
                    status = event.status
                if json:
                    sys.stdout.buffer.write(msgspec.json.encode(event) + b"\n")
                    sys.stdout.buffer.flush()
                else:
                    page.show(event)
    except GatewayError as error:
        print(f"yjs-gateway: {error}", file=sys.stderr)
        return REFUSED
    return _EXIT_CODES.get(status, FAILED)


class _Page:
    """What is on the screen."""

    def __init__(self) -> None:
        self._at_start = True
        self._shown: int | None = None
        """The index of the text that is being printed."""
        self._types: dict[int, str] = {}

    def show(self, event: TurnEvent) -> None:
        if isinstance(event, TurnProgress):
            if event.status not in ("pending", "running"):
                self._line()
                reason = f": {event.error}" if event.error else ""
                print(f"yjs-gateway: the turn is {event.status}{reason}", file=sys.stderr)
        elif isinstance(event, Block):
            self._types[event.index] = event.type
            self._block(event)
        elif self._types.get(event.index) == "text":
            self._grow(event)

    def _block(self, block: Block) -> None:
        content = msgspec.json.decode(block.content)
        if block.type == "text" and isinstance(content, str):
            self._line()
            self._shown = block.index
            self._write(content)
        elif block.type == "tool_use" and isinstance(content, dict):
            self._line()
            self._write(f"[{content.get('name')}] {msgspec.json.encode(content.get('input')).decode()}")
            self._line()
        elif block.type == "error":
            self._line()
            message = content.get("message") if isinstance(content, dict) else content
            self._write(f"error: {message}")
            self._line()

    def _grow(self, delta: BlockDelta) -> None:
        if self._shown != delta.index:
            self._line()
            self._shown = delta.index
        self._write(delta.delta)

    def _line(self) -> None:
        """Begin a new line, if there is something on this one."""
        self._shown = None
        if not self._at_start:
            self._write("\n")

    def _write(self, text: str) -> None:
        if text:
            sys.stdout.write("".join(each if each in "\n\t" else printable(each) for each in text))
            sys.stdout.flush()
            self._at_start = text.endswith("\n")
