"""The program of one of several gateway processes on a port. It is started by `gateway.server.supervisor`.

It ends with its parent, however that ends: only the parent holds the other end of its *lifeline*, a pipe that is never
written to, and the kernel closes that end.
"""

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from gateway.imports import collect_rarely, import_log

_MORE_S = 10.0
"""How much longer than its requests the process may take to stop before it ends all the same."""


def main() -> None:
    """The arguments: the number of the process, the folder of the sockets between the processes, and the descriptors of
    the lifeline, of the pipe that tells the parent that this process serves, and of the listening sockets."""
    collect_rarely()
    import_log()
    from gateway.server.process import Membership, serve_member
    from gateway.settings import Settings

    index, folder, *descriptors = sys.argv[1:]
    lifeline, ready, *listening = map(int, descriptors)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the parent replaces its processes
    settings = Settings()
    threading.Thread(target=_await_end, args=(lifeline, settings.shutdown_seconds + _MORE_S), daemon=True).start()
    sockets = [socket.socket(fileno=descriptor) for descriptor in listening]
    started = serve_member(settings, Membership(int(index), Path(folder), sockets, lambda: _tell(ready)))
    sys.exit(0 if started else 1)


def _tell(ready: int) -> None:
    os.write(ready, b"1")
    os.close(ready)


def _await_end(lifeline: int, seconds: float) -> None:
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(seconds)
    os._exit(1)


if __name__ == "__main__":
    main()
