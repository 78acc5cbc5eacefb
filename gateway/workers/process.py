"""The program of a worker process: receives pure functions with arguments and sends back results until it is ended.

A worker ends with its gateway, however the gateway ends, even while the worker is computing or stopped. Only the
gateway holds the other end of the worker's *lifeline*, a pipe that is never written to: the kernel closes that end when
the gateway ends. On Linux the kernel then kills the worker (`F_SETSIG` with `O_ASYNC`, fcntl(2)): this needs no running
Python and, unlike `PR_SET_PDEATHSIG`, does not depend on the thread that started the worker. On other systems a thread
waits for the end of the pipe.
"""

import contextlib
import fcntl
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import BinaryIO

from gateway.heap import Heap, free_bytes, map_large_buffers
from gateway.workers.messages import LENGTH_BYTES, head_of, lengths_in, parts_of, value_of

_LESS_URGENT = 5
_OUT_OF_MEMORY_SCORE = "800"
"""Of 1,000: if memory runs out, the kernel kills a worker before the gateway."""


def main() -> None:
    """Work until the gateway ends this process or closes its pipes.

    The first argument is the descriptor of the lifeline. The second is the lane, only for listings of processes.
    """
    _end_with_gateway(int(sys.argv[1]))
    _yield_to_gateway()
    requests, answers = _claim_pipes()
    map_large_buffers()
    heap = Heap(free_bytes())
    gc.disable()  # the objects read from a document have no cycles, and would be scanned for them repeatedly
    while (request := _read(requests)) is not None:
        _send(answers, _answer(request))
        del request
        gc.collect()
        gc.freeze()
        heap.look(free_bytes())


def _end_with_gateway(lifeline: int) -> None:
    if sys.platform == "linux":
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    # If the gateway ended before signals were requested, none is sent: then the thread sees the end of the pipe.
    threading.Thread(target=_await_end, args=(lifeline,), daemon=True).start()


def _await_end(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGKILL)


def _yield_to_gateway() -> None:
    os.nice(_LESS_URGENT)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write(_OUT_OF_MEMORY_SCORE)
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the gateway, which finishes its work first
        signal.signal(number, signal.SIG_IGN)


def _claim_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return the pipes to the gateway, and keep prints out of them by redirecting stdin and stdout."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nowhere, descriptor)
    return requests, answers


def _read(requests: BinaryIO) -> list[bytes] | None:
    count = int.from_bytes(requests.read(LENGTH_BYTES))
    lengths = [*lengths_in(requests.read(count * LENGTH_BYTES))]
    parts = [requests.read(length) for length in lengths]
    return parts if count and [*map(len, parts)] == lengths else None


def _send(answers: BinaryIO, parts: Sequence[bytes]) -> None:
    answers.write(head_of(parts))
    for part in parts:
        answers.write(part)
    answers.flush()


def _answer(request: Sequence[bytes]) -> list[bytes]:
    """Return a message of (True, result) or (False, exception)."""
    work: Callable[..., object]
    try:
        work, arguments = value_of(request)
        return parts_of((True, work(*arguments)))
    except Exception as error:
        return _failure(error)


def _failure(error: Exception) -> list[bytes]:
    try:
        answer = parts_of((False, error))
        value_of(answer)
    except Exception:  # the exception cannot be pickled: send its text
        return parts_of((False, RuntimeError(repr(error))))
    return answer


if __name__ == "__main__":
    main()
