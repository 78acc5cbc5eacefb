"""The numbered SQL files of the schema, each applied once, in order."""

import re
from importlib import resources

_NAME = re.compile(r"(\d{4})_\w+\.sql")


def migrations(backend: str) -> list[tuple[int, str]]:
    """Return (number, SQL) of every schema file of a backend ("sqlite"), in order: 1, 2, 3 … without gaps."""
    folder = resources.files("storage") / "schema" / backend
    found = sorted(
        (int(match[1]), entry.read_text(encoding="utf-8"))
        for entry in folder.iterdir()
        if (match := _NAME.fullmatch(entry.name))
    )
    if [number for number, _ in found] != list(range(1, len(found) + 1)):
        raise RuntimeError(f"the schema files of {backend} are not numbered without gaps")
    return found
