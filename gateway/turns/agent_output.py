"""Conversion of a coding agent's output into the blocks of a turn, without I/O.

The dialects (`gateway.turns.dialects`) interpret the lines; this module splits the stream into lines and turns the
dialects' readings into new blocks and new contents of growing blocks. Nothing is dropped: a line that no dialect knows
becomes a `text` block whose content is the line as an object (prose is a string). See docs/turns.md for the details.
"""

import codecs
from collections.abc import Generator
from typing import TypeAlias

import msgspec
from msgspec import Struct

from gateway.turns.agent_lines import Prepared, encoded, has_few_values, is_short, prepare, read_light
from gateway.turns.dialects import DIALECTS, Change, Close, Grow, Line, Memory, Outcome, Put, Reading, dialect_of
from storage import BlockType, GrownBlock, NewBlock, OutputPosition

_SHOWN = 2000
"""How many characters of a malformed line its error block shows."""
_WINDOW = 16
"""How many blocks may follow a block that still grows."""
_TEXT_BLOCK = 256 * 1024
"""The approximate number of characters of plain text per block."""
_LINES_AT_ONCE = 200
_CHANGES_A_SECOND = 10
_GROWTH_A_SECOND = 2 * 2**20
"""The approximate number of bytes of growing blocks that are stored per second."""

Steps: TypeAlias = Generator[bytes | None, Prepared | None, None]
"""Work in steps: yields a line, and expects its `Prepared` to be sent back, or yields None to let other tasks run."""


class _Slot:
    """A block whose current content is not stored, or that may still change."""

    def __init__(self, type: BlockType, ordinal: int) -> None:
        self.type = type
        self.ordinal = ordinal
        """The expected position of the block, unless another client adds blocks."""
        self.position: int | None = None
        """The position of the block; None until it is stored."""
        self.content = b""
        self.text: list[str] | None = None
        """The pieces of a growing text."""
        self.size = 0
        self.dirty = True
        self.since: _Slot | None = None
        """The oldest block that was growing when this block was added."""

    def grow(self, text: str) -> None:
        self.text = self.text or []
        self.text.append(text)
        self.size += len(text)
        self.dirty = True

    def put(self, content: bytes) -> None:
        self.dirty = self.dirty or self.text is not None or content != self.content
        self.text, self.content, self.size = None, content, len(content)

    def settle(self) -> bytes:
        """Return the current content."""
        if self.text is not None:
            self.text = ["".join(self.text)]
            self.content = encoded(self.text[0])
        return self.content


class _State(Struct, array_like=True):
    """The state that the reader keeps between two requests."""

    dialect: str | None = None
    rest: bytes = b""
    """The beginning of an incomplete line."""
    skipping: bool = False
    """Whether the stream is inside a line that is being dropped."""
    memory: Memory = {}
    open: list[tuple[str, BlockType, int, str | None]] = []
    """The blocks that may grow: key, type, position, and the text if the block grows piece by piece."""


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
        self._pieces = [state.rest] if state.rest else []
        self._size = len(state.rest)
        self._offset = position.offset - len(state.rest)
        self._skipping = state.skipping
        self._line_limit = line_limit
        self._next = block_count
        self._open: dict[str, _Slot] = {}
        for key, kind, place, text in state.open:
            slot = self._open[key] = _Slot(kind, place)
            slot.position, slot.dirty = place, False
            slot.text = None if text is None else [text]
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
        self._long = False
        """Whether the line that is being read is long."""

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

    # Reading

    def feed(self, data: bytes) -> Steps:
        """Read the next bytes of the stream."""
        if self.is_text:
            self._take_text(data)
            return
        start = lines = 0
        while (end := data.find(b"\n", start)) >= 0:
            yield from self._end_line(data[start:end], 1)
            start = end + 1
            lines += 1
            if lines % _LINES_AT_ONCE == 0:
                yield None
        self._keep(data[start:])

    def pause(self, *, final: bool = False) -> Steps:
        """Read a last line without a line break if it is complete, or if the stream has ended.

        A proper prefix of a JSON object is never valid JSON, so a line that parses as an object is complete.
        """
        if self.is_text:
            if final and self._pieces:
                self._offset += self._size
                self._grow(Grow("text", "text", self._drain().decode("utf-8", "replace")))
        elif self._pieces and (final or (yield from self._is_whole(b"".join(self._pieces).strip()))):
            yield from self._end_line(b"", 0)

    def _is_whole(self, line: bytes) -> Generator[bytes | None, Prepared | None, bool]:
        if not line.endswith(b"}"):
            return not line
        # A long line with very many values waits for its line break.
        return (yield from self._read(line)) is not None or (is_short(line) and prepare([line]).fault is None)

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
        self._pieces.append(piece)
        line = self._drain()
        if not is_short(line):  # to copy it takes as long as to read it
            yield None
        if not skipped:
            if size > self._line_limit:
                self._apply(self._too_long())
            else:
                yield from self._take_line(line.strip())
        self._offset += size + line_break

    def _keep(self, rest: bytes) -> None:
        """Buffer the beginning of a line."""
        if self._skipping:
            self._offset += len(rest)
        elif rest:
            self._pieces.append(rest)
            self._size += len(rest)
            if self._size > self._line_limit:
                self._offset += self._size
                self._pieces, self._size, self._skipping = [], 0, True
                self._apply(self._too_long())

    def _too_long(self) -> Put:
        return Put("error", {"message": f"a line of more than {self._line_limit} bytes was dropped", "line": None})

    def _take_line(self, line: bytes) -> Steps:
        if not line:
            return
        self._long = not is_short(line)
        values: list[Line] | None = yield from self._read(line)
        if values is None:
            prepared = prepare([line]) if is_short(line) else (yield line)
            assert prepared is not None
            if prepared.fault is not None:
                self._apply(_malformed(line, prepared.fault))
            values = [msgspec.json.decode(each) for each in prepared.objects]
        if self._long and values:  # a long text takes as long to decode as to encode
            yield None
        for value in values:
            self._take(value)

    def _read(self, line: bytes) -> Generator[bytes | None, Prepared | None, list[Line] | None]:
        """Parse a line; None if it must go through `prepare`. A long one is examined and parsed in a step each."""
        if not is_short(line):
            yield None
            if not has_few_values(line):
                return None
            yield None
        return read_light(line)

    def _take(self, line: Line) -> None:
        """Apply a line's reading. A line that its dialect does not know is kept as it is."""
        if self._dialect is None and (found := dialect_of(line)) is not None:
            self._dialect = found.name
        known = DIALECTS.get(self._dialect or "")
        reading = (known and known.read(line, self._memory)) or Reading([Put("text", line)])
        for change in reading.changes:
            self._apply(change)
        if reading.outcome is not None:
            self.outcome, self.settles, self.urgent = reading.outcome, True, True
        elif reading.works:
            self.settles = False

    # Blocks

    def _apply(self, change: Change) -> None:
        match change:
            case Grow():
                self._grow(change)
            case Close():
                self._open.clear()
            case Put(key=None):
                self._add(change.type).put(encoded(change.content, long=self._long))
                self.urgent = True
            case Put(key=str(key)):
                slot = self._open.pop(key, None)
                if slot is None or slot.type != change.type:
                    slot = self._add(change.type, key if change.open else None)
                elif change.open:
                    self._open[key] = slot
                slot.put(encoded(change.content, long=self._long))

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
        place, opened = block_count, {}
        for slot in self._slots:
            opened[id(slot)] = place if slot.position is None else slot.position
            place += slot.position is None
        state = _State(
            self._dialect,
            b"".join(self._pieces) if paused else b"",
            self._skipping,
            self._memory,
            [
                (key, slot.type, opened[id(slot)], None if slot.text is None else "".join(slot.text))
                for key, slot in self._open.items()
            ],
        )
        return OutputPosition(
            self._offset + len(state.rest), b"" if state == _State() else msgspec.msgpack.encode(state)
        )

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


def _malformed(line: bytes, fault: str) -> Put:
    message = f"a line of the agent's output could not be read: {fault}"
    return Put("error", {"message": message, "line": line[: 4 * _SHOWN].decode(errors="replace")[:_SHOWN]})
