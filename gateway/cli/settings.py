"""The settings of a command: those of the environment, with what its options say."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from gateway.settings import Settings


def settings_of(**given: object) -> "Settings":
    """The settings, with those that options gave; exits where one is not valid."""
    from pydantic import ValidationError

    from gateway.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        for fault in error.errors():
            typer.echo(f"error: {'.'.join(map(str, fault['loc']))}: {fault['msg']}", err=True)
        raise typer.Exit(2) from None
