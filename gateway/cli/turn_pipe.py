"""`yjs-gateway turn pipe` and `turn run`: what a coding agent prints becomes the output of a turn, and is passed on.

What comes in goes out unchanged, at once, whether the gateway can be reached or not. It is kept in a temporary file and
sent from there in whole lines, each piece with its offset, so that a retry repeats nothing.
"""

import asyncio
import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec import UNSET, Struct

from gateway.cli.spool import Spool, pass_through
from gateway.client.errors import GatewayError, OutputConflict, TurnFinished, WriteContention
from gateway.client.http import GatewayClient
from gateway.client.policy import PollSettings, is_retried, retry_delay_ms
from gateway.client.project import Project
from gateway.wire.turns import OutputReceipt

T = TypeVar("T")

COMPLETED, FAILED, REFUSED, CANCELLED, GAVE_UP = 0, 1, 2, 3, 4
"""Exit codes: the turn's end, what the gateway refused, and that it could not be reached. By a signal: 128 and it."""

_EXIT_CODES = {"completed": COMPLETED, "failed": FAILED, "cancelled": CANCELLED}
_RETRIES = PollSettings(retry_delays_ms=(250, 500, 1000, 2000, 4000))
"""Well within any lease."""
_PATIENCE_S = 300.0
"""How long after its end the stream is still tried to be sent. The lease ends the turn if the gateway comes back."""
_FAREWELL_S = 10.0
"""The same after a signal."""


class PipeOptions(Struct, frozen=True):
    """Where the turn is; what is not named is created."""

    url: str
    project: str
    session: str | None = None
    turn: str | None = None
    prompt: str = ""
    token: str | None = None
    author: str | None = None
    dialect: str = "auto"
    command: tuple[str, ...] = ()
    """The agent to be run; none: its output comes from stdin."""


class Refused(Exception):
    """The gateway will not take it, however often it is asked."""


class TurnPipe:
    """Sends one stream as the output of one turn, and sees to its end."""

    def __init__(self, options: PipeOptions, project: Project, spool: Spool) -> None:
        self._options = options
        self._project = project
        self._spool = spool
        self._turn = ("", "")
        self._base = 0
        """Bytes of output that the turn had before."""
        self._sent = 0
        self._renew_s = 30.0
        self._heard_at = 0.0
        self._result: str | None = None
        self.status = "pending"
        self.agent_exit: asyncio.Future[int] | None = None
        """The exit code of an agent that is run here."""
        self.stopped_by: signal.Signals | None = None
        self._stopped = asyncio.Event()

    async def send(self) -> None:
        """Send the stream until it has ended, or the turn has; then the turn is finished.

        Raises:
            Refused
        """
        await self._open()
        while self.status == "running":
            piece = self._next_piece()
            if not piece and self._over:
                break
            if piece or not await self._news():
                await self._send(piece)
        if self.status == "running":
            await self._finish()

    def stop(self, signum: signal.Signals) -> None:
        """Send what was read in whole lines, and cancel the turn. An agent that is run here is heard to its end."""
        self.stopped_by = signum
        self._stopped.set()
        if not self._options.command:
            self._spool.news.set()
            self._spool.over.set()

    @property
    def _over(self) -> bool:
        return self._spool.ended or (self.stopped_by is not None and not self._options.command)

    def _next_piece(self) -> bytes:
        """What to send next; the last line gets a line break if it has none, so that it is taken for one."""
        last = self._spool.ended and (self.stopped_by is None or bool(self._options.command))
        is_text = self._options.dialect == "text"
        piece = self._spool.piece(self._sent, whole_lines=not (last or is_text))
        if last and not is_text and piece and self._sent + len(piece) == self._spool.size and piece[-1:] != b"\n":
            return piece + b"\n"
        return piece

    async def _news(self) -> bool:
        """Wait for more to send, or the end; False if it is time for a sign of life."""
        try:
            await asyncio.wait_for(self._spool.news.wait(), self._heard_at + self._renew_s - time.monotonic())
        except TimeoutError:
            return False
        self._spool.news.clear()
        return True

    async def _open(self) -> None:
        """Create what is not named, and start the turn."""
        project, session, turn = self._project, self._options.session, self._options.turn
        if session is None:
            session = (await self._ask(project.create_session)).id
            _say(f"session {session}")
        if turn is None:
            turn = (await self._ask(lambda: project.create_turn(session, self._options.prompt))).id
            _say(f"turn {turn}")
        self._turn = (session, turn)
        await self._post(b"", None)

    async def _send(self, piece: bytes, *, final: bool = False) -> None:
        await self._post(piece, self._base + self._sent, final=final)

    async def _post(self, piece: bytes, offset: int | None, *, final: bool = False) -> None:
        """Send a piece and note how the turn stands, as a receipt or a conflict says it."""
        dialect = self._options.dialect
        try:
            receipt: OutputReceipt = await self._ask(
                lambda: self._project.append_output(*self._turn, piece, offset=offset, dialect=dialect, final=final)
            )
        except TurnFinished as finished:
            self.status = finished.problem.turn_status or self.status
            return
        except OutputConflict as conflict:
            taken = conflict.problem.offset or 0
        else:
            self.status, taken = receipt.status, receipt.offset
            self._result = None if receipt.result is UNSET else receipt.result
            self._renew_s = min(receipt.lease / 4, 30.0)
        self._heard_at = time.monotonic()
        if offset is None:
            self._base = taken
        if taken < self._base:
            raise Refused("it has lost what was there before this stream")
        self._sent = taken - self._base

    async def _finish(self) -> None:
        """The stream is over: its last result decides, where it has none the exit code of an agent that is run here."""
        code = None if self.agent_exit is None else await self.agent_exit
        if self._spool.fault:
            await self._set("failed", self._spool.fault)
        elif self.stopped_by is not None and (code is None or self._result is None):
            await self._set("cancelled", f"ended by {self.stopped_by.name}")
        elif code is None or self._result is not None:
            await self._send(b"", final=True)
        elif code == 0:
            await self._set("completed", None)
        else:
            await self._set("failed", f"the agent ended with exit code {code}")

    async def _set(self, status: str, error: str | None) -> None:
        try:
            self.status = (await self._ask(lambda: self._project.set_turn_status(*self._turn, status, error))).status
        except TurnFinished as finished:
            self.status = finished.problem.turn_status or self.status

    async def _ask(self, request: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer.

        Raises:
            TurnFinished, OutputConflict, Refused
        """
        for attempt in range(1, 2**31):
            try:
                return await request()
            except (TurnFinished, OutputConflict):
                raise
            except GatewayError as error:
                if not (is_retried(error.status) or isinstance(error, WriteContention)):
                    raise Refused(str(error)) from error
                if attempt == 1:
                    _say(f"the gateway cannot be reached ({error}); trying again")
                await self._pause(retry_delay_ms(_RETRIES, attempt, random.random(), error.retry_after_s) / 1000)
        raise AssertionError

    async def _pause(self, seconds: float) -> None:
        """Wait before the next attempt; a signal cuts it short, since then there is little time."""
        if self.stopped_by is not None:
            await asyncio.sleep(min(seconds, 1.0))
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)


def _say(text: str) -> None:
    print(f"yjs-gateway: {text}", file=sys.stderr, flush=True)


async def run_pipe(options: PipeOptions) -> int:
    """Pipe what an agent prints to stdout and to a turn; returns the exit code."""
    spool = Spool(asyncio.get_running_loop())
    async with GatewayClient(options.url, token=options.token, author=options.author) as client:
        pipe = TurnPipe(options, client.project(options.project), spool)
        run = _run_agent if options.command else _read_stdin
        return await run(pipe, spool, options)


async def _read_stdin(pipe: TurnPipe, spool: Spool, options: PipeOptions) -> int:
    """Until stdin ends, or the turn does: the exit code says how the turn has ended."""
    loop = asyncio.get_running_loop()
    sending = asyncio.create_task(pipe.send())

    def stop(signum: signal.Signals) -> None:
        if pipe.stopped_by is not None:
            sending.cancel()
        pipe.stop(signum)
        loop.call_later(_FAREWELL_S, sending.cancel)

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop, signum)
    threading.Thread(target=pass_through, args=(0, spool), daemon=True).start()
    over = asyncio.create_task(spool.over.wait())
    await _sent_or_over(sending, over)
    code = await _exit_code(pipe, sending)
    if code != CANCELLED:  # else the agent is to notice that nobody reads it any more
        await over
    over.cancel()
    return code


async def _run_agent(pipe: TurnPipe, spool: Spool, options: PipeOptions) -> int:
    """Run the agent with the terminal, the stdin and the stderr of this process; returns its exit code."""
    loop = asyncio.get_running_loop()
    source, sink = os.pipe()
    try:
        agent = await asyncio.create_subprocess_exec(*options.command, stdout=sink)
    except OSError as error:
        _say(f"{options.command[0]} cannot be run: {error.strerror}")
        return 127 if isinstance(error, FileNotFoundError) else 126
    finally:
        os.close(sink)
    exited: asyncio.Task[int] = asyncio.create_task(_code_of(agent))
    pipe.agent_exit = exited
    sending = asyncio.create_task(pipe.send())

    def forward(signum: signal.Signals) -> None:
        pipe.stop(signum)
        with contextlib.suppress(ProcessLookupError):
            if signum is not signal.SIGINT or not os.isatty(0):  # a terminal has told the agent itself
                agent.send_signal(signum)

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(signum, forward, signum)
    threading.Thread(target=pass_through, args=(source, spool), daemon=True).start()
    over = asyncio.create_task(spool.over.wait())
    await _sent_or_over(sending, over)
    if await _exit_code(pipe, sending) == CANCELLED and pipe.stopped_by is None:
        with contextlib.suppress(ProcessLookupError):
            agent.terminate()
    await over
    return await exited


async def _code_of(agent: asyncio.subprocess.Process) -> int:
    """The exit code of a process as shells say it."""
    code = await agent.wait()
    return code if code >= 0 else 128 - code


async def _sent_or_over(sending: "asyncio.Task[None]", over: "asyncio.Task[bool]") -> None:
    """Wait until all is sent; when the stream has ended, with patience that ends too."""
    await asyncio.wait({sending, over}, return_when=asyncio.FIRST_COMPLETED)
    if over.done():
        await asyncio.wait({sending}, timeout=_PATIENCE_S)
        sending.cancel()


async def _exit_code(pipe: TurnPipe, sending: "asyncio.Task[None]") -> int:
    """Say how it went."""
    try:
        await sending
    except Refused as refusal:
        _say(f"the gateway refused: {refusal}")
        return REFUSED
    except asyncio.CancelledError:
        _say("the gateway could not be told of the turn's end; its lease will end it")
        return GAVE_UP if pipe.stopped_by is None else 128 + pipe.stopped_by
    _say(f"the turn is {pipe.status}")
    return _EXIT_CODES[pipe.status] if pipe.stopped_by is None else 128 + pipe.stopped_by
