"""Numbers, texts and buffers as lib0 writes and reads them (`encoding.js`, `decoding.js`). Pure."""

LARGEST_INTEGER = 2**53 - 1

BEGINNINGS_OF_PAIRS = bytes(range(0xF0, 0xF5))
"""What a character begins with in UTF-8 that is two UTF-16 code units."""


class MalformedUpdate(ValueError):
    """The bytes are not an update, encoding version 1."""


def uint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length unsigned integer of at most 53 bits, and where the bytes after it begin."""
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
    """Bytes after their length, as lib0 writes a text or a buffer."""
    return var_uint(len(data)) + data


def var_uint(number: int) -> bytes:
    """lib0's `writeVarUint`."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(0x80 | number & 0x7F)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def block(data: bytes, at: int) -> tuple[int, int]:
    """Where the bytes begin and end that stand after their length."""
    size, at = uint(data, at)
    end = at + size
    if end > len(data):
        raise IndexError
    return at, end


def text_block(data: bytes, at: int) -> tuple[int, int]:
    """The same of a text."""
    start, end = block(data, at)
    text = data[start:end]
    if not text.isascii():
        text.decode()
    return start, end


def utf16_length(text: bytes) -> int:
    """How many UTF-16 code units a text in UTF-8 has."""
    return len(text.decode()) + len(text) - len(text.translate(None, BEGINNINGS_OF_PAIRS))


class Reader:
    """A position in bytes, read by the rules of lib0's `decoding.js`."""

    __slots__ = ("_bytes", "_position")

    def __init__(self, data: bytes) -> None:
        self._bytes = data
        self._position = 0

    @property
    def position(self) -> int:
        """How many bytes were read."""
        return self._position

    @property
    def at_end(self) -> bool:
        return self._position == len(self._bytes)

    def byte(self) -> int:
        if self._position >= len(self._bytes):
            raise MalformedUpdate("the bytes end too early")
        self._position += 1
        return self._bytes[self._position - 1]

    def unsigned(self) -> int:
        """A variable-length unsigned integer of at most 53 bits."""
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
        """Bytes after their length."""
        length = self.unsigned()
        start = self._position
        self.skip(length)
        return self._bytes[start : self._position]

    def text(self) -> str:
        try:
            return self.buffer().decode()
        except UnicodeDecodeError as error:
            raise MalformedUpdate("a string is not UTF-8") from error
