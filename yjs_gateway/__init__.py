"""The Python client of yjs-gateway: every request, pollers, and documents that stay equal to the gateway's.

    async with GatewayClient("http://localhost:8000") as gateway, PollingManager() as polling:
        DocumentPoller(polling, gateway.project("demo"), on_changes=print)
        ...

These are the public names of `gateway.client`. A program may have modules named `gateway` or `storage`, and use them
beside this one.
"""

from typing import TYPE_CHECKING

from yjs_gateway._own import share

if TYPE_CHECKING:
    from gateway.client import *  # noqa: F403 - its public names
    from gateway.client import __all__ as __all__
else:
    share("gateway.client", globals())
