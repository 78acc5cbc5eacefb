"""Documents that several tests are about."""

from typing import Any

import pycrdt


def typed_backwards(count: int, client: int = 5) -> pycrdt.Doc[Any]:
    """Return a text of so many structs: none joins its neighbour."""
    made = pycrdt.Doc[Any](client_id=client)
    text = made.get("content", type=pycrdt.Text)
    with made.transaction():
        for number in range(count):
            text.insert(0, "abcdefghij"[number % 10])
    return made
