"""The settings of a command: those of the environment, with what its options say."""

import difflib
import importlib.util
import os
from typing import TYPE_CHECKING, TypeVar

import typer

from gateway.imports import import_log

if TYPE_CHECKING:
    from gateway.settings import Settings

T = TypeVar("T")

_PREFIX = "GATEWAY_"
_OF_CLIENTS = ("GATEWAY_URL", "GATEWAY_PROJECT", "GATEWAY_TOKEN", "GATEWAY_AUTHOR")
"""What the commands that ask a gateway read from the environment."""
_MISSPELT = 0.8
"""How alike a name is to that of a setting, of 1. Others may be of another program: Kubernetes sets some."""


def needs_gateway(value: T) -> T:
    """Exit where only the client is installed; else return the value of an option, as a callback of Typer does."""
    if importlib.util.find_spec("aiosqlite") is None or importlib.util.find_spec("pydantic_settings") is None:
        typer.echo("error: this command needs the gateway itself: pip install 'yjs-gateway[server]'", err=True)
        raise typer.Exit(2)
    return value


def settings_of(**given: object) -> "Settings":
    """The settings, with those that options gave; exits where one is not valid, or the gateway is not installed.
    Misspelt variables are warned of."""
    needs_gateway(None)
    import_log()
    from pydantic import ValidationError

    from gateway.settings import Settings

    _warn_of_misspelt([f"{_PREFIX}{name.upper()}" for name in Settings.model_fields])
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        for fault in error.errors():
            typer.echo(f"error: {'.'.join(map(str, fault['loc']))}: {fault['msg']}", err=True)
        raise typer.Exit(2) from None


def _warn_of_misspelt(settings: list[str]) -> None:
    known = [*settings, *_OF_CLIENTS]
    for name in sorted(os.environ):
        if name.upper().startswith(_PREFIX) and name.upper() not in known:
            for near in difflib.get_close_matches(name.upper(), known, n=1, cutoff=_MISSPELT):
                typer.echo(f"warning: {name} is not a setting; do you mean {near}?", err=True)
