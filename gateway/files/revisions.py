"""Text revisions parsed from the body of a request."""

from collections.abc import Sequence

from msgspec import UNSET

from gateway.wire.files import RequestedEdit
from gateway.wire.problems import InvalidBody
from gateway.yjs.edit_requests import ReplaceRange, ReplaceText
from gateway.yjs.revisions import NewText as NewText
from gateway.yjs.revisions import Replacements


def replacements(edits: Sequence[RequestedEdit]) -> Replacements:
    """Return the revision that applies all edits of a request.

    Raises:
        InvalidBody
    """
    return Replacements(tuple(_replacement(index, each) for index, each in enumerate(edits)))


def _replacement(index: int, edit: RequestedEdit) -> ReplaceText | ReplaceRange:
    of_text = edit.start is edit.end is edit.text is UNSET
    of_range = edit.old is edit.new is UNSET and not edit.all
    if of_text and isinstance(edit.old, str) and isinstance(edit.new, str):
        return ReplaceText(edit.old, edit.new, edit.all)
    if of_range and isinstance(edit.start, int) and isinstance(edit.end, int) and isinstance(edit.text, str):
        return ReplaceRange(edit.start, edit.end, edit.text)
    raise InvalidBody(f"edits[{index}]: either `old` and `new`, or `start`, `end` and `text` are expected")
