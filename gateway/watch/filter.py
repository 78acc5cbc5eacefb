"""Which changes of a project a client wants to hear of. Pure."""

import msgspec
from msgspec import Struct

from gateway.access.grants import Paths, View
from storage import FileHead, TurnHead


class ChangeFilter(Struct, frozen=True):
    """Which changes of a project a client wants to hear of."""

    files: bool = True
    turns: bool = True
    prefix: str = ""
    paths: frozenset[str] | None = None
    """Only these files; None: all."""
    turn: tuple[str, str] | None = None
    """Only this turn of this session, and no files; None: all."""
    visible: Paths | None = None
    """Only files that exist for who asks; None: all."""

    @property
    def topic(self) -> str | None:
        """The one file or turn that it is about; None if it is about more."""
        if self.turn is not None:
            return turn_topic(*self.turn)
        if self.files and not self.turns and self.paths is not None and len(self.paths) == 1 and not self.prefix:
            return file_topic(next(iter(self.paths)))
        return None

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        visible = () if self.visible is None else (*self.visible.folders, *self.visible.files)
        return len(self.prefix) + sum(map(len, self.paths or ())) + sum(map(len, visible))

    def matches(self, head: FileHead | TurnHead) -> bool:
        """Whether a change is part of it."""
        if isinstance(head, TurnHead):
            return self.turns and self.turn in (None, (head.session_id, head.turn_id))
        return (
            self.files
            and head.path.startswith(self.prefix)
            and (self.paths is None or head.path in self.paths)
            and (self.visible is None or head.path in self.visible)
        )

    def seen_by(self, view: View) -> "ChangeFilter":
        """The same without what does not exist for who asks: neither that it changes nor when may be felt."""
        if view.sight is None:
            return self
        paths = None if self.paths is None else frozenset(path for path in self.paths if view.sees(path))
        return msgspec.structs.replace(
            self,
            files=self.files and view.may("read"),
            turns=self.turns and view.sees_turns,
            paths=paths,
            visible=view.paths if paths is None else None,
        )


def file_topic(path: str) -> str:
    return f"file:{path}"


def turn_topic(session_id: str, turn_id: str) -> str:
    return f"turn:{session_id}/{turn_id}"
