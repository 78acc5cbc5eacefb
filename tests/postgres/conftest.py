"""Two real gateways on one PostgreSQL database."""

from collections.abc import Iterator

import pytest

from tests.live.conftest import editor_host, open_editor
from tests.support.postgres import PostgresServer
from tests.support.server import GatewayProcess

__all__ = ["editor_host", "open_editor"]

Nodes = tuple[GatewayProcess, GatewayProcess]


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    """The URL of an empty database."""
    return postgres.schema_url()


@pytest.fixture
def nodes(database: str) -> Iterator[Nodes]:
    """Two gateways on an empty database."""
    with GatewayProcess(database) as first, GatewayProcess(database) as second:
        yield first, second
