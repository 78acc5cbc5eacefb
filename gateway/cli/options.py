"""Options that several commands have: each set is a struct, declared once."""

import functools
import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from msgspec import NODEFAULT, Struct

S = TypeVar("S", bound=Struct)

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

Token = Annotated[str | None, typer.Option(help="Sent as Authorization: Bearer.", envvar="GATEWAY_TOKEN")]
Author = Annotated[str | None, typer.Option(help="Author, for the history.", envvar="GATEWAY_AUTHOR")]
Headers = Annotated[
    list[str] | None,
    typer.Option(help="A header for every request, for a proxy: 'Name: value'. May be repeated.", metavar="HEADER"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def with_options(
    shape: type[S], work: Callable[..., Any], run: Callable[[S, dict[str, Any]], None], *, given: int = 1
) -> Callable[..., None]:
    """A command that typer understands: with the parameters of `work`, and the options of `shape` behind them.

    Args:
        run: is called with the options, and with the other arguments by name.
        given: how many parameters of `work` come first that are none of the command's.
    """
    options = _options(shape)

    @functools.wraps(work)
    def command(**arguments: Any) -> None:
        run(shape(**{option.name: arguments.pop(option.name) for option in options}), arguments)

    parameters = [*list(inspect.signature(work).parameters.values())[given:], *options]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def headers_of(given: list[str] | None) -> dict[str, str]:
    """Headers that were given as `Name: value`.

    Raises:
        BadParameter: one of them is no header.
    """
    headers = {}
    for each in given or ():
        name, colon, value = each.partition(":")
        if not colon or not _HEADER_NAME.fullmatch(name) or not value.isprintable():
            raise typer.BadParameter(f"{each!r} is not 'Name: value'", param_hint="--header")
        headers[name] = value.strip()
    return headers


def _options(shape: type[Struct]) -> list[inspect.Parameter]:
    hints = get_type_hints(shape, include_extras=True)
    required = len(hints) - len(shape.__struct_defaults__)
    defaults = [inspect.Parameter.empty] * required + [
        inspect.Parameter.empty if default is NODEFAULT else default for default in shape.__struct_defaults__
    ]
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])
        for name, default in zip(shape.__struct_fields__, defaults, strict=True)
    ]
