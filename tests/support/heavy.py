"""Work for worker processes: it says where it runs through a pipe with a name, and may never end."""

import os
import signal
from pathlib import Path
from typing import NoReturn


def process_id() -> int:
    return os.getpid()


def total(parts: list[bytes]) -> int:
    return sum(map(len, parts))


def spin(pipe: str) -> NoReturn:
    """Tell the process, and compute for ever."""
    with open(pipe, "w") as file:
        print(os.getpid(), file=file)
    while True:
        pass


def die() -> NoReturn:
    """End as the kernel ends a process where memory has run out."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def die_once(trace: str) -> str:
    """The same where `trace` is no file yet."""
    if not Path(trace).exists():
        Path(trace).touch()
        die()
    return "done"


class TwoTexts(Exception):
    """Cannot be pickled as it is."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


def fail(kind: str) -> NoReturn:
    raise TwoTexts("this", "that") if kind == "strange" else ValueError("no such number")
