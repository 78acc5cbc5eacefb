"""The only way to read and write sessions and turns: applies the rules of `lifecycle` to the storage."""

import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec import Struct

from gateway.turns.agent_output import AgentOutput
from gateway.turns.lifecycle import (
    add_blocks,
    as_created,
    new_id,
    require_unfinished,
    set_status,
)
from gateway.turns.output import OutputOptions, OutputRequest, UnfinishedLines
from gateway.watch.hub import Hub
from gateway.wire.problems import (
    BlockConflict,
    KeyReused,
    OutputConflict,
    SessionNotFound,
    TurnNotFound,
    WriteContention,
    after_a_write,
)
from storage import (
    AlreadyDone,
    CreateSession,
    CreateTurn,
    Done,
    NewBlock,
    Once,
    OutputPosition,
    SessionHead,
    Storage,
    StoredTurn,
    TurnConflict,
    TurnHead,
    TurnStatus,
    UpdateTurn,
    wall_clock,
)

MOST_BLOCKS_READ = 10_000
"""How many blocks are read, and answered, at once: in about 15 ms."""
LISTED_PROMPT_LENGTH = 1000
"""How many characters of each prompt a list of turns contains."""
T = TypeVar("T")

_ATTEMPTS = 32
"""How many times a write is tried when concurrent writes get ahead of it."""


class AddedBlocks(Struct, frozen=True, gc=False):
    """The position of a batch of blocks, and the state of the turn just after it."""

    first_index: int
    block_count: int
    last_updated: int


class Turns:
    """Reads and writes the sessions and turns of all projects.

    Every method raises the problems (`gateway.wire.problems`) to report to the client, and StorageError.

    Args:
        lease: how many seconds a running turn may be silent.
        grace: seconds after which a result ends a turn whose sender does not say when the output ends.
        line_limit: the longest line of an agent's output, in bytes.
        lines_limit: the maximum of bytes of unfinished lines that are held of all output.
    """

    def __init__(
        self, storage: Storage, hub: Hub, *, lease: float, grace: float, line_limit: int, lines_limit: int = 256 * 2**20
    ) -> None:
        self.unfinished_lines = UnfinishedLines(lines_limit)
        self._storage = storage
        self._hub = hub
        self.lease = lease
        self.grace = grace
        self._line_limit = line_limit

    # Sessions

    async def create_session(self, project: str, title: str | None, once: Once | None = None) -> SessionHead:
        async def create() -> SessionHead:
            change = CreateSession(_fresh_id(), title, once)
            return (await self._storage.create_session(project, change)).session

        return await self._made_once(project, once, create, lambda done: self.session(project, done.session_id))

    async def session(self, project: str, session_id: str) -> SessionHead:
        session = await self._storage.session(project, session_id)
        if session is None:
            await self._hub.require(project)
            raise SessionNotFound(session_id)
        return session

    async def sessions(self, project: str, after: str | None, limit: int) -> list[SessionHead]:
        """List the sessions of a project, newest first."""
        await self._hub.require(project)
        return await self._storage.sessions(project, after=after, limit=limit)

    # Reading turns

    async def head(self, project: str, session_id: str, turn_id: str) -> TurnHead:
        """Return a turn's newest state, from memory if it is known there."""
        watched = await self._hub.require(project)
        head = await self._hub.turn(watched, project, session_id, turn_id)
        return head or await self._stored_head(project, session_id, turn_id)

    async def _stored_head(self, project: str, session_id: str, turn_id: str) -> TurnHead:
        head = await self._storage.turn_head(project, session_id, turn_id)
        if head is None:
            await self.session(project, session_id)
            raise TurnNotFound(turn_id)
        return head

    async def read(
        self, project: str, session_id: str, turn_id: str, after_block: int, most_bytes: int | None = None
    ) -> StoredTurn:
        """Read a turn without its first `after_block` blocks: as many as fit into `most_bytes`, but not very many."""
        turn = await self._storage.read_turn(
            project, session_id, turn_id, after_block=after_block, limit=MOST_BLOCKS_READ, most_bytes=most_bytes
        )
        if turn is None:
            await self.session(project, session_id)
            raise TurnNotFound(turn_id)
        return turn

    async def turns(self, project: str, session_id: str, after: str | None, limit: int) -> list[StoredTurn]:
        """List the turns of a session, newest first, without their blocks."""
        turns = await self._storage.turns(
            project, session_id, after=after, limit=limit, prompt_length=LISTED_PROMPT_LENGTH
        )
        if not turns:
            await self.session(project, session_id)
        return turns

    # Writing turns

    async def create(self, project: str, session_id: str, prompt: str, once: Once | None = None) -> TurnHead:
        """Create a pending turn."""

        async def create() -> TurnHead:
            await self.session(project, session_id)
            change = CreateTurn(session_id, _fresh_id(), prompt, once)
            return (await self._storage.write_turn(project, change)).turn

        async def created(done: Done) -> TurnHead:
            assert done.turn_id is not None
            return as_created(await self._stored_head(project, done.session_id, done.turn_id))

        return await self._made_once(project, once, create, created)

    async def _made_once(
        self,
        project: str,
        once: Once | None,
        make: Callable[[], Awaitable[T]],
        made: Callable[[Done], Awaitable[T]],
    ) -> T:
        """Make a change that may have an idempotency key; if it was made before, return its result again (`made`)."""
        if once is None:
            return await make()
        done = await self._storage.done(project, once.key)
        if done is None:
            try:
                return await make()
            except AlreadyDone as error:  # the first request was still in progress
                done = error.done
        if done.digest != once.digest:
            raise KeyReused
        return await made(done)

    async def set_status(
        self, project: str, session_id: str, turn_id: str, status: TurnStatus, error: str | None
    ) -> StoredTurn:
        """Change the status of a turn."""
        head = await self.write(project, session_id, turn_id, lambda head: set_status(head, status, error))
        with after_a_write():
            turn = await self.read(project, session_id, turn_id, head.block_count)
        return StoredTurn(head, turn.prompt)

    async def append_blocks(
        self,
        project: str,
        session_id: str,
        turn_id: str,
        blocks: tuple[NewBlock, ...],
        first_index: int | None,
        once: Once | None = None,
    ) -> AddedBlocks:
        """Append blocks. With `first_index`, a batch that is already stored there changes nothing."""

        async def append() -> AddedBlocks:
            return await self._append_blocks(project, session_id, turn_id, blocks, first_index, once)

        async def appended(done: Done) -> AddedBlocks:
            return AddedBlocks(done.block_count - len(blocks), done.block_count, done.done_at)

        return await self._made_once(project, once, append, appended)

    async def _append_blocks(
        self,
        project: str,
        session_id: str,
        turn_id: str,
        blocks: tuple[NewBlock, ...],
        first_index: int | None,
        once: Once | None,
    ) -> AddedBlocks:
        head = await self._stored_head(project, session_id, turn_id)
        if first_index is not None and first_index != head.block_count:
            return await self._stored_batch(project, head, blocks, first_index)

        def add(head: TurnHead) -> UpdateTurn:
            if first_index is not None and first_index != head.block_count:
                raise BlockConflict(first_index, head.block_count)
            return add_blocks(head, blocks, once)

        head = await self.write(project, session_id, turn_id, add)
        return AddedBlocks(head.block_count - len(blocks), head.block_count, head.last_updated)

    async def _stored_batch(
        self, project: str, head: TurnHead, blocks: tuple[NewBlock, ...], first_index: int
    ) -> AddedBlocks:
        """Return the answer of the first request if this one repeats it.

        Raises:
            BlockConflict
        """
        stored = await self._storage.read_blocks(
            project,
            head.session_id,
            head.turn_id,
            after_block=first_index,
            limit=len(blocks),
            most_bytes=sum(len(block.content) for block in blocks),
        )
        if [(block.type, block.content) for block in stored] != [(block.type, block.content) for block in blocks]:
            raise BlockConflict(first_index, head.block_count)
        return AddedBlocks(first_index, first_index + len(blocks), stored[-1].created_at)

    async def write(
        self, project: str, session_id: str, turn_id: str, change_of: Callable[[TurnHead], UpdateTurn]
    ) -> TurnHead:
        """Write the change that `change_of` derives from the newest state of a turn."""
        for _ in range(_ATTEMPTS):
            change = change_of(await self._stored_head(project, session_id, turn_id))
            try:
                return (await self._storage.write_turn(project, change)).turn
            except TurnConflict:
                continue
        raise WriteContention(turn_id)

    async def open_output(
        self, project: str, session_id: str, turn_id: str, offset: int | None, asked: OutputOptions
    ) -> OutputRequest:
        """Start receiving a piece of an agent's output that begins at byte `offset` of the whole output (None: where
        the last piece ended)."""
        head = await self._stored_head(project, session_id, turn_id)
        if offset is None:
            require_unfinished(head)
            offset = head.output_offset
        if offset > head.output_offset:
            raise OutputConflict(head.output_offset)
        state = await self._storage.output_state(project, session_id, turn_id)
        reader = AgentOutput(
            OutputPosition(head.output_offset, state),
            line_limit=self._line_limit,
            dialect=None if asked.dialect == "auto" else asked.dialect,
            block_count=head.block_count,
            settles=head.settling,
        )
        return OutputRequest(self, project, head, reader, head.output_offset - offset, asked.final)


def _fresh_id() -> str:
    return new_id(wall_clock(), secrets.randbits(80))
