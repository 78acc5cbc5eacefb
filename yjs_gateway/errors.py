"""The exceptions of the client: one class for each problem `code` of the gateway."""

from typing import TYPE_CHECKING

from yjs_gateway._own import share

if TYPE_CHECKING:
    from gateway.client.errors import *  # noqa: F403 - all of them are public
else:
    share("gateway.client.errors", globals())
