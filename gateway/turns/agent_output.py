"""Conversion of a coding agent's output into the blocks of a turn, without I/O.

The dialects (`gateway.turns.dialects`) interpret the lines; this module splits the stream into lines and turns the
dialects' readings into new blocks and new contents of growing blocks. Nothing is dropped: a line that no dialect knows
becomes a `text` block whose content is the line as an object (prose is a string). See docs/turns.md for the details.
"""

import codecs
from collections.abc import Generator, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from gateway.pace import add_piece
from gateway.turns.agent_lines import (
    LONGEST_LIGHT,
    LineRead,
    LongLine,
    effects_in,
    encoded,
    encoded_text,
    is_short,
    is_very_short,
    read_light,
    read_line,
    read_object,
)
from gateway.turns.dialects import Change, Close, Grow, Line, Memory, Outcome, Put
from storage import BlockType, GrownBlock, NewBlock, OutputPosition

_SHOWN = 2000
"""How many characters of a malformed line its error block shows."""
_WINDOW = 16
"""How many blocks may follow a block that still grows."""
_TEXT_BLOCK = 256 * 1024
"""The approximate number of characters of plain text per block."""
_STEP = 200
"""How much is read in one step: lines and changes count, each of which takes some 10 µs, and so do long lines."""
_BYTES_OF_AN_OBJECT, _BYTES_OF_AN_ODD_LINE = 512, 8
"""How many bytes of an object, and of a line that is none, count as one line."""
_PIECE_BYTES = 2**19
"""How many bytes of a long line are copied in one step."""
_MOST_UNSTORED = 1000
"""How many blocks are kept for the next store at most, apart from those of one line."""
_CHANGES_A_SECOND = 10
_GROWTH_A_SECOND = 2 * 2**20
"""The approximate number of bytes of growing blocks that are stored per second."""

Steps: TypeAlias = Generator[LongLine | None, LineRead | None, None]
"""Work in steps: yields a line, and expects what `read_line` returns to be sent back, or yields None to let other tasks
run."""


class _Slot:
    """A block whose current content is not stored, or that may still change."""

    def __init__(self, type: BlockType, ordinal: int) -> None:
        self.type = type
        self.ordinal = ordinal
        """The expected position of the block, unless another client adds blocks."""
        self.position: int | None = None
        """The position of the block; None until it is stored."""
        self.content = b""
        self.text: list[bytes] | None = None
        """The pieces of a growing text, encoded without the quotes."""
        self.size = 0
        self.dirty = True
        self.since: _Slot | None = None
        """The oldest block that was growing when this block was added."""

    def grow(self, text: str | bytes) -> None:
        self.text = self.text or []
        self.text.append(encoded_text(text) if isinstance(text, str) else text)
        self.size += len(text)
        self.dirty = True

    def put(self, content: bytes) -> None:
        self.dirty = self.dirty or self.text is not None or content != self.content
        self.text, self.content, self.size = None, content, len(content)

    def settle(self) -> bytes:
        """Return the current content."""
        if self.text is not None and (self.dirty or not self.content):
            self.text = [b"".join(self.text)]
            self.content = b'"%b"' % self.text[0]
        return self.content


_NOTHING = memoryview(b"")
_FIVE, _BYTES = b"\x95", b"\xc6"
"""What an array of five elements begins with in msgpack, and bytes whose length follows in four bytes."""
_encode = msgspec.msgpack.Encoder().encode


class _State(Struct, array_like=True):
    """The state that the reader keeps between two requests."""

    dialect: str | None = None
    rest: memoryview = _NOTHING
    """The beginning of an incomplete line, which is decoded without a copy."""
    skipping: bool = False
    """Whether the stream is inside a line that is being dropped."""
    memory: Memory = {}
    open: list[tuple[str, BlockType, int, Any]] = []
    """The blocks that may grow: key, type, position, and the text if the block grows piece by piece: encoded, without
    the quotes, unless it is a `str`; else None."""


class AgentOutput:
    """Reads a stream of lines that arrives in arbitrary pieces.

    Args:
        position: where an earlier reader of the stream paused.
        line_limit: the longest line, in bytes; a longer line becomes an error block.
        dialect: the format of the output; None: as detected earlier, or by the first line that a dialect knows.
        block_count: how many blocks the turn has.
        settles: whether nothing read since the last result shows that the run goes on.
    """

    def __init__(
        self,
        position: OutputPosition,
        *,
        line_limit: int,
        dialect: str | None = None,
        block_count: int = 0,
        settles: bool = False,
    ) -> None:
        state = msgspec.msgpack.decode(position.state, type=_State) if position.state else _State()
        self._dialect = dialect or state.dialect
        self._memory = state.memory
        self._rest = state.rest
        """The beginning of a line that is not yet among the pieces."""
        self._pieces = list[bytes]()
        self._size = len(state.rest)
        self._offset = position.offset - len(state.rest)
        self._skipping = state.skipping
        self._line_limit = line_limit
        self._next = block_count
        self._open: dict[str, _Slot] = {}
        for key, kind, place, text in state.open:
            slot = self._open[key] = _Slot(kind, place)
            slot.position, slot.dirty = place, False
            slot.text = None if text is None else [encoded_text(text) if isinstance(text, str) else text]
            slot.size = len(text or "")
        self._slots: list[_Slot] = list(self._open.values())
        """The open blocks and those whose current content is not stored, in order."""
        self._stored_offset = position.offset
        self.outcome: Outcome | None = None
        """The outcome of the last result since `stored`, if any."""
        self.settles = settles
        """Whether nothing since the last result shows that the run goes on."""
        self.urgent = False
        """Whether there is more to store than grown blocks."""
        self._done = 0
        """How much was read in this step."""
        self._is_between_lines = False

    @property
    def is_text(self) -> bool:
        """Whether the stream is plain text, which has no result."""
        return self._dialect == "text"

    @property
    def advanced(self) -> bool:
        """Whether there is something to store."""
        return self._offset > self._stored_offset

    @property
    def only_grows(self) -> bool:
        """Whether there are only grown blocks to store."""
        return not self.urgent and any(slot.dirty for slot in self._slots)

    @property
    def pace(self) -> float:
        """How many seconds after the last write grown blocks are to be stored."""
        dirty = sum(slot.size for slot in self._slots if slot.dirty)
        return max(1 / _CHANGES_A_SECOND, dirty / _GROWTH_A_SECOND)

    @property
    def is_full(self) -> bool:
        """Whether what was read is to be stored before more is read; only between two lines."""
        return self._is_between_lines and len(self._slots) >= _MOST_UNSTORED

    # Reading

    def feed(self, data: bytes) -> Steps:
        """Read the next bytes of the stream."""
        yield from self._take_rest()
        if self.is_text:
            self._take_text(data)
            return
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            yield from self._end_line(data[start:end], 1)
            start = end + 1
            self._done += 1
            if self._done >= _STEP:
                self._is_between_lines = True
                yield from self._pause_step()
                self._is_between_lines = False
        self._keep(data[start:])

    def _pause_step(self) -> Steps:
        self._done = 0
        yield None

    def pause(self, *, final: bool = False) -> Steps:
        """Read a last line without a line break if it is complete, or if the stream has ended.

        A proper prefix of a JSON object is never valid JSON, so a line that parses as an object is complete.
        """
        yield from self._take_rest()
        if self.is_text:
            if final and self._pieces:
                self._offset += self._size
                self._grow(Grow("text", "text", self._drain().decode("utf-8", "replace")))
        elif self._pieces and final:
            yield from self._end_line(b"", 0)
        elif self._pieces and self._may_be_whole():
            pieces, size = self._pieces, self._size
            if (yield from self._take_line(pieces, size, whole=False)):
                self._offset += size
                self._pieces, self._size = [], 0

    def _take_rest(self) -> Steps:
        """Take in the beginning of a line that an earlier reader left, a piece in each step."""
        rest, self._rest = self._rest, _NOTHING
        for start in range(0, len(rest), _PIECE_BYTES):
            self._pieces.append(bytes(rest[start : start + _PIECE_BYTES]))
            if len(rest) > _PIECE_BYTES:
                yield from self._pause_step()

    def _may_be_whole(self) -> bool:
        """Whether an unfinished line is blank, or ends as an object does."""
        for piece in reversed(self._pieces):
            if end := bytes(piece[-_SHOWN:]).rstrip():
                return end.endswith(b"}")
            if len(piece) > _SHOWN:
                return False
        return True

    def _take_text(self, data: bytes) -> None:
        data = self._drain() + data
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(data)
        rest = decoder.getstate()[0]
        self._offset -= len(rest)
        self._pieces, self._size = ([rest], len(rest)) if rest else ([], 0)
        self._offset += len(data)
        if text:
            slot = self._open.get("text")
            if slot is not None and slot.size > _TEXT_BLOCK:
                self._apply(Close())
            self._grow(Grow("text", "text", text))

    @property
    def line_bytes(self) -> int:
        """The size of the beginning of a line whose end has not arrived."""
        return self._size

    def _drain(self) -> bytes:
        rest = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return rest

    def _end_line(self, piece: bytes, line_break: int) -> Steps:
        """Read the line that ends with `piece`."""
        size = self._size + len(piece)
        skipped, self._skipping = self._skipping, False
        pieces, self._pieces, self._size = [*self._pieces, piece], [], 0
        if not skipped:
            if size > self._line_limit:
                self._apply(self._too_long())
            else:
                yield from self._take_line(pieces, size)
        self._offset += size + line_break

    def _keep(self, rest: bytes) -> None:
        """Buffer the beginning of a line."""
        if self._skipping:
            self._offset += len(rest)
        elif rest:
            add_piece(self._pieces, rest)
            self._size += len(rest)
            if self._size > self._line_limit:
                self._offset += self._size
                self._pieces, self._size, self._skipping = [], 0, True
                self._apply(self._too_long())

    def _too_long(self) -> Put:
        return Put("error", {"message": f"a line of more than {self._line_limit} bytes was dropped", "line": None})

    def _take_line(
        self, pieces: list[bytes], size: int, *, whole: bool = True
    ) -> Generator[LongLine | None, LineRead | None, bool]:
        """Apply what a line does; False, and nothing is applied, if it is not known to be whole and cannot be read."""
        read: LineRead | None = None
        asked = LongLine(pieces, self._dialect, self._memory)
        if size <= LONGEST_LIGHT:
            line = b"".join(pieces)
            if is_short(line):
                if not line.strip():
                    return True
            else:
                yield from self._pause_step()
            self._done += size // _BYTES_OF_AN_OBJECT
            value = read_light(line)
            if value is not None:
                yield from self._take(value)
                return True
            if is_very_short(line):
                self._done += size // _BYTES_OF_AN_ODD_LINE
                read = read_line(asked)
        if read is None:
            read = yield asked
            assert read is not None
        if read.fault is not None:
            if whole:
                self._apply(_malformed(pieces, read.fault))
            return whole
        self._dialect, self._memory = read.dialect, read.memory
        for part in read.slices:
            for effect in effects_in(part):
                if effect.change is not None:
                    self._apply(effect.change)
                self._note(effect.outcome, works=effect.works)
            if len(read.slices) > 1:
                yield from self._pause_step()
        return True

    def _take(self, line: Line) -> Steps:
        self._dialect, reading = read_object(line, self._dialect, self._memory)
        for change in reading.changes:
            self._apply(change)
            self._done += 1
            if self._done >= _STEP:
                yield from self._pause_step()
        self._note(reading.outcome, works=reading.works)

    def _note(self, outcome: Outcome | None, *, works: bool) -> None:
        if outcome is not None:
            self.outcome, self.settles, self.urgent = outcome, True, True
        elif works:
            self.settles = False

    # Blocks

    def _apply(self, change: Change) -> None:
        match change:
            case Grow():
                self._grow(change)
            case Close():
                self._open.clear()
            case Put(key=None):
                self._add(change.type).put(_content(change))
                self.urgent = True
            case Put(key=str(key)):
                slot = self._open.pop(key, None)
                if slot is None or slot.type != change.type:
                    slot = self._add(change.type, key if change.open else None)
                elif change.open:
                    self._open[key] = slot
                slot.put(_content(change))

    def _grow(self, change: Grow) -> None:
        slot = self._open.get(change.key)
        if slot is None or slot.type != change.type:
            slot = self._add(change.type, change.key)
        slot.grow(change.text)

    def _add(self, kind: BlockType, key: str | None = None) -> _Slot:
        """Add a block at the end; with a key the block stays open."""
        for old, slot in list(self._open.items()):
            if self._next - slot.ordinal >= _WINDOW:
                del self._open[old]
        slot = _Slot(kind, self._next)
        self._next += 1
        if key is not None:
            self._open[key] = slot
        slot.since = min(self._open.values(), key=lambda each: each.ordinal, default=None)
        self._slots.append(slot)
        return slot

    # Storing

    def to_store(self, block_count: int) -> tuple[tuple[NewBlock, ...], tuple[GrownBlock, ...]]:
        """Return the new blocks, to be appended after `block_count` blocks, and the new contents of stored blocks."""
        new: list[NewBlock] = []
        grown: list[GrownBlock] = []
        places: dict[int, int] = {}
        for slot in self._slots:
            if slot.position is None:
                places[id(slot)] = block_count + len(new)
                told_from = None
                if slot.since is not None:
                    told_from = places.get(id(slot.since), slot.since.position)
                new.append(NewBlock(slot.type, slot.settle(), told_from))
            elif slot.dirty:
                grown.append(GrownBlock(slot.position, slot.settle()))
        return tuple(new), tuple(grown)

    def position(self, block_count: int, *, paused: bool = False) -> OutputPosition:
        """Return where the next reader continues once `to_store` is stored: after the last complete line, or within a
        line if `paused`."""
        state = b"".join(self.state_parts(block_count, paused=paused))
        return OutputPosition(self.end if paused else self._offset, state)

    @property
    def offset(self) -> int:
        """Up to where complete lines were read."""
        return self._offset

    @property
    def end(self) -> int:
        """Up to where the output was read, within a line or not."""
        return self._offset + self._size

    def state_parts(self, block_count: int, *, paused: bool) -> list[bytes]:
        """Return the state of `position`, yet to be joined: it may hold the beginning of a long line."""
        place, opened = block_count, {}
        for slot in self._slots:
            opened[id(slot)] = place if slot.position is None else slot.position
            place += slot.position is None
        rest = self._pieces if paused else []
        size = self._size if paused else 0
        grown = [
            (key, slot.type, opened[id(slot)], None if slot.text is None else b"".join(slot.text))
            for key, slot in self._open.items()
        ]
        if not (self._dialect or size or self._skipping or self._memory or grown):
            return []
        # The array that `_State` is: its elements are encoded one by one.
        head = _FIVE + _encode(self._dialect) + _BYTES + size.to_bytes(4)
        return [head, *rest, _encode(self._skipping) + _encode(self._memory) + _encode(grown)]

    def stored(self, block_count: int) -> None:
        """Note that the result of `to_store(block_count)` has been stored."""
        for slot in self._slots:
            if slot.position is None:
                slot.position = slot.ordinal = block_count
                block_count += 1
            slot.dirty, slot.since = False, None
        self._next = block_count
        self._slots = sorted(self._open.values(), key=lambda slot: slot.ordinal)
        self._stored_offset = max(self._offset, self._stored_offset)
        self.outcome, self.urgent = None, False


def state_fault(position: OutputPosition, block_count: int) -> str | None:
    """Return why no reader can continue from a position in the output of a turn; None if a reader can."""
    if not position.state:
        return None
    try:
        state = msgspec.msgpack.decode(position.state, type=_State)
    except msgspec.DecodeError as error:
        return f"what the reader of its output remembers cannot be read: {error}"
    if len(state.rest) > position.offset:
        return "the reader of its output remembers more than it has read"
    if any(not 0 <= place < block_count for _, _, place, _ in state.open):
        return "the reader of its output remembers a block that is not there"
    return None


def _content(change: Put) -> bytes:
    return change.content if isinstance(change.content, bytes) else encoded(change.content)


def _malformed(pieces: Sequence[bytes], fault: str) -> Put:
    """Return the block of a line that cannot be read."""
    line = b""
    for piece in pieces:
        line += piece[: 4 * _SHOWN - len(line)]
        if len(line) == 4 * _SHOWN:
            break
    message = f"a line of the agent's output could not be read: {fault}"
    beginning = line.strip().decode(errors="replace")[:_SHOWN]
    return Put("error", {"message": message, "line": beginning})
