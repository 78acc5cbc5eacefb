"""Requests for webhooks."""

import msgspec

from gateway.client.answers import Sender, decoded
from gateway.client.paths import quoted_id
from gateway.wire.readers import Hook, HookListing, HookRequest, ReplayRequest

_JSON = {"Content-Type": "application/json"}


class HookRequests:
    """The webhook requests of a project. Every method raises GatewayError."""

    _sender: Sender
    _path: str

    async def put_hook(self, identifier: str, hook: HookRequest) -> Hook:
        """Create or change a webhook. The answer has a `secret` only if the webhook was created."""
        body = msgspec.json.encode(hook)
        answer = await self._sender.send("PUT", self._hook(identifier), headers=_JSON, content=body, repeatable=False)
        return decoded(answer, Hook)

    async def read_hook(self, identifier: str) -> Hook:
        """Read a webhook and its delivery position."""
        return decoded(await self._sender.send("GET", self._hook(identifier)), Hook)

    async def list_hooks(self, *, after: str | None = None, limit: int | None = None) -> HookListing:
        """List a page of the webhooks, ordered by id."""
        params = {"after": after, "limit": limit}
        return decoded(await self._sender.send("GET", f"{self._path}/hooks", params=params), HookListing)

    async def replay_hook(self, identifier: str, since: str) -> Hook:
        """Have everything after a cursor delivered again."""
        body = msgspec.json.encode(ReplayRequest(since))
        path = f"{self._hook(identifier)}/replay"
        return decoded(await self._sender.send("POST", path, headers=_JSON, content=body), Hook)

    async def delete_hook(self, identifier: str) -> None:
        """Delete a webhook."""
        await self._sender.send("DELETE", self._hook(identifier))

    def _hook(self, identifier: str) -> str:
        return f"{self._path}/hooks/{quoted_id(identifier, 'hook')}"
