"""Shows who writes a file without an editor, as an agent does by `PUT`: the name and the place of the write."""

import contextlib
from typing import Any

from gateway.files.store import Written
from gateway.presence.presence import Presence
from gateway.wire.presence import writer_client, writer_state
from gateway.wire.problems import Overloaded
from gateway.yjs.places import Place, written_range

_SECONDS = 30
_LARGE_BYTES = 2**18
"""A larger update is shown without a place, which takes long to find."""


class Writers:
    """Shows writers in the presence of their files."""

    def __init__(self, presence: Presence) -> None:
        self._presence = presence

    def show(self, project: str, written: Written, author: str | None, root: str | None, subject: str | None) -> None:
        """Show for 30 s that an author is in a file, at the place that the write changed, if it changed any."""
        if author is None:
            return
        state = writer_state(author)
        update = written.update
        place = None if update is None or len(update) > _LARGE_BYTES else written_range(update)
        if place is not None:
            first, last = place
            state["cursor"] = {"anchor": _position(root, first, 0), "head": _position(root, last, -1)}
        with contextlib.suppress(Overloaded):
            client = writer_client(project, author)
            self._presence.say(project, written.head.path, client, state, seconds=_SECONDS, subject=subject)


def _position(root: str | None, place: Place, assoc: int) -> dict[str, Any]:
    """A Yjs relative position as JSON: before a character (`assoc` 0) or after it (-1)."""
    client, clock = place
    return {"type": None, "tname": root, "item": {"client": client, "clock": clock}, "assoc": assoc}
