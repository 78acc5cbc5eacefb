"""Fixtures for who is in a file: people behind stock editors, a gateway that asks for credentials."""

from tests.access.conftest import guarded
from tests.live.conftest import edit, editor_host, open_editor

__all__ = ["edit", "editor_host", "guarded", "open_editor"]
