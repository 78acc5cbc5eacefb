"""Imports at the start of a process: without garbage collections, and without what only looks better with it."""

import contextlib
import gc
import sys
from collections.abc import Iterator

_COLLECT_EVERY = 400_000
"""What imports make lives for ever: with Python's default of 700, the collector takes a tenth of the start-up to find
that out."""


def collect_rarely() -> None:
    """Let the collector leave the imports alone. Whoever goes on to serve sets what suits that."""
    gc.set_threshold(_COLLECT_EVERY, 20, 20)


@contextlib.contextmanager
def without(*modules: str) -> Iterator[None]:
    """Let the import of a module fail meanwhile, unless it is imported already.

    For packages that import another one wherever it is installed, and go without where it is not.
    """
    left_out = [name for name in modules if name not in sys.modules]
    for name in left_out:
        sys.modules[name] = None  # type: ignore[assignment]  # documented to raise ModuleNotFoundError
    try:
        yield
    finally:
        for name in left_out:
            del sys.modules[name]


def import_httpx() -> None:
    """Import httpx without its command, with which Rich, Pygments and Click come."""
    with without("httpx._main"):
        import httpx  # noqa: F401


def import_log() -> None:
    """Import structlog without Rich, which draws the tracebacks of consoles; those of the gateway are plain."""
    with without("rich"):
        import structlog  # noqa: F401
