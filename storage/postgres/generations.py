"""Generations of a database, and the names of epochs and incarnations in them.

When commits are lost, sequences and versions are assigned a second time, to other changes. So that no client takes one
for the other, a new *generation* begins, and with it every epoch and incarnation has another name. No row is rewritten:
a statement that reads a name also reads the generation, in one snapshot, and the name that clients see is made of both.

A stored name that was drawn in a later generation than the first has this generation after a `~`: in its own generation
the name is as it was drawn, and only in later ones it has a suffix.
"""

import secrets

GENERATION = "(SELECT generation FROM cluster)"
"""SQL: '' in the first generation of a database, later `@` and a random name."""
_SUFFIX = "g"
"""Between a name and a generation, both hexadecimal, in what clients see: lower-case letters and digits only."""


def new_generation() -> str:
    return f"@{secrets.token_hex(3)}"


def split_name(read: str) -> tuple[str, str]:
    """Return the stored form and the visible form of a name that was read as `name || GENERATION`."""
    stored, at, now = read.partition("@")
    if not at:
        return stored, stored
    name, _, drawn = stored.partition("~")
    return stored, name if drawn == now else f"{name}{_SUFFIX}{now}"


def drawn_name(visible: str) -> str:
    """Return the part of a visible name that is the same in every generation."""
    return visible.partition(_SUFFIX)[0]


DRAWN_EPOCH = "split_part(p.epoch, '~', 1)"
"""SQL: the same of the stored epoch of a project `p`."""


def generation_of(read: str) -> str:
    """Return the generation in which a name was read."""
    return "".join(read.partition("@")[1:])


def stored_name(visible: str, generation: str) -> str:
    """Return the form in which a name is stored in a generation."""
    if not generation:
        return visible
    name, suffix, _ = visible.partition(_SUFFIX)
    return name if suffix else f"{visible}~{generation[1:]}"
