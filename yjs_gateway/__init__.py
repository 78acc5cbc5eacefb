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
    from gateway.client import (
        DocumentChange,
        DocumentMirror,
        DocumentPoller,
        FileContent,
        GatewayClient,
        GatewayError,
        MirrorReset,
        NoAnswer,
        Polled,
        PollingManager,
        PollSettings,
        ProblemAnswer,
        Project,
        StopReason,
        Subscription,
        Transport,
        TurnFailed,
        TurnPoller,
        UnexpectedAnswer,
        WithETag,
    )
else:
    share("gateway.client", globals())

__all__ = [
    "DocumentChange",
    "DocumentMirror",
    "DocumentPoller",
    "FileContent",
    "GatewayClient",
    "GatewayError",
    "MirrorReset",
    "NoAnswer",
    "PollSettings",
    "Polled",
    "PollingManager",
    "ProblemAnswer",
    "Project",
    "StopReason",
    "Subscription",
    "Transport",
    "TurnFailed",
    "TurnPoller",
    "UnexpectedAnswer",
    "WithETag",
]
