"""The clients with an open event stream or room, which are notified of changes there."""

import contextlib
from collections import Counter
from collections.abc import Iterator


class Connected:
    """Counts the connections of clients that identify themselves, by project and client."""

    def __init__(self) -> None:
        self._open: Counter[tuple[str, str]] = Counter()

    def __call__(self, project: str, client: str) -> bool:
        return (project, client) in self._open

    @contextlib.contextmanager
    def held(self, project: str, client: str | None) -> Iterator[None]:
        """Count a connection while it is open; None: the client does not identify itself and is not counted."""
        if client is None:
            yield
            return
        key = (project, client)
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]
