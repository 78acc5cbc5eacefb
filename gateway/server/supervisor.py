"""The parent of several gateway processes on one port: starts, restarts, replaces and stops them.

The parent binds the port, and all processes accept connections from the same listening sockets: while a process is
restarted or replaced, no connection is refused, and none is lost with the queue of a socket of its own (as with
`SO_REUSEPORT`). uvicorn's own supervisor restarts a process that crashes in a loop without a pause, does not wait for a
new process before it stops the old one, and leaves its processes behind when it is killed.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Self

import structlog

from gateway.settings import Settings

_log = structlog.get_logger("gateway.supervisor")

_SHORT_LIFE_S = 10.0
"""A process that ends sooner than this after its start counts as failing: the pause before the next one doubles."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 30.0
_MORE_S = 10.0
"""How much longer than its requests a stopping process may take before it is killed."""


class _Process:
    """One gateway process. Only the parent holds the write end of its lifeline, which is closed however it ends."""

    def __init__(self, process: asyncio.subprocess.Process, lifeline: int, ready: asyncio.StreamReader) -> None:
        self._process = process
        self._lifeline = lifeline
        self._ready = ready
        self.started = time.monotonic()
        self.pid = process.pid

    @classmethod
    async def start(cls, index: int, sockets: Sequence[socket.socket], folder: str, settings: Settings) -> Self:
        lifeline, kept = os.pipe()
        told, tells = os.pipe()
        listening = [listener.fileno() for listener in sockets]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            "GATEWAY_HOST": settings.host,
            "GATEWAY_DATABASE": settings.database,
            "GATEWAY_PROCESSES": str(settings.processes),
        }
        arguments = (index, folder, lifeline, tells, *listening)
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "gateway.server.member", *map(str, arguments)),
                env=environment,
                pass_fds=(lifeline, tells, *listening),
            )
        except BaseException:
            os.close(kept)
            os.close(told)
            raise
        finally:
            os.close(lifeline)
            os.close(tells)
        ready = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(ready), os.fdopen(told, "rb")
        )
        return cls(process, kept, ready)

    async def serves(self) -> bool:
        """Wait until the process accepts connections; False: it has ended instead."""
        return bool(await self._ready.read(1))

    async def ended(self) -> int:
        """Wait for the end of the process; return its exit code, or the number of the signal negated."""
        code = await self._process.wait()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        return code

    async def stop(self, seconds: float) -> None:
        """Ask the process to finish its requests and end, and kill it if it takes longer than this."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self.ended(), seconds)
        except TimeoutError:
            _log.error("a gateway process did not stop and is killed", pid=self.pid)
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self.ended()


class Supervisor:
    """Runs `settings.processes` gateway processes on the address of the settings.

    Args:
        listening: called once, with the listening sockets, when the processes have started.
    """

    def __init__(self, settings: Settings, listening: Callable[[Sequence[socket.socket]], None]) -> None:
        self._settings = settings
        self._listening = listening
        self._stop_s = settings.shutdown_seconds + _MORE_S
        self._sockets: list[socket.socket] = []
        self._folder = ""
        self._places: list[_Process | None] = [None] * settings.processes
        self._running: set[_Process] = set()
        self._starting = [asyncio.Lock() for _ in self._places]
        """Held while the process of a place is started or replaced."""
        self._stopping = asyncio.Event()
        self._reloading: asyncio.Task[None] | None = None
        self._reload_again = False

    async def run(self) -> bool:
        """Run until SIGTERM or SIGINT; SIGHUP replaces one process after the other. Returns whether it started."""
        try:
            self._sockets = _bind(self._settings.host, self._settings.port)
        except OSError as error:
            _log.error("the address cannot be used", host=self._settings.host, port=self._settings.port, reason=error)
            return False
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        with tempfile.TemporaryDirectory(prefix="yjs-gateway-") as self._folder:
            return await self._run()

    async def _run(self) -> bool:
        stopping = asyncio.create_task(self._stop())
        # The first process creates or upgrades the schema. If it cannot start, no other one can.
        if not await self._replace(0) and not self._stopping.is_set():
            stopping.cancel()
            return False
        places = range(len(self._places))
        await asyncio.gather(*(self._replace(place) for place in places[1:]))
        if not self._stopping.is_set():
            self._listening(self._sockets)
        await asyncio.gather(*(self._keep(place) for place in places))
        await stopping
        if self._reloading is not None:
            await self._reloading
        return True

    async def _stop(self) -> None:
        await self._stopping.wait()
        for listener in self._sockets:
            listener.close()
        await asyncio.gather(*(process.stop(self._stop_s) for process in self._running))

    async def _replace(self, place: int) -> bool:
        """Start a process in a place, and stop the old one when the new one serves; return whether it does."""
        async with self._starting[place]:
            if self._stopping.is_set():
                return False
            process = await _Process.start(place, self._sockets, self._folder, self._settings)
            self._running.add(process)
            if self._stopping.is_set():
                await process.stop(self._stop_s)
            if not await process.serves():
                code = await process.ended()
                self._running.discard(process)
                if not self._stopping.is_set():
                    _log.error("a gateway process did not start", process=place, pid=process.pid, code=code)
                return False
            old, self._places[place] = self._places[place], process
            _log.info("a gateway process serves", process=place, pid=process.pid)
        if old is not None:
            await old.stop(self._stop_s)
            self._running.discard(old)
        return True

    async def _keep(self, place: int) -> None:
        """Restart the process of a place whenever it has ended by itself."""
        failures = 0
        while not self._stopping.is_set():
            process = self._places[place]
            if process is not None:
                code = await process.ended()
                if self._stopping.is_set():
                    return
                if self._places[place] is not process:
                    continue  # it was replaced
                self._places[place] = None
                self._running.discard(process)
                failures = 0 if time.monotonic() - process.started > _SHORT_LIFE_S else failures + 1
                _log.error("a gateway process has ended", process=place, pid=process.pid, code=code)
            else:
                failures += 1
            pause = min(_FIRST_PAUSE_S * 2 ** min(failures, 16), _LONGEST_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            if self._places[place] is None:  # otherwise a reload was faster
                await self._replace(place)

    def _reload_soon(self) -> None:
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._reload())
        else:
            self._reload_again = True

    async def _reload(self) -> None:
        while not self._stopping.is_set():
            self._reload_again = False
            _log.info("the gateway processes are replaced")
            for place in range(len(self._places)):
                if not await self._replace(place):
                    if not self._stopping.is_set():
                        _log.error("the other gateway processes are not replaced, because a new one did not start")
                    break
            if not self._reload_again:
                return


def _bind(host: str, port: int) -> list[socket.socket]:
    """Bind a port on every address of a host; port 0: on a free one, the same for all.

    Raises:
        OSError: the address is unknown or in use.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listener = socket.socket(family, kind, protocol)
            sockets.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            taken = sockets[0].getsockname()[1] if len(sockets) > 1 else port
            listener.bind((address[0], taken, *address[2:]))
            listener.setblocking(False)
    except OSError:
        for listener in sockets:
            listener.close()
        raise
    return sockets
