"""Requests for sessions and turns, which record what a coding agent does."""

import uuid
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Any

import msgspec

from gateway.client.answers import Sender, WithETag, decoded, decoded_with_etag_if_changed, quoted
from gateway.client.paths import quoted_id
from gateway.client.policy import PollSettings
from gateway.client.turn_events import TurnEvent, follow_turn
from gateway.wire.turns import (
    BlocksReceipt,
    NewSession,
    NewTurn,
    OutputReceipt,
    Session,
    SessionListing,
    Turn,
    TurnListing,
    TurnState,
    TurnSummary,
)

_JSON = {"Content-Type": "application/json"}
_NDJSON = {"Content-Type": "application/x-ndjson"}


def _once() -> dict[str, str]:
    """Return the headers of a request that takes effect once, however often it is sent."""
    return {**_JSON, "Idempotency-Key": uuid.uuid4().hex}


class SessionRequests:
    """The session requests of a project. Every method raises GatewayError."""

    def __init__(self, sender: Sender, path: str) -> None:
        self._sender = sender
        self._path = path

    async def create_session(self, title: str | None = None) -> Session:
        """Create a session."""
        body = msgspec.json.encode(NewSession(title))
        path = f"{self._path}/sessions"
        return decoded(await self._sender.send("POST", path, headers=_once(), content=body), Session)

    async def list_sessions(self, *, limit: int | None = None, after: str | None = None) -> SessionListing:
        """List a page of sessions, newest first."""
        params = {"limit": limit, "after": after}
        return decoded(await self._sender.send("GET", f"{self._path}/sessions", params=params), SessionListing)

    async def read_session(self, session: str) -> Session:
        """Read a session."""
        return decoded(await self._sender.send("GET", self._session(session)), Session)

    async def create_turn(self, session: str, prompt: str) -> Turn:
        """Create a pending turn."""
        path = f"{self._session(session)}/turns"
        body = msgspec.json.encode(NewTurn(prompt))
        return decoded(await self._sender.send("POST", path, headers=_once(), content=body), Turn)

    async def list_turns(self, session: str, *, limit: int | None = None, after: str | None = None) -> TurnListing:
        """List a page of turns, newest first."""
        params = {"limit": limit, "after": after}
        path = f"{self._session(session)}/turns"
        return decoded(await self._sender.send("GET", path, params=params), TurnListing)

    async def read_turn(
        self, session: str, turn: str, *, after_block: int = 0, wait: float = 0, tag: str | None = None
    ) -> WithETag[Turn | None]:
        """Read a turn without its first `after_block` blocks; None if `tag` names the current state."""
        params = {"after_block": after_block or None, "wait": wait or None}
        headers = {"If-None-Match": quoted(tag)}
        path = self._turn(session, turn)
        return decoded_with_etag_if_changed(
            await self._sender.send("GET", path, wait=wait, params=params, headers=headers), Turn
        )

    async def turn_status(
        self, session: str, turn: str, *, wait: float = 0, tag: str | None = None
    ) -> WithETag[TurnState | None]:
        """Read the brief state that tells whether a turn has changed; None if `tag` names the current state."""
        path = f"{self._turn(session, turn)}/status"
        headers = {"If-None-Match": quoted(tag)}
        answer = await self._sender.send("GET", path, wait=wait, params={"wait": wait or None}, headers=headers)
        return decoded_with_etag_if_changed(answer, TurnState)

    def follow_turn(
        self, session: str, turn: str, *, after_block: int = 0, settings: PollSettings | None = None
    ) -> AsyncIterator[TurnEvent]:
        """Follow a turn to its end: blocks as they come, what is added to their texts, and the status.

        After a transient failure the stream resumes, and nothing is yielded twice. A block that is yielded again, with
        the same index, replaces the one before. The last event has the final status. Permanent errors are raised.
        """
        path = f"{self._turn(session, turn)}/events"
        return follow_turn(self._sender, path, after_block, settings or PollSettings())

    async def set_turn_status(self, session: str, turn: str, status: str, error: str | None = None) -> TurnSummary:
        """Change the status of a turn. Repeating the request is refused: if the answer was lost, read the turn."""
        body = msgspec.json.encode({"status": status} | ({"error": error} if error is not None else {}))
        path = self._turn(session, turn)
        answer = await self._sender.send("PATCH", path, headers=_JSON, content=body, repeatable=False)
        return decoded(answer, TurnSummary)

    async def append_blocks(
        self, session: str, turn: str, blocks: Sequence[tuple[str, Any]], *, first_index: int | None = None
    ) -> BlocksReceipt:
        """Append blocks, each a type and a content. With `first_index` the request is idempotent."""
        batch: dict[str, Any] = {"blocks": [{"type": kind, "content": content} for kind, content in blocks]}
        if first_index is not None:
            batch["first_index"] = first_index
        path = f"{self._turn(session, turn)}/blocks"
        answer = await self._sender.send("POST", path, headers=_once(), content=msgspec.json.encode(batch))
        return decoded(answer, BlocksReceipt)

    async def append_output(
        self,
        session: str,
        turn: str,
        output: bytes | AsyncIterable[bytes],
        *,
        offset: int | None = None,
        dialect: str = "auto",
        final: bool | None = None,
    ) -> OutputReceipt:
        """Append output of an agent, complete or streamed. With `offset` the request is idempotent.

        Args:
            dialect: the format of the output: claude, codex, acp, gemini, text; auto: detected from the first line.
            final: whether the output ends here. None: a result ends the turn after a grace period.
        """
        path = f"{self._turn(session, turn)}/output"
        repeatable = offset is not None and isinstance(output, bytes)
        params = {
            "offset": offset,
            "dialect": None if dialect == "auto" else dialect,
            "final": None if final is None else str(final).lower(),
        }
        answer = await self._sender.send(
            "POST", path, headers=_NDJSON, params=params, content=output, repeatable=repeatable
        )
        return decoded(answer, OutputReceipt)

    def _session(self, session: str) -> str:
        return f"{self._path}/sessions/{quoted_id(session, 'session')}"

    def _turn(self, session: str, turn: str) -> str:
        return f"{self._session(session)}/turns/{quoted_id(turn, 'turn')}"
