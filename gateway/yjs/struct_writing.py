"""Writer of one client's structs as an update, encoding version 1 (yjs: `src/structs/Item.js`, `write`). Pure."""

from gateway.yjs.lib0 import var_bytes, var_uint
from gateway.yjs.scan import Place

_HAS_LEFT, _HAS_RIGHT, _HAS_KEY = 0x80, 0x40, 0x20


class StructWriter:
    """Builds an update by a client whose next clock is `clock`."""

    def __init__(self, client: int, clock: int) -> None:
        self._client = client
        self._start = self._clock = clock
        self._structs: list[bytes] = []
        self._deleted: dict[int, list[tuple[int, int]]] = {}

    @property
    def changes(self) -> int:
        """The number of structs and deleted ranges written so far."""
        return len(self._structs) + sum(map(len, self._deleted.values()))

    def add(
        self,
        kind: int,
        content: bytes,
        length: int,
        beside: tuple[Place | None, Place | None],
        parent: str | Place,
        key: str | None = None,
    ) -> Place:
        """Insert a content; return its first place.

        Args:
            beside: the left and the right neighbour of the content.
            parent: the root or the shared type that holds the content.
            key: the key whose value the content becomes, if any.
        """
        left, right = beside
        info = kind | (_HAS_LEFT if left else 0) | (_HAS_RIGHT if right else 0) | (_HAS_KEY if key is not None else 0)
        parts = [bytes([info]), *(_place(origin) for origin in beside if origin)]
        if not left and not right:
            parts.append(b"\x01" + var_bytes(parent.encode()) if isinstance(parent, str) else b"\x00" + _place(parent))
            if key is not None:
                parts.append(var_bytes(key.encode()))
        self._structs.append(b"".join([*parts, content]))
        place = (self._client, self._clock)
        self._clock += length
        return place

    def delete(self, place: Place, length: int) -> None:
        """Delete a range."""
        self._deleted.setdefault(place[0], []).append((place[1], length))

    def update(self) -> bytes | None:
        """Return the update with all that was written; None if nothing was."""
        if not self.changes:
            return None
        parts = [var_uint(1 if self._structs else 0)]
        if self._structs:
            parts += [var_uint(len(self._structs)), var_uint(self._client), var_uint(self._start), *self._structs]
        parts.append(var_uint(len(self._deleted)))
        for client, ranges in self._deleted.items():
            joined = _joined(sorted(ranges))
            parts += [var_uint(client), var_uint(len(joined))]
            parts += [var_uint(clock) + var_uint(length) for clock, length in joined]
        return b"".join(parts)


def _place(place: Place) -> bytes:
    return var_uint(place[0]) + var_uint(place[1])


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for clock, length in ranges:
        if joined and sum(joined[-1]) >= clock:
            first = joined[-1][0]
            joined[-1] = (first, max(sum(joined[-1]), clock + length) - first)
        else:
            joined.append((clock, length))
    return joined
