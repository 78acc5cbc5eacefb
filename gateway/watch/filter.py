"""Filters of the changes of a project that a client wants to receive. Pure."""

import msgspec
from msgspec import Struct

from gateway.access.grants import Paths, View
from storage import FileHead, TurnHead


class ChangeFilter(Struct, frozen=True):
    """Selects the changes of a project that a client wants to receive."""

    files: bool = True
    turns: bool = True
    presence: bool = False
    """Whether to include the presence of users in the files."""
    prefix: str = ""
    paths: frozenset[str] | None = None
    """Only these files; None: all."""
    turn: tuple[str, str] | None = None
    """Only this turn of this session, and no files; None: all."""
    updates: bool = False
    """Whether small updates are part of the changes."""
    visible: Paths | None = None
    """Only files that are visible to the requester; None: all."""

    @property
    def topic(self) -> str | None:
        """The topic of the only file or turn that the filter selects; None if it selects more."""
        if self.turn is not None:
            return turn_topic(*self.turn)
        if self.turns or self.files == self.presence or self.paths is None or len(self.paths) != 1 or self.prefix:
            return None
        (path,) = self.paths
        return presence_topic(path) if self.presence else file_topic(path)

    @property
    def size(self) -> int:
        """The approximate memory of the filter in bytes."""
        visible = () if self.visible is None else (*self.visible.folders, *self.visible.files)
        return len(self.prefix) + sum(map(len, self.paths or ())) + sum(map(len, visible))

    def matches(self, head: FileHead | TurnHead) -> bool:
        """Return whether the filter selects a change."""
        if isinstance(head, TurnHead):
            return self.turns and self.turn in (None, (head.session_id, head.turn_id))
        return self.files and self._has(head.path)

    def shows_presence(self, path: str) -> bool:
        """Return whether the filter selects the presence in a file."""
        return self.presence and self._has(path)

    def _has(self, path: str) -> bool:
        return (
            path.startswith(self.prefix)
            and (self.paths is None or path in self.paths)
            and (self.visible is None or path in self.visible)
        )

    def seen_by(self, view: View) -> "ChangeFilter":
        """Return the filter restricted to what the requester can see: not even the time of other changes may leak."""
        if view.sight is None:
            return self
        paths = None if self.paths is None else frozenset(path for path in self.paths if view.sees(path))
        return msgspec.structs.replace(
            self,
            files=self.files and view.may("read"),
            turns=self.turns and view.sees_turns,
            presence=self.presence and view.may("read"),
            paths=paths,
            visible=view.paths if paths is None else None,
        )


def file_topic(path: str) -> str:
    return f"file:{path}"


def presence_topic(path: str) -> str:
    return f"presence:{path}"


def turn_topic(session_id: str, turn_id: str) -> str:
    return f"turn:{session_id}/{turn_id}"
