"""The presence of the files of all projects. Rooms are told at once, others at most twenty times a second."""

import asyncio
import os
from collections.abc import Iterable
from operator import itemgetter
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from gateway.pace import join_parts, next_slice, with_turns
from gateway.presence.file_presence import FilePresence, News
from gateway.shared_turn import Pieces
from gateway.watch.filter import ChangeFilter
from gateway.watch.hub import Hub
from gateway.wire.presence import PresenceAnswer, PresenceEvent
from gateway.wire.problems import BodyTooLarge, Overloaded
from gateway.yjs.awareness import TooMuchAwareness
from gateway.yjs.messages import AwarenessState
from storage import Storage

LONGEST_STATE = 64 * 1024
"""Bytes of the state that a client may report over HTTP, as JSON."""
_CLIENTS_PER_FILE = 1000
_ALL_STATES = 64 * 2**20
"""Characters of all states together from which on no more are accepted over HTTP."""
_EVENTS_AT_ONCE = 2**20
"""Bytes of events after which a stream writes before it reads on."""
_ENCODED_TOGETHER = 32 * 1024
"""How many characters of events are made in one turn of the event loop."""
_FILE_CHARACTERS = 512
"""The overhead of each file beside its states, in characters."""
_FILES_TOGETHER = 128
"""How many files are looked at in one turn of the event loop, unless their clients take longer."""
_CHECK_S = 5.0
_TOLD_EVERY_S = 0.05
_REMEMBERED_S = 60.0
"""Seconds for which a file that everybody has left is remembered: slow streams have yet to be told."""
_RELAYED_S = 75.0
"""Seconds after which a client of another gateway is withdrawn if nothing was heard of it, not even that it left."""
_WHO_IS_THERE = b"?"
"""The message by which a gateway asks the others about a file, or about all files of a project."""

_Relayed = list[tuple[int, int, str, str | None]]


class Presence:
    """The presence of all files."""

    def __init__(self, storage: Storage, hub: Hub) -> None:
        self._storage = storage
        self._hub = hub
        self._files: dict[tuple[str, str], FilePresence] = {}
        self._of_project: dict[str, dict[FilePresence, None]] = {}
        self._run = os.urandom(5).hex()
        """Tells versions of this run of the gateway from those of another run."""
        self._position = 0
        self._positions: dict[str, int] = {}
        """The position of each project in the order of all news."""
        self._size = 0
        self._asked: dict[str, float] = {}
        """When the other gateways were last asked about a project, for those asked recently."""
        self._untold: dict[FilePresence, None] = {}
        self._gateways: dict[str, str] = {}
        """Other gateways; each one owns the states of its clients."""
        storage.hear(self._hear)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    # Rooms

    def join(self, project: str, path: str, listener: News) -> FilePresence:
        """Return the presence of a file, for a listener that is told at once of all news there."""
        key = (project, path)
        file = self._files.get(key)
        if file is None:
            file = self._open(key)
            if self._storage.shared:
                self._storage.tell(_topic(file), _WHO_IS_THERE)
        file.listeners[listener] = None
        return file

    def part(self, file: FilePresence, listener: News) -> None:
        """Remove a listener."""
        file.listeners.pop(listener, None)

    # HTTP

    async def answer(self, project: str, path: str, *, of_json: bool = True) -> PresenceAnswer:
        """Return every client that is in a file; `of_json` as of `FilePresence.answer`."""
        self._ask_others(project)
        file = self._files.get((project, path))
        return PresenceAnswer([], self._version_at(0)) if file is None else await file.answer(of_json=of_json)

    def version_now(self, project: str, path: str) -> str:
        """Return the version that an answer about a file has once the clients that are silent are withdrawn."""
        self._ask_others(project)
        file = self._files.get((project, path))
        if file is not None:
            file.expire()
        return self.version_of(project, path)

    def version_of(self, project: str, path: str) -> str:
        """Return the version that an answer about a file has at present."""
        file = self._files.get((project, path))
        return self._version_at(0) if file is None else self.version(file)

    def say(
        self,
        project: str,
        path: str,
        client: int,
        state: dict[str, Any],
        *,
        seconds: float,
        clock: int | UnsetType = UNSET,
        subject: str | None = None,
    ) -> None:
        """Take the state of a client in a file.

        Raises:
            BodyTooLarge, Overloaded
        """
        text = encode_state(state)
        file = self._files.get((project, path)) or self._open((project, path))
        if self._size + len(text) > _ALL_STATES or (
            len(file.awareness) >= _CLIENTS_PER_FILE and file.awareness.get(client) is None
        ):
            raise Overloaded("too many clients say where they are; try again later")
        try:
            file.say(client, text, None if clock is UNSET else clock, seconds, subject)
        except TooMuchAwareness:
            raise Overloaded("the states of the clients in this file are too large in total; try again later") from None

    def leave(self, project: str, path: str, client: int) -> None:
        """Withdraw a client from a file, if it is present."""
        file = self._files.get((project, path))
        if file is not None:
            file.leave(client)

    def speaker(self, project: str, path: str, client: int) -> str | None:
        """Return the subject that reports a client in a file; None: nobody, or one without a name."""
        file = self._files.get((project, path))
        present = None if file is None else file.awareness.get(client)
        return None if present is None else present.subject

    # Event streams

    def position_of(self, project: str) -> int:
        """Return the position of a project in the order of all news; no stream has been told anything later yet."""
        return self._positions.get(project, 0)

    async def events(self, project: str, filter_: ChangeFilter, since: int) -> tuple[bytes, int]:
        """Return the files with news after a position, as server-sent events, and the position after them.

        Where the events are large, this returns the first of them, and the position up to which they go.
        """
        self._ask_others(project)
        until = max(since, self.position_of(project))
        # Files change meanwhile: a file that is told in a newer state is told again after its former position.
        news = [(file.position, file) for file in self._of_project.get(project, ()) if file.position > since]
        news.sort(key=itemgetter(0))
        events: list[bytes] = []
        size = spent = 0
        before = since
        for position, file in news:
            if size > _EVENTS_AT_ONCE:
                until = before
                break
            before = position
            if (since or len(file.awareness)) and filter_.shows_presence(file.path):
                if spent > _ENCODED_TOGETHER:
                    await next_slice()
                    spent = 0
                answer = await file.answer()
                event = msgspec.json.encode(PresenceEvent(file.path, answer.clients, answer.version))
                events += (b"event: presence\ndata: ", event, b"\n\n")
                size += len(event)
                spent += _FILE_CHARACTERS + len(event)
        if spent > _ENCODED_TOGETHER:
            await next_slice()
        return await join_parts(events), until

    # What happens in a file

    def version(self, file: FilePresence) -> str:
        return self._version_at(file.position)

    def _version_at(self, position: int) -> str:
        return f"{self._run}.{position}"

    def note(self, file: FilePresence, size: int, *, visible: bool) -> None:
        self._size += size
        if not visible:
            return
        self._position += 1
        file.position, file.changed = self._position, self.now()
        self._positions[file.project] = self._position
        if not self._untold:
            asyncio.get_running_loop().call_later(_TOLD_EVERY_S, self._tell)
        self._untold[file] = None

    def _tell(self) -> None:
        untold, self._untold = self._untold, {}
        self._hub.waiters.turn.run(self._tell_of(untold))

    def _tell_of(self, files: Iterable[FilePresence]) -> Pieces:
        for file in files:
            self._hub.presence_changed(file.project, file.path)
            yield 0.0
        return 0.0

    def _open(self, key: tuple[str, str]) -> FilePresence:
        file = self._files[key] = FilePresence(self, *key)
        self._of_project.setdefault(key[0], {})[file] = None
        return file

    async def expire(self) -> None:
        """Until cancelled, periodically withdraw the clients that are silent, and forget files that nobody is in."""
        while True:
            await asyncio.sleep(_CHECK_S)
            since = self.now() - _REMEMBERED_S
            self._asked = {project: asked for project, asked in self._asked.items() if asked > since}
            async for file in with_turns(list(self._files.values()), _FILES_TOGETHER):
                file.expire()
                if not len(file.awareness) and not file.listeners and self.now() - file.changed > _REMEMBERED_S:
                    self._forget(file)

    def _forget(self, file: FilePresence) -> None:
        del self._files[file.project, file.path]
        files = self._of_project[file.project]
        del files[file]
        if not files:
            del self._of_project[file.project]
            self._positions.pop(file.project, None)

    # Other gateways

    def _ask_others(self, project: str) -> None:
        """Ask the other gateways who is in the files of a project, at most once a minute: they push later changes."""
        if self._storage.shared and project not in self._asked:
            self._asked[project] = self.now()
            self._storage.tell(_whole(project), _WHO_IS_THERE)

    def relay(self, file: FilePresence, states: tuple[AwarenessState, ...]) -> None:
        if self._storage.shared:
            for state in states:
                present = file.awareness.get(state.client)
                subject = None if present is None else present.subject
                said: _Relayed = [(state.client, state.clock, state.state, subject)]
                self._storage.tell(_topic(file), msgspec.msgpack.encode(said))

    def _hear(self, gateway: str, topic: str, message: bytes) -> None:
        """Take the states of another gateway's clients; without a topic, the gateway is gone."""
        if not gateway:  # answers to what was asked before may have been missed
            projects = {*self._asked, *self._of_project}
            self._asked.clear()
            for project in projects:
                self._ask_others(project)
            return
        owner = self._gateways.setdefault(gateway, gateway)
        if not topic:
            del self._gateways[gateway]
            for file in list(self._files.values()):
                file.withdraw(owner, relayed=True)
            return
        project, _, path = topic.partition("/")
        if ":" in project:  # a topic of something else
            return
        known = self._files.get((project, path))
        if message == _WHO_IS_THERE:
            asked = list(self._of_project.get(project, ())) if topic == _whole(project) else [known]
            for file in filter(None, asked):
                self.relay(file, file.awareness.states_but(self._gateways.values()))
            return
        for client, clock, state, subject in msgspec.msgpack.decode(message, type=_Relayed):
            known = known or self._open((project, path))
            states = (AwarenessState(client, clock, state),)
            known.receive(states, owner, seconds=_RELAYED_S, subject=subject, relayed=True)


def _whole(project: str) -> str:
    """Return the topic of all files of a project between gateways: no path is empty."""
    return f"{project}/"


def _topic(file: FilePresence) -> str:
    """Return the topic of a file between gateways. No project id contains a slash."""
    return f"{file.project}/{file.path}"


def encode_state(state: dict[str, Any]) -> str:
    """Encode the state of a client as JSON.

    Raises:
        BodyTooLarge
    """
    text = msgspec.json.encode(state)
    if len(text) > LONGEST_STATE:
        raise BodyTooLarge(LONGEST_STATE)
    return text.decode()
