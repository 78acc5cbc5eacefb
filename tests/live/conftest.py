"""Fixtures of what is live."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.live.clients import name_of
from tests.live.editors import Editor, EditorHost
from tests.support.server import GatewayProcess


@pytest.fixture(scope="session")
def editor_host(node: str) -> Iterator[EditorHost]:
    host = EditorHost()
    yield host
    host.close()


@pytest.fixture
def open_editor(editor_host: EditorHost) -> Iterator[Callable[..., Editor]]:
    """Opens an editor, and closes all that were opened."""
    opened: list[Editor] = []

    def open_one(gateway: GatewayProcess, project: str, path: str, **options: Any) -> Editor:
        opened.append(Editor(editor_host, gateway, project, path, **options))
        return opened[-1]

    yield open_one
    for editor in opened:
        if not editor.left:
            editor.leave()


@pytest.fixture
def edit(
    open_editor: Callable[..., Editor], shared_gateway: GatewayProcess, shared_project: httpx.Client
) -> Callable[..., Editor]:
    """Opens an editor of a file of the shared project."""
    return lambda path="a.md", **options: open_editor(shared_gateway, name_of(shared_project), path, **options)
