"""The presence of one file: one awareness for the clients of its room and for those that report it over HTTP."""

import json
import re
import time
from collections.abc import Callable, Hashable
from typing import Protocol

import msgspec

from gateway.pace import next_slice
from gateway.wire.presence import PresenceAnswer, PresenceClient
from gateway.workers.pool import run_in_worker
from gateway.yjs.awareness import GONE, Awareness
from gateway.yjs.messages import AwarenessState

_ENCODED_TOGETHER = 32 * 1024
"""Characters of states that are encoded in one turn of the event loop."""

_PACKED_AT_ONCE = 64 * 1024
"""Bytes of a state that is decoded in the event loop, in 4 ms at most."""

_MAY_BE_OUT_OF_RANGE = re.compile(rb"\d(?:[eE]\+?\d{3}|\d{300})")
"""What is in each JSON text with a number that is too large for a float."""

News = Callable[[tuple[AwarenessState, ...]], None]


class Keeper(Protocol):
    """Keeps the presence of all files."""

    def now(self) -> float:
        """Return the time in seconds, on the clock of expiry."""

    def note(self, file: "FilePresence", size: int, *, visible: bool) -> None:
        """Note news in a file, which holds `size` characters more; `visible`, unless it only renewed a state."""

    def relay(self, file: "FilePresence", states: tuple[AwarenessState, ...]) -> None:
        """Relay states to the other gateways."""

    def version(self, file: "FilePresence") -> str: ...


class FilePresence:
    """The presence of one file."""

    def __init__(self, keeper: Keeper, project: str, path: str) -> None:
        self._keeper = keeper
        self.project = project
        self.path = path
        self.awareness = Awareness()
        self.listeners: dict[News, None] = {}
        """Called with all news, renewals included."""
        self.position = 0
        """The position, in the order of all news, of the last visible change of this file; 0: never changed."""
        self.changed = 0.0
        """The time of that change."""
        self._encoded: dict[int, tuple[str, msgspec.Raw | None]] = {}
        """The states of the last answers by client, as they stand there; None: not valid JSON."""

    def receive(
        self,
        states: tuple[AwarenessState, ...],
        owner: Hashable,
        *,
        seconds: float | None = None,
        subject: str | None = None,
        relayed: bool = False,
    ) -> None:
        """Take the states of an owner's clients (the owner being a connection, for example), and tell every listener.

        Args:
            seconds: after how many the states expire; None: the default of y-protocols.
            relayed: the states come from another gateway, which has checked the bounds.

        Raises:
            TooMuchAwareness: no state was taken.
        """
        changes, size = self.awareness.changes, self.awareness.size
        lasting = {} if seconds is None else {"seconds": seconds}
        now = self._keeper.now()
        news = self.awareness.receive(states, owner, now, subject=subject, bounded=not relayed, **lasting)
        self._tell(news, changes, size, relayed=relayed)

    def say(self, client: int, state: str, clock: int | None, seconds: float, subject: str | None) -> None:
        """Take the state of a client that has no connection.

        A clock that is not above the last one is raised above it. A clock that the client omits starts at the time of
        day, so that peers who remember the client from before accept it, too.
        """
        last = self.awareness.last_clock(client)
        counted = max(int(time.time()) if clock is None else clock, last + 1)
        self.receive((AwarenessState(client, counted, state),), client, seconds=seconds, subject=subject)

    def leave(self, client: int) -> bool:
        """Withdraw a client; return False if it was not present."""
        present = self.awareness.get(client)
        if present is None:
            return False
        self.receive((AwarenessState(client, present.state.clock + 1, GONE),), client)
        return True

    def withdraw(self, owner: Hashable, *, relayed: bool = False) -> None:
        """Withdraw the clients of an owner that is gone."""
        changes, size = self.awareness.changes, self.awareness.size
        self._tell(self.awareness.withdraw(owner), changes, size, relayed=relayed)

    def expire(self) -> None:
        """Withdraw the clients that have been silent for too long."""
        changes, size = self.awareness.changes, self.awareness.size
        self._tell(self.awareness.expire(self._keeper.now()), changes, size, relayed=False)

    def _tell(self, news: tuple[AwarenessState, ...], changes: int, size: int, *, relayed: bool) -> None:
        if not news:
            return
        self._keeper.note(self, self.awareness.size - size, visible=self.awareness.changes != changes)
        if not relayed:
            self._keeper.relay(self, news)
        for listener in list(self.listeners):
            listener(news)

    async def answer(self, *, of_json: bool = True) -> PresenceAnswer:
        """Return every client that is present, as of the call. States of room clients that are not valid JSON are left
        out. Large states are encoded in several turns of the event loop.

        Args:
            of_json: whether the answer will be encoded as JSON, or as msgpack. Its states are encoded already, as JSON
                only once.
        """
        self.expire()
        now, version = self._keeper.now(), self._keeper.version(self)
        clients = []
        encoded = self._encoded
        everybody, size = list(self.awareness), 0
        for present in everybody:
            client, text = present.state.client, present.state.state
            known = encoded.get(client)
            is_new = known is None or known[0] is not text
            if is_new or not of_json:
                if size + len(text) > _ENCODED_TOGETHER:
                    await next_slice()
                    size = 0
                size += len(text)
            if known is None or is_new:
                known = encoded[client] = (text, _as_json(text))
            if known[1] is not None:
                left = round(present.expires - now, 1)
                state = known[1] if of_json else await _as_msgpack(known[1])
                clients.append(PresenceClient(client, present.state.clock, state, present.subject, left))
        if len(encoded) > len(everybody):
            self._encoded = {each: encoded[each] for each in (present.state.client for present in everybody)}
        return PresenceAnswer(clients, version)


async def _as_msgpack(state: msgspec.Raw) -> msgspec.Raw:
    """Return a state in JSON as it stands in an answer in msgpack. A worker process decodes a long one."""
    text = bytes(state)
    return msgspec.Raw(_packed(text) if len(text) <= _PACKED_AT_ONCE else await run_in_worker(_packed, text))


def _packed(state: bytes) -> bytes:
    try:
        return msgspec.msgpack.encode(msgspec.json.decode(state))
    except OverflowError:  # msgpack has no integers of more than 64 bits, nor has JavaScript
        return msgspec.msgpack.encode(json.loads(state, parse_int=_number))


def _number(digits: str) -> int | float:
    number = float(digits)
    return int(digits) if abs(number) < 2**63 else number


def _as_json(state: str) -> msgspec.Raw | None:
    """Return a state as it stands in an answer, on one line; None if it is not valid JSON.

    Its values are not decoded, which takes 15 ms for a state of 256 KB.
    """
    try:
        text = state.encode()
        if _MAY_BE_OUT_OF_RANGE.search(text) is not None:
            msgspec.json.decode(text)
        return msgspec.Raw(msgspec.json.format(text, indent=-1))
    except (msgspec.DecodeError, UnicodeError, RecursionError, OverflowError):
        return None
