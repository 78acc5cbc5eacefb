"""Both endpoints, and the executions that they share: what the door imports at the first request."""

from gateway.graphql.execution import Executions
from gateway.graphql.over_http import OverHttp
from gateway.graphql.over_websocket import OverWebSocket
from gateway.graphql.services import Services


class Endpoint:
    """`/api/graphql`."""

    def __init__(self, services: Services) -> None:
        executions = Executions(services)
        self.http = OverHttp(executions)
        self.websocket = OverWebSocket(executions)
