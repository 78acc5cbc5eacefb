"""What kind each root is of: the bytes do not say it, only what the root holds."""

from collections.abc import Callable
from typing import Any

import pycrdt
import pytest

from gateway.yjs.roots import kind_of, read_roots
from gateway.yjs.tree import read_tree

Document = pycrdt.Doc[Any]


def _text(document: Document) -> None:
    document.get("root", type=pycrdt.Text).insert(0, "naïve 🙂")


def _types_in_text(document: Document) -> None:
    text = document.get("root", type=pycrdt.Text)
    text.insert_embed(0, pycrdt.Map({"key": "value"}))
    text.insert(1, "naïve 🙂")


def _embed(document: Document) -> None:
    document.get("root", type=pycrdt.Text).insert_embed(0, {"image": "x"})


def _array(document: Document) -> None:
    document.get("root", type=pycrdt.Array).extend([pycrdt.Map({"key": "🙂"}), "naïve 🙂"])


def _array_of_types(document: Document) -> None:
    document.get("root", type=pycrdt.Array).extend([pycrdt.Map({"key": "🙂"}), pycrdt.Text("naïve 🙂")])


def _map(document: Document) -> None:
    root = document.get("root", type=pycrdt.Map)
    root["text"] = "what is written over it does not name the root any more"
    root["text"] = pycrdt.Text("naïve 🙂")
    root["also"] = 1
    root["also"] = True


def _xml(document: Document) -> None:
    document.get("root", type=pycrdt.XmlFragment).children.append(
        pycrdt.XmlElement("p", {}, [pycrdt.XmlText("naïve 🙂")])
    )


def _deleted(document: Document) -> None:
    _text(document)
    document.get("root", type=pycrdt.Text).clear()


WRITTEN: list[tuple[Callable[[Document], None], str | None, Any]] = [
    (_text, "text", "naïve 🙂"),
    (_types_in_text, "text", "naïve 🙂"),
    (_embed, "text", ""),
    (_array, "array", [{"key": "🙂"}, "naïve 🙂"]),
    (_array_of_types, "array", [{"key": "🙂"}, "naïve 🙂"]),
    (_map, "map", {"also": True, "text": "naïve 🙂"}),
    (_xml, "xml", "<p>naïve 🙂</p>"),
    (_deleted, None, None),
]


@pytest.mark.parametrize(
    ("write", "kind", "value"), WRITTEN, ids=[write.__name__.strip("_") for write, _, _ in WRITTEN]
)
def test_a_root_is_of_the_kind_that_what_it_holds_tells(
    write: Callable[[Document], None], kind: str | None, value: Any
) -> None:
    document: Document = pycrdt.Doc()
    write(document)
    assert kind_of(read_tree(document.get_update()).roots["root"]) == kind
    assert read_roots(document.get_update()) == {"root": value}


@pytest.mark.parametrize("first", [_array, _map, _xml], ids=["array", "map", "xml"])
def test_a_root_that_was_used_as_a_text_and_as_something_else_is_read_as_a_text(
    first: Callable[[Document], None],
) -> None:
    """As an array it would be read for ever: yrs does not come to the end of characters beyond ASCII in an array."""
    updates = []
    for client, write in enumerate((first, _text), 1):
        document: Document = pycrdt.Doc(client_id=client)
        write(document)
        updates.append(document.get_update())
    for order in (updates, updates[::-1]):
        mixed: Document = pycrdt.Doc()
        for update in order:
            mixed.apply_update(update)
        assert read_roots(mixed.get_update()) == {"root": "naïve 🙂"}


@pytest.mark.parametrize("depth", [1, 3])
def test_an_array_of_characters_is_read_as_yjs_reads_it(depth: int) -> None:
    """No application makes one, and yrs never comes back from reading it."""
    array = [bytes([7, 0, 1, clock]) + b"\x00" for clock in range(depth - 1)]  # in the one before
    characters = "naïve".encode()
    structs = [b"\x07\x01\x04root\x00", *array, bytes([4, 0, 1, depth - 1, len(characters)]) + characters]
    update = bytes([1, len(structs), 1, 0]) + b"".join(structs) + b"\x00"
    document: Document = pycrdt.Doc()
    document.apply_update(update)
    document.get("other", type=pycrdt.Text).insert(0, "fine")
    expected: Any = list("naïve")
    for _ in range(depth):
        expected = [expected]
    assert read_roots(document.get_update()) == {"other": "fine", "root": expected}
