"""Nesting depth of shared types. Pure."""

from bisect import bisect_right

from gateway.yjs.scan import TYPE, Place, Scan, ScannedStruct

DEEPEST = 5_000
"""The maximum nesting depth of shared types. A deletion makes yrs recurse as deeply; yrs survives 30,000 levels."""

_TYPE_MARKS = bytes(byte for byte in range(256) if byte & 0x1F == TYPE)
"""The first byte of a struct that holds a shared type is one of these."""


class NestedTooDeeply(ValueError):
    """Shared types are nested more deeply than yrs can safely handle."""

    def __init__(self) -> None:
        super().__init__(f"shared types are nested more than {DEEPEST} levels deep")


def most_types(update: bytes) -> int:
    """Return an upper bound on the number of shared types in an update, without parsing the update."""
    return len(update) - len(update.translate(None, _TYPE_MARKS))


def depth(scanned: Scan) -> int:
    """Return the nesting depth of shared types, as far as the update reveals it.

    Raises:
        NestedTooDeeply
    """
    holders = _Holders(scanned)
    levels: dict[Place, int] = {}
    return max((_level(each, holders, levels) for each in scanned.structs if each.kind == TYPE), default=0)


def _level(struct: ScannedStruct, holders: "_Holders", levels: dict[Place, int]) -> int:
    chain: list[Place] = []
    place: Place | None = (struct.client, struct.clock)
    while place is not None and place not in levels:
        chain.append(place)
        if len(chain) > DEEPEST:
            raise NestedTooDeeply
        place = holders.of(place)
    level = 0 if place is None else levels[place]
    for place in reversed(chain):
        level += 1
        levels[place] = level
    if level > DEEPEST:
        raise NestedTooDeeply
    return level


class _Holders:
    """Finds the shared type that holds a struct."""

    def __init__(self, scanned: Scan) -> None:
        self._structs: dict[int, list[ScannedStruct]] = {}
        for struct in scanned.structs:
            self._structs.setdefault(struct.client, []).append(struct)
        self._found: dict[Place, Place | None] = {}

    def of(self, place: Place) -> Place | None:
        """Return the shared type that holds the struct at a place; None for a root, or if the update does not say.

        The search walks from neighbour to neighbour, as only a struct without neighbours names its parent.
        """
        walked: list[Place] = []
        found = None
        struct = self._at(place)
        while struct is not None:
            here = (struct.client, struct.clock)
            if here in self._found:
                found = self._found[here]
                break
            walked.append(here)
            self._found[here] = None  # ends the walk if structs name each other as neighbours
            neighbour = struct.left or struct.right
            if neighbour is None:
                found = struct.parent
                break
            struct = self._at(neighbour)
        self._found.update(dict.fromkeys(walked, found))
        return found

    def _at(self, place: Place) -> ScannedStruct | None:
        client, clock = place
        candidates = self._structs.get(client, [])
        index = bisect_right(candidates, clock, key=lambda candidate: candidate.clock) - 1
        return candidates[index] if index >= 0 else None
