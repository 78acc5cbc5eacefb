"""What a request selects, as the answer will have it: after fragments, `@include` and `@skip`. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any

from strawberry.types.nodes import FragmentSpread, InlineFragment, SelectedField, Selection


def selected(fields: Iterable[Selection], of_type: str) -> frozenset[str]:
    """The names of the fields that are selected of an object of this type; `__typename` says nothing that moves."""
    return frozenset(field.name for field in fields_of(fields, of_type) if not field.name.startswith("__"))


def fields_of(selections: Iterable[Selection], of_type: str) -> Iterator[SelectedField]:
    """The fields that are selected of an object of this type."""
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
