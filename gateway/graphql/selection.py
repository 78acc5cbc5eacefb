"""The selection of a request, after fragments, `@include` and `@skip` are applied. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any

from strawberry.types.nodes import FragmentSpread, InlineFragment, SelectedField, Selection


def selected(fields: Iterable[Selection], of_type: str) -> frozenset[str]:
    """Return the names of the fields selected on this type; `__typename` is left out: it never changes."""
    return frozenset(field.name for field in fields_of(fields, of_type) if not field.name.startswith("__"))


def fields_of(selections: Iterable[Selection], of_type: str) -> Iterator[SelectedField]:
    """Yield the fields selected on an object of this type."""
    for selection in selections:
        if not _counts(selection.directives):
            continue
        if isinstance(selection, SelectedField):
            yield selection
        elif isinstance(selection, InlineFragment | FragmentSpread) and selection.type_condition in (None, of_type):
            yield from fields_of(selection.selections, of_type)


def _counts(directives: dict[str, dict[str, Any]]) -> bool:
    if directives.get("skip", {}).get("if") is True:
        return False
    return directives.get("include", {}).get("if") is not False
