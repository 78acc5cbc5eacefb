"""The transport of a connection that is not there."""

import asyncio
from typing import Any


class Transport(asyncio.Transport):
    """Notes whether the socket is read, and what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True
        self.written = b""
        self.answered = asyncio.Event()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("sockname", "peername") else default

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        self.written += data
        self.answered.set()

    def can_write_eof(self) -> bool:
        return False
