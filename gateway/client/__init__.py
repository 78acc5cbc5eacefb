"""The Python client: all requests, pollers, and documents that are kept in sync with the gateway.

    async with GatewayClient("http://localhost:8000") as gateway, PollingManager() as polling:
        DocumentPoller(polling, gateway.project("demo"), on_changes=print)
        ...

The names exported here are the public API; the modules below this package may change.
"""

from gateway.client.answers import FileContent, WithETag
from gateway.client.errors import GatewayError, NoAnswer, ProblemAnswer, UnexpectedAnswer
from gateway.client.http import GatewayClient
from gateway.client.mirror import DocumentMirror, MirrorReset
from gateway.client.policy import PollSettings, StopReason
from gateway.client.polling.document_poller import DocumentChange, DocumentPoller
from gateway.client.polling.manager import PollingManager
from gateway.client.polling.project_stream import Transport
from gateway.client.polling.subscription import Polled, Subscription
from gateway.client.polling.turn_poller import TurnFailed, TurnPoller
from gateway.client.project import Project
from gateway.client.token import Token
from gateway.wire.files import RequestedEdit

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
    "RequestedEdit",
    "StopReason",
    "Subscription",
    "Token",
    "Transport",
    "TurnFailed",
    "TurnPoller",
    "UnexpectedAnswer",
    "WithETag",
]
