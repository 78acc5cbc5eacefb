"""Webhooks per Standard Webhooks (https://www.standardwebhooks.com), with a stretch of the feed as the body."""

import base64
import hashlib
import hmac
import secrets

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from gateway.changes.as_text import AsText
from gateway.changes.feed import Batch
from gateway.files.history import Versions
from gateway.files.store import Files
from gateway.pace import with_turns
from gateway.readers.door import Sent
from gateway.readers.hosts import Refused, Unreachable
from gateway.readers.outside import Outside
from gateway.readers.reader import HookTarget, ReaderSettings, message_id
from gateway.wire.changes import FeedEntry, FileFeedEntry
from gateway.wire.problems import Problem
from gateway.wire.readers import HookMessage
from storage import Reader, Storage

_PREFIX = "whsec_"
_SECRET_BYTES = 32
_MOST_CHANGES = 100
_DIFF_BYTES = 256 * 1024
_UPDATE_BYTES = 4 * 2**20
_ROOT = "content"
_GONE = 410


def new_secret() -> str:
    """Make a secret in the format of Standard Webhooks."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signature(secret: str, identifier: str, timestamp: int, body: bytes) -> str:
    """Return the `webhook-signature` of a message; `timestamp` in seconds since 1970."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    signed = hmac.digest(key, f"{identifier}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"


class Webhooks:
    """Posts stretches of the feed, signed."""

    spacing_seconds = 0.0
    most_changes = _MOST_CHANGES

    def __init__(self, storage: Storage, versions: Versions, files: Files, outside: Outside) -> None:
        self._storage = storage
        self._versions = versions
        self._files = files
        self._outside = outside

    async def send(self, reader: Reader, settings: ReaderSettings, batch: Batch, now: int) -> Sent:
        target = settings.hook
        assert target is not None
        body = await self._body(reader, target, batch)
        identifier, timestamp = message_id(reader, batch.cursor), now // 1000
        headers = {
            "content-type": "application/json",
            "user-agent": "yjs-gateway",
            "webhook-id": identifier,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(target.secret, identifier, timestamp, body),
        }
        try:
            answer = await self._outside.post(target.url, headers, body)
        except (Refused, Unreachable) as error:
            return Sent(False, error=str(error))
        if 200 <= answer.status < 300:
            return Sent(True, answer.status)
        ended = "the receiver is gone (410)" if answer.status == _GONE else None
        return Sent(False, answer.status, retry_after=answer.retry_after, ended=ended)

    async def _body(self, reader: Reader, target: HookTarget, batch: Batch) -> bytes:
        changes = batch.changes
        if target.include == "text":
            as_text = AsText(self._storage, self._versions, _DIFF_BYTES, _ROOT)
            changes = await as_text.of(reader.project, changes, batch.since)
        elif target.include == "update":
            changes = await self._with_updates(reader.project, batch)
        reset = True if batch.since.reset else UNSET
        return msgspec.json.encode(
            HookMessage("changes", reader.project, reader.name, reader.cursor, changes, batch.cursor, batch.more, reset)
        )

    async def _with_updates(self, project: str, batch: Batch) -> list[FeedEntry]:
        left, changes = _UPDATE_BYTES, list[FeedEntry]()
        async for entry in with_turns(batch.changes, 8):
            if not isinstance(entry, FileFeedEntry) or entry.change_type == "deleted" or left <= 0:
                changes.append(entry)
                continue
            since = batch.since.sequence
            known = 0 if since is None else await self._storage.version_at(project, entry.path, since)
            base = 0 if entry.change_type == "created" else known or 0
            try:
                content = await self._files.read_since(project, entry.path, base)
            except Problem:  # deleted meanwhile, or damaged: the entry alone says that it changed
                changes.append(entry)
                continue
            left -= len(content.update)
            if left < 0:
                changes.append(entry)
            else:
                changes.append(
                    replace(entry, version=content.version, from_version=content.builds_on, update=content.update)
                )
        return changes
