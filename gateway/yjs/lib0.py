"""lib0 encoding of numbers, strings and buffers (`encoding.js`, `decoding.js`). Pure."""

LARGEST_INTEGER = 2**53 - 1

BEGINNINGS_OF_PAIRS = bytes(range(0xF0, 0xF5))
"""The first UTF-8 bytes of characters that take two UTF-16 code units."""


class MalformedUpdate(ValueError):
    """The bytes are not an update in encoding version 1."""


def uint(data: bytes, at: int) -> tuple[int, int]:
    """Read a variable-length unsigned integer of at most 53 bits; return it and the position after it."""
    value = data[at]
    if value < 0x80:
        return value, at + 1
    value &= 0x7F
    shift = 7
    for place in range(at + 1, at + 10):
        byte = data[place]
        if byte < 0x80:
            value |= byte << shift
            if value > LARGEST_INTEGER:
                break
            return value, place + 1
        value |= (byte & 0x7F) << shift
        shift += 7
    raise MalformedUpdate("an integer is out of range")


def var_bytes(data: bytes) -> bytes:
    """Encode bytes with their length in front, as lib0 writes a string or a buffer."""
    return var_uint(len(data)) + data


def var_uint(number: int) -> bytes:
    """Encode an integer like lib0's `writeVarUint`."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(0x80 | number & 0x7F)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def block(data: bytes, at: int) -> tuple[int, int]:
    """Return the start and end of the bytes of a length-prefixed block."""
    size, at = uint(data, at)
    end = at + size
    if end > len(data):
        raise IndexError
    return at, end


def text_block(data: bytes, at: int) -> tuple[int, int]:
    """Return the start and end of the bytes of a length-prefixed string, checked to be UTF-8."""
    start, end = block(data, at)
    text = data[start:end]
    if not text.isascii():
        text.decode()
    return start, end


def utf16_length(text: bytes) -> int:
    """Return the length of a UTF-8 text in UTF-16 code units."""
    return len(text.decode()) + len(text) - len(text.translate(None, BEGINNINGS_OF_PAIRS))


class Reader:
    """A cursor over bytes that reads them by the rules of lib0's `decoding.js`."""

    __slots__ = ("_bytes", "_position")

    def __init__(self, data: bytes | memoryview) -> None:
        self._bytes = data
        self._position = 0

    @property
    def position(self) -> int:
        """The number of bytes read so far."""
        return self._position

    @property
    def at_end(self) -> bool:
        return self._position == len(self._bytes)

    def ahead(self) -> "Reader":
        """Return a reader of what comes next, by which this one does not move."""
        reader = Reader(self._bytes)
        reader._position = self._position
        return reader

    def byte(self) -> int:
        if self._position >= len(self._bytes):
            raise MalformedUpdate("the bytes end too early")
        self._position += 1
        return self._bytes[self._position - 1]

    def unsigned(self) -> int:
        """Read a variable-length unsigned integer of at most 53 bits."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if value > LARGEST_INTEGER or shift > 63:
                raise MalformedUpdate("an integer is out of range")
            if byte < 0x80:
                return value
            shift += 7

    def skip(self, count: int) -> None:
        if count > len(self._bytes) - self._position:
            raise MalformedUpdate("the bytes end too early")
        self._position += count

    def buffer(self) -> bytes:
        """Read a length-prefixed buffer."""
        return bytes(self.view())

    def view(self) -> bytes | memoryview:
        """Read a length-prefixed buffer; where the data is a view, this is one, too."""
        length = self.unsigned()
        start = self._position
        self.skip(length)
        return self._bytes[start : self._position]

    def text(self) -> str:
        try:
            return self.buffer().decode()
        except UnicodeDecodeError as error:
            raise MalformedUpdate("a string is not UTF-8") from error
