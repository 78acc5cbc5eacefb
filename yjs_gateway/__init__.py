"""The Python client of yjs-gateway: all requests, pollers, and documents that are kept in sync with the gateway.

    async with GatewayClient("http://localhost:8000") as gateway, PollingManager() as polling:
        DocumentPoller(polling, gateway.project("demo"), on_changes=print)
        ...

This package exports the public names of `gateway.client`. A program may have its own modules named `gateway` or
`storage` besides it.
"""

from typing import TYPE_CHECKING

from yjs_gateway._own import share

if TYPE_CHECKING:
    from gateway.client import *  # noqa: F403 - its public names
    from gateway.client import __all__ as __all__
else:
    share("gateway.client", globals())
