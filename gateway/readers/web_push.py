"""Web Push: the requests to push services, RFC 8030."""

import hashlib

import msgspec

from gateway.changes.feed import Batch
from gateway.readers.door import Sent
from gateway.readers.hosts import Answer, Refused, Unreachable
from gateway.readers.outside import Outside
from gateway.readers.reader import PushTarget, ReaderSettings, ends_a_turn
from gateway.readers.vapid import OwnKey
from gateway.wire.readers import PushMessage
from storage import Reader

_MOST_CHANGES = 10
_MOST_BYTES = 3993
"""RFC 8291 §4: the plaintext that fits into a message of 4,096 bytes."""
_SPACING_S = 5.0
_TTL_S = 7 * 24 * 3600
_TOO_LARGE, _GONE = 413, (404, 410)


class WebPush:
    """Sends push messages: the changes, as many of them as fit."""

    spacing_seconds = _SPACING_S
    most_changes = _MOST_CHANGES

    def __init__(self, outside: Outside, key: OwnKey) -> None:
        self._outside = outside
        self._key = key

    async def send(self, reader: Reader, settings: ReaderSettings, batch: Batch, now: int) -> Sent:
        target = settings.push
        assert target is not None
        urgency = "high" if ends_a_turn(batch.changes) else "normal"
        try:
            answer = await self._post(reader, target, payload(reader.project, batch), urgency, now)
            if answer.status == _TOO_LARGE:
                answer = await self._post(reader, target, payload(reader.project, batch, most=0), urgency, now)
        except (Refused, Unreachable) as error:
            return Sent(False, error=str(error))
        if 200 <= answer.status < 300:
            return Sent(True, answer.status)
        ended = f"the subscription is gone ({answer.status})" if answer.status in _GONE else None
        return Sent(False, answer.status, retry_after=answer.retry_after, ended=ended)

    async def _post(self, reader: Reader, target: PushTarget, message: bytes, urgency: str, now: int) -> Answer:
        key = await self._key.open()
        from gateway.readers.push_encryption import encrypt  # which the key has imported in a thread

        topic = hashlib.sha256(f"{reader.project}\n{reader.name}".encode()).hexdigest()[:32]
        headers = {
            "content-type": "application/octet-stream",
            "content-encoding": "aes128gcm",
            "ttl": str(_TTL_S),
            "urgency": urgency,
            "topic": topic,
            "authorization": key.authorization(target.endpoint, now),
        }
        return await self._outside.post(target.endpoint, headers, encrypt(message, target.keys))


def payload(project: str, batch: Batch, most: int = _MOST_CHANGES) -> bytes:
    """Return the payload of a push: the newest changes that fit."""
    for count in range(min(most, len(batch.changes)), -1, -1):
        changes = batch.changes[len(batch.changes) - count :]
        more = batch.more or count < len(batch.changes)
        message = msgspec.json.encode(PushMessage(project, batch.cursor, changes, more))
        if len(message) <= _MOST_BYTES:
            break
    return message
