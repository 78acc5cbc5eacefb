"""The settings of a command: those of the environment, with what its options say."""

import importlib.util
from typing import TYPE_CHECKING, TypeVar

import typer

if TYPE_CHECKING:
    from gateway.settings import Settings

T = TypeVar("T")


def needs_gateway(value: T) -> T:
    """Exit where only the client is installed; else return the value of an option, as a callback of Typer does."""
    if importlib.util.find_spec("aiosqlite") is None or importlib.util.find_spec("pydantic_settings") is None:
        typer.echo("error: this command needs the gateway itself: pip install 'yjs-gateway[server]'", err=True)
        raise typer.Exit(2)
    return value


def settings_of(**given: object) -> "Settings":
    """The settings, with those that options gave; exits where one is not valid, or the gateway is not installed."""
    needs_gateway(None)
    from pydantic import ValidationError

    from gateway.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        for fault in error.errors():
            typer.echo(f"error: {'.'.join(map(str, fault['loc']))}: {fault['msg']}", err=True)
        raise typer.Exit(2) from None
