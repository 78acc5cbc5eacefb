"""How deeply shared types are nested in each other. Pure."""

from gateway.structs import Containers, Place, Reader, Struct, read_structs

DEEPEST = 5_000
"""How many levels shared types may be nested. A deletion nests calls of yrs as deeply: 30,000 it survives."""

_TYPE_MARKS = bytes(byte for byte in range(256) if byte & 0x1F == 7)
"""The first byte of a struct that holds a shared type is one of these."""


class NestedTooDeeply(ValueError):
    """Shared types are nested more deeply than yrs can be trusted with."""

    def __init__(self) -> None:
        super().__init__(f"shared types are nested more than {DEEPEST} levels deep")


def most_types(update: bytes) -> int:
    """How many shared types an update holds at most; told without reading it."""
    return len(update) - len(update.translate(None, _TYPE_MARKS))


def count_types(update: bytes) -> int:
    """How many shared types an update holds.

    Raises:
        MalformedUpdate
    """
    if not most_types(update):
        return 0
    return sum(struct.node is not None for struct, _ in read_structs(Reader(update)))


def depth(update: bytes) -> int:
    """How many shared types are nested in each other, as far as an update tells.

    Raises:
        MalformedUpdate, NestedTooDeeply
    """
    structs = [struct for struct, _ in read_structs(Reader(update))]
    containers = Containers(structs)
    levels: dict[Place, int] = {}
    return max((_level(struct, containers, levels) for struct in structs if struct.node is not None), default=0)


def _level(struct: Struct, containers: Containers, levels: dict[Place, int]) -> int:
    chain: list[Place] = []
    place: str | Place | None = (struct.client, struct.clock)
    while isinstance(place, tuple) and place not in levels:
        chain.append(place)
        if len(chain) > DEEPEST:
            raise NestedTooDeeply
        holder = containers.at(place)
        place = None if holder is None else containers.of(holder)[0]
    level = levels[place] if isinstance(place, tuple) else 0
    for place in reversed(chain):
        level += 1
        levels[place] = level
    if level > DEEPEST:
        raise NestedTooDeeply
    return level
