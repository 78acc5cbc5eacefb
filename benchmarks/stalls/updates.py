"""Texts and Yjs updates that are heavy, and how their parts are encoded."""

import random
from collections.abc import Iterable
from functools import cache
from typing import Any

import pycrdt

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SYMBOLS = [chr(0x4E00 + number) for number in range(120)]
"""As many different lines: fewer than that, and a comparison may leave the most frequent out."""


def noise(count: int, alphabet: str = LETTERS) -> str:
    return "".join(random.choices(alphabet, k=count))


def code(lines: int, name: str = "oldName") -> str:
    return "\n".join(f"{number * 7919 % 104729:x} = {name}({number});" for number in range(lines))


def insertions(texts: Iterable[str]) -> list[bytes]:
    """Return an update for each text, which is inserted at the beginning of the root `content`."""
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    content, updates = document.get("content", type=pycrdt.Text), list[bytes]()
    document.observe(lambda event: updates.append(event.update))
    for text in texts:
        content.insert(0, text)
    return updates


@cache
def many_structs(count: int) -> bytes:
    """A text of so many structs: typed backwards, so that none joins its neighbour."""
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
    text = document.get("content", type=pycrdt.Text)
    with document.transaction():
        for number in range(count):
            text.insert(0, LETTERS[number % 26])
    return document.get_update()


@cache
def map_of(entries: int) -> bytes:
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
    document["map"] = pycrdt.Map({f"key {number}": number for number in range(entries)})
    return document.get_update()


@cache
def xml_of(elements: int) -> bytes:
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=5)
    document["xml"] = fragment = pycrdt.XmlFragment()
    with document.transaction():
        for number in range(elements):
            fragment.children.insert(0, pycrdt.XmlElement("p", {"id": str(number)}))
    return document.get_update()


def var_uint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(0x80 | (number & 0x7F))
        number >>= 7
    return bytes([*encoded, number])


def sync(step: int, body: bytes) -> bytes:
    return bytes([0, step]) + var_uint(len(body)) + body


def one_struct(kind: int, content: bytes) -> bytes:
    return b"\1\1\5\0" + bytes([kind]) + b"\1\4root" + content + b"\0"
