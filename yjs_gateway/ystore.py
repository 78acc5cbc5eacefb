"""The store for applications on pycrdt-websocket; needs the extra `ystore`."""

from typing import TYPE_CHECKING

from yjs_gateway._own import share

if TYPE_CHECKING:
    from gateway.client.ystore import *  # noqa: F403
    from gateway.client.ystore import __all__ as __all__
else:
    share("gateway.client.ystore", globals())
