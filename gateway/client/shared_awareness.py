"""An awareness that is shared with the other clients of a file through the presence requests."""

import asyncio
import contextlib
import json
from typing import Any

import pycrdt

from gateway.client.errors import FileNotFound, GatewayError, ProjectNotFound
from gateway.client.policy import FastLoop, is_retried, retry_delay_ms
from gateway.client.polling.manager import PollingManager
from gateway.client.project import Project
from gateway.wire.presence import PresenceAnswer, PresenceClient
from gateway.yjs.lib0 import var_uint

_BATCH_S = 0.1
_TTL_S = 60
_RENEW_S = 25.0
_WAIT_S = 50.0


class SharedAwareness:
    """Publishes the local state of an awareness, and applies the states of the other clients, until `close`.

    Args:
        interval: seconds between polls; None: long polls, which the gateway answers when a client joins, leaves or
            changes its state.
    """

    def __init__(
        self, polling: PollingManager, project: Project, path: str, awareness: pycrdt.Awareness, interval: float | None
    ) -> None:
        self._polling = polling
        self._project = project
        self._path = path
        self._awareness = awareness
        self._interval = interval
        self._others: set[int] = set()
        self._told = False
        self._said = asyncio.Event()
        self._said.set()
        self._observation = awareness.observe(self._note)
        self._tasks = [polling.spawn(self._say()), polling.spawn(self._follow())]

    def close(self) -> None:
        """Stop sharing: withdraw this client from the file, and remove the other clients from the awareness."""
        self._awareness.unobserve(self._observation)
        for task in self._tasks:
            task.cancel()
        self._forget(set(self._others))
        if self._told:
            self._polling.spawn(self._leave())

    def _note(self, topic: str, told: tuple[dict[str, Any], Any]) -> None:
        changed, origin = told
        own = self._awareness.client_id
        if origin is not self and any(own in clients for clients in changed.values()):
            self._said.set()

    async def _say(self) -> None:
        """Publish the local state when it changes, and renew it before it expires."""
        attempts = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RENEW_S):
                    await self._said.wait()
            await asyncio.sleep(_BATCH_S)
            self._said.clear()
            try:
                await self._say_once()
                attempts = 0
            except GatewayError as error:
                attempts += 1
                await self._pause(attempts, error)
                self._said.set()

    async def _say_once(self) -> None:
        awareness = self._awareness
        state, client = awareness.get_local_state(), awareness.client_id
        if state is None:
            if self._told:
                await self._leave()
            return
        clock = awareness.meta[client]["clock"]
        answer = await self._project.put_presence(self._path, client, state, ttl=_TTL_S, clock=clock)
        self._told = True
        self._take(answer.value)

    async def _leave(self) -> None:
        self._told = False
        with contextlib.suppress(GatewayError):  # the state expires by itself
            await self._project.delete_presence(self._path, self._awareness.client_id)

    async def _follow(self) -> None:
        """Apply the states of the other clients as they change."""
        loop, fast = asyncio.get_running_loop(), FastLoop(self._polling.settings)
        tag: str | None = None
        attempts = 0
        while True:
            try:
                wait = _WAIT_S if self._interval is None else 0
                answer = await self._project.presence(self._path, tag=tag, wait=wait)
            except GatewayError as error:
                attempts += 1
                await self._pause(attempts, error)
                continue
            attempts, tag = 0, answer.tag
            if answer.value is not None:
                fast.news()
                self._take(answer.value)
            elif self._interval is None and fast.empty(loop.time() * 1000):
                await asyncio.sleep(self._polling.settings.document_interval_ms / 1000)
            if self._interval is not None:
                await asyncio.sleep(max(self._interval, answer.backoff_s or 0))

    async def _pause(self, attempts: int, error: GatewayError) -> None:
        """Back off after a failure. Permanent errors get the longest delay; a missing project or file may appear."""
        settings = self._polling.settings
        hopeless = not is_retried(error.status) and not isinstance(error, ProjectNotFound | FileNotFound)
        delay = retry_delay_ms(settings, 100 if hopeless else attempts, self._polling.random(), error.retry_after_s)
        await asyncio.sleep(delay / 1000)

    def _take(self, answer: PresenceAnswer) -> None:
        clients = [each for each in answer.clients if each.client_id != self._awareness.client_id]
        present = {each.client_id for each in clients}
        self._forget(self._others - present)
        self._others = present
        self._awareness.apply_awareness_update(_encoded(clients), self)

    def _forget(self, clients: set[int]) -> None:
        self._others -= clients
        self._awareness.remove_awareness_states(sorted(clients), self)
        for client in clients:
            self._awareness.meta.pop(client, None)  # so that a returning client's state counts as new


def _encoded(clients: list[PresenceClient]) -> bytes:
    """Encode states in the y-protocols format."""
    parts = [var_uint(len(clients))]
    for each in clients:
        state = json.dumps(each.state, separators=(",", ":")).encode()
        parts += [var_uint(each.client_id), var_uint(each.clock), var_uint(len(state)), state]
    return b"".join(parts)
