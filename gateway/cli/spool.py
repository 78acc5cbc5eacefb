"""All that an agent has printed, in a temporary file: it is passed on at once, and sent as soon as it can be."""

import asyncio
import contextlib
import os
import tempfile

_PIECE_BYTES = 8 * 2**20


class Spool:
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

    def piece(self, start: int, *, whole_lines: bool) -> bytes:
        """The next bytes from `start`: whole lines, a part of a line only where it is very long; or all there are."""
        end = max(self.last_line_end, start) if whole_lines else self.size
        if end - start <= _PIECE_BYTES:
            part = os.pread(self._file.fileno(), end - start, start) if end > start else b""
            if not part and self.size - start > _PIECE_BYTES:
                return os.pread(self._file.fileno(), _PIECE_BYTES, start)
            return part
        data = os.pread(self._file.fileno(), _PIECE_BYTES, start)
        return data[: data.rfind(b"\n") + 1] or data


def pass_through(source: int, spool: Spool) -> None:
    """Copy a file to stdout and into the spool until it ends. If nobody reads stdout any more, the turn goes on."""
    heard = True
    while data := _read(source):
        spool.append(data)
        while heard and data:
            try:
                data = data[os.write(1, data) :]
            except OSError:
                heard = False
    spool.end()


def _read(source: int) -> bytes:
    try:
        return os.read(source, 65536)
    except OSError:  # the terminal is gone
        return b""
