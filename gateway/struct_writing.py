"""Writes structs of an update, encoding version 1, that pycrdt cannot make. Pure."""

from collections.abc import Sequence

from gateway.structs import Reader, read_structs

_CONTENT_TYPE, _CONTENT_DOC, _CONTENT_BITS = 7, 9, 0x1F
_EMPTY_MAP = b"\x01"
"""A shared type of the kind `Y.Map`, as the content of a struct."""

_XML_ELEMENT, _XML_FRAGMENT, _XML_TEXT = 3, 4, 6
_NO_OPTIONS = b"\x76\x00"
"""`{}` by lib0's `writeAny`."""

# The content of a struct: the number of its kind, and its bytes.
XML_FRAGMENT_CONTENT = bytes([_CONTENT_TYPE, _XML_FRAGMENT])
XML_TEXT_CONTENT = bytes([_CONTENT_TYPE, _XML_TEXT])


def xml_element_content(tag: str) -> bytes:
    return bytes([_CONTENT_TYPE, _XML_ELEMENT]) + _text(tag)


def subdocument_content(guid: str) -> bytes:
    """A subdocument without options."""
    return bytes([_CONTENT_DOC]) + _text(guid) + _NO_OPTIONS


def retype_maps(update: bytes, client: int, contents: Sequence[bytes | None]) -> bytes:
    """Make empty maps that a client inserted something else.

    Args:
        contents: for each shared type that the client makes in the update, in order: the number of the kind of content
            and the content that a map is to be replaced with, or None where it stays.
    """
    reader = Reader(update)
    parts: list[bytes] = []
    done = 0
    made = iter(contents)
    for struct, _ in read_structs(reader):
        if struct.client != client or struct.node is None:
            continue
        content = next(made)
        if content is None:
            continue
        if update[reader.position - 1 : reader.position] != _EMPTY_MAP or struct.start < done:
            raise ValueError("a map was expected here")
        kind = update[struct.start] & ~_CONTENT_BITS | content[0]
        parts += [
            update[done : struct.start],
            bytes([kind]),
            update[struct.start + 1 : reader.position - 1],
            content[1:],
        ]
        done = reader.position
    return b"".join([*parts, update[done:]])


def _text(text: str) -> bytes:
    encoded = text.encode()
    return var_uint(len(encoded)) + encoded


def var_uint(number: int) -> bytes:
    """lib0's `writeVarUint`."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(0x80 | number & 0x7F)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
