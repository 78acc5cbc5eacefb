"""Which clients have an event stream or a room open: those are told of a change there."""

import contextlib
from collections import Counter
from collections.abc import Iterator


class Connected:
    """Counts the connections of clients that say who they are, by project and client."""

    def __init__(self) -> None:
        self._open: Counter[tuple[str, str]] = Counter()

    def __call__(self, project: str, client: str) -> bool:
        return (project, client) in self._open

    @contextlib.contextmanager
    def held(self, project: str, client: str | None) -> Iterator[None]:
        """A connection, for as long as it is open; None: of a client that does not say who it is."""
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
