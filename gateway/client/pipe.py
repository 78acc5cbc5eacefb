"""`yjs-gateway turn pipe`: between a coding agent and whoever reads its output, tells the gateway of it.

What comes in goes out unchanged, at once, whether the gateway can be reached or not. It is kept in a temporary file and
sent from there in whole lines, each piece with its offset, so that a retry repeats nothing.
"""

import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from typing import Any
from urllib.parse import quote

import httpx
from msgspec import Struct

COMPLETED, FAILED, REFUSED, CANCELLED, GAVE_UP = 0, 1, 2, 3, 4
"""Exit codes: the turn's end, what the gateway refused, and that it could not be reached. By a signal: 128 and it."""

_EXIT_CODES = {"completed": COMPLETED, "failed": FAILED, "cancelled": CANCELLED}
_PIECE_BYTES = 8 * 2**20
_REQUEST_S = 30.0
_RETRY_S = (0.25, 0.5, 1.0, 2.0, 4.0)
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


class Refused(Exception):
    """The gateway will not take it, however often it is asked."""


class _Spool:
    """All that was read, in a file without a name. A thread appends; the loop reads and is woken."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._loop = loop
        self.size = 0
        self.last_line_end = 0
        """Where the last line break is, and one more."""
        self.ended = False
        self.fault = ""
        """Why it holds no more than it does, though more came."""
        self.news = asyncio.Event()
        self.over = asyncio.Event()
        """Set when nothing more is to come."""

    def append(self, data: bytes) -> None:
        """Keep what was read; called in the reading thread."""
        if not self.fault:
            try:
                os.pwrite(self._file.fileno(), data, self.size)
            except OSError as error:
                self.fault = f"the output could not be kept: {error.strerror}"
                self.ended = True
            else:
                line_break = data.rfind(b"\n")
                if line_break >= 0:
                    self.last_line_end = self.size + line_break + 1
                self.size += len(data)
            self._tell(self.news)

    def end(self) -> None:
        """Nothing more was to be read; called in the reading thread."""
        self.ended = True
        self._tell(self.news)
        self._tell(self.over)

    def _tell(self, event: asyncio.Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody wants to know
            self._loop.call_soon_threadsafe(event.set)

    def piece(self, start: int, *, last: bool) -> bytes:
        """The next whole lines from `start`, a part of a line only where it is very long; to the very end if `last`."""
        end = self.size if last else max(self.last_line_end, start)
        if end - start <= _PIECE_BYTES:
            part = os.pread(self._file.fileno(), end - start, start) if end > start else b""
            if not part and self.size - start > _PIECE_BYTES:
                return os.pread(self._file.fileno(), _PIECE_BYTES, start)
            return part
        data = os.pread(self._file.fileno(), _PIECE_BYTES, start)
        return data[: data.rfind(b"\n") + 1] or data


def _pass_through(spool: _Spool) -> None:
    """Copy stdin to stdout and into the spool until it ends. If nobody reads stdout any more, the turn goes on."""
    heard = True
    while data := _read():
        spool.append(data)
        while heard and data:
            try:
                data = data[os.write(1, data) :]
            except OSError:
                heard = False
    spool.end()


def _read() -> bytes:
    try:
        return os.read(0, 65536)
    except OSError:  # the terminal is gone
        return b""


class TurnPipe:
    """Sends one stream as the output of one turn, and sees to its end."""

    def __init__(self, options: PipeOptions, client: httpx.AsyncClient, spool: _Spool) -> None:
        self._options = options
        self._client = client
        self._spool = spool
        self._project = f"/api/projects/{quote(options.project, safe='')}"
        self._turn = ""
        self._base = 0
        """Bytes of output that the turn had before."""
        self._sent = 0
        self._renew_s = 30.0
        self._heard_at = 0.0
        self.status = "pending"
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
                await self._send_piece(piece)
        if self.status == "running":
            await self._finish()

    def stop(self, signum: signal.Signals) -> None:
        """Send what was read in whole lines, and cancel the turn."""
        self.stopped_by = signum
        self._stopped.set()
        self._spool.news.set()
        self._spool.over.set()

    @property
    def _over(self) -> bool:
        return self._spool.ended or self.stopped_by is not None

    def _next_piece(self) -> bytes:
        """What to send next; the last line gets a line break if it has none, so that it is taken for one."""
        last = self._spool.ended and self.stopped_by is None
        piece = self._spool.piece(self._sent, last=last)
        if last and piece and self._sent + len(piece) == self._spool.size and not piece.endswith(b"\n"):
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
        session, turn = self._options.session, self._options.turn
        if session is None:
            session = (await self._request("POST", "/sessions", json={}))["id"]
            _say(f"session {session}")
        turns = f"/sessions/{quote(session, safe='')}/turns"
        if turn is None:
            turn = (await self._request("POST", turns, json={"prompt": self._options.prompt}))["id"]
            _say(f"turn {turn}")
        self._turn = f"{turns}/{quote(turn, safe='')}"
        receipt = await self._request("POST", self._turn + "/output", content=b"")
        self._take(receipt)
        self._base = receipt.get("offset", 0)

    async def _send_piece(self, piece: bytes) -> None:
        answer = await self._request(
            "POST", self._turn + "/output", params={"offset": self._base + self._sent}, content=piece
        )
        self._take(answer)
        if answer.get("offset", self._base) < self._base:
            raise Refused("it has lost what was there before this stream")
        self._sent = answer.get("offset", self._base + self._sent) - self._base

    async def _finish(self) -> None:
        """The stream is over, and no result was in it."""
        if self.stopped_by is None:
            error = self._spool.fault or "the agent's output ended without a result"
            patch = {"status": "failed", "error": error}
        else:
            patch = {"status": "cancelled", "error": f"ended by {self.stopped_by.name}"}
        self._take(await self._request("PATCH", self._turn, json=patch))

    def _take(self, answer: dict[str, Any]) -> None:
        """Note how the turn stands, out of a receipt or a conflict."""
        self.status = answer.get("turn_status") or answer.get("status", self.status)
        self._heard_at = time.monotonic()
        if "lease" in answer:
            self._renew_s = min(answer["lease"] / 4, 30.0)

    async def _request(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """Ask until there is an answer: the body of a success, or of the conflicts that say how the turn stands.

        Raises:
            Refused
        """
        for attempt in range(2**31):
            after = _RETRY_S[min(attempt, len(_RETRY_S) - 1)] * random.uniform(0.9, 1.1)
            try:
                response = await self._client.request(
                    method,
                    self._project + path,
                    headers={"Content-Type": "application/x-ndjson"} if "content" in arguments else None,
                    **arguments,
                )
            except httpx.TransportError as error:
                reason = str(error) or type(error).__name__
            else:
                answer = _understand(response)
                if answer is not None:
                    return answer
                reason = f"it answers {response.status_code}"
                after = max(after, _retry_after(response))
            if attempt == 0:
                _say(f"the gateway cannot be reached ({reason}); trying again")
            await self._pause(after)
        raise AssertionError

    async def _pause(self, seconds: float) -> None:
        """Wait before the next attempt; a signal cuts it short, since then there is little time."""
        if self.stopped_by is not None:
            await asyncio.sleep(min(seconds, 1.0))
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)


def _understand(response: httpx.Response) -> dict[str, Any] | None:
    """What an answer says; None if the question must be asked again."""
    if response.status_code >= 500 or response.status_code in (408, 429):
        return None
    try:
        body = response.json()
    except ValueError:
        body = {}
    if response.is_success:
        return dict(body)
    code = body.get("code")
    if code == "write_contention":
        return None
    if code == "turn_finished":
        return {"turn_status": body["turn_status"]}
    if code == "output_conflict":
        return {"offset": body["offset"]}
    raise Refused(f"{response.status_code} {body.get('detail', response.reason_phrase)}")


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else 0.0


def _say(text: str) -> None:
    print(f"yjs-gateway: {text}", file=sys.stderr, flush=True)


async def run_pipe(options: PipeOptions) -> int:
    """Pipe stdin to stdout and to a turn; returns the exit code."""
    loop = asyncio.get_running_loop()
    spool = _Spool(loop)
    async with httpx.AsyncClient(base_url=options.url.rstrip("/"), timeout=_REQUEST_S) as client:
        pipe = TurnPipe(options, client, spool)
        sending = asyncio.create_task(pipe.send())

        def stop(signum: signal.Signals) -> None:
            if pipe.stopped_by is not None:
                sending.cancel()
            pipe.stop(signum)
            loop.call_later(_FAREWELL_S, sending.cancel)

        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, stop, signum)
        threading.Thread(target=_pass_through, args=(spool,), daemon=True).start()
        over = asyncio.create_task(spool.over.wait())
        await asyncio.wait({sending, over}, return_when=asyncio.FIRST_COMPLETED)
        if over.done():
            await asyncio.wait({sending}, timeout=_PATIENCE_S)
            sending.cancel()
        code = await _exit_code(pipe, sending)
        if code != CANCELLED:  # else the agent is to notice that nobody reads it any more
            await over
        over.cancel()
    return code


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
