"""Tickets: they replace a credential in the URL of one connection where no header can be sent (`EventSource`)."""

import itertools
import secrets
import time
from collections.abc import Callable

from gateway.access.guard import Access

LIFE_S = 30
"""For how many seconds a ticket is valid."""
_MOST = 100_000


class Tickets:
    """The tickets that were issued and not used yet, in memory.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._given: dict[str, tuple[Access, str, float]] = {}
        """Oldest first."""

    def give(self, access: Access, project: str) -> str:
        """Issue a ticket for one connection to a project."""
        self._forget_old()
        ticket = secrets.token_urlsafe(24)
        self._given[ticket] = (access, project, self._clock() + LIFE_S)
        return ticket

    def take(self, ticket: str, project: str) -> Access | None:
        """Use up a ticket and return its access; None if the ticket is invalid, expired or of another project."""
        access, of_project, end = self._given.pop(ticket, (None, "", 0.0))
        return access if of_project == project and self._clock() < end else None

    def _forget_old(self) -> None:
        now = self._clock()
        for ticket, (_, _, end) in list(itertools.islice(self._given.items(), 2)):  # drop two for each one issued
            if end <= now or len(self._given) >= _MOST:
                del self._given[ticket]
