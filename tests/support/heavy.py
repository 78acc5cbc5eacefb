"""Work for worker processes: it says where it runs through a pipe with a name, and may never end."""

import os
import signal
from pathlib import Path
from typing import NoReturn

_kept: list[bytes] = []


def process_id() -> int:
    return os.getpid()


def total(parts: list[bytes]) -> int:
    return sum(map(len, parts))


def memory(taken: int) -> int:
    """Take so many bytes of memory in small pieces, free all but the last one, and return how many are resident now."""
    pieces = [bytes(2000) for _ in range(taken // 2000)]
    _kept.extend(pieces[-1:])
    del pieces
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


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
