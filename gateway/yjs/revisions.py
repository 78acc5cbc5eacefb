"""Requested changes of a text: a new text, or replacements of parts of it. Pure; sent to worker processes."""

from typing import Protocol

from msgspec import Struct

from gateway.yjs.diff import common_prefix, common_suffix
from gateway.yjs.edit_requests import ReplaceRange, ReplaceText, edits_of
from gateway.yjs.text_edits import Edit, smallest_edits


class Revision(Protocol):
    """A change of a text, relative to the text before the change."""

    @property
    def size(self) -> int:
        """The approximate number of characters in the change."""

    def work(self, present: str) -> int:
        """Return how many pairs of characters are compared at most to find the edits of `present`."""

    def edits(self, present: str, most: int) -> list[Edit]:
        """Return at most `most` edits of `present`, in order and disjoint.

        Raises:
            EditNotApplicable
        """


class NewText(Struct, frozen=True):
    """The complete new text."""

    text: str | bytes
    """A very long text may be in UTF-8; it is decoded where it is compared."""

    @property
    def size(self) -> int:
        return len(self.text)

    def work(self, present: str) -> int:
        text = self._decoded()
        start = common_prefix(present, text)
        end = start + common_suffix(present, text, start)
        return (len(present) - end) * (len(text) - end)

    def edits(self, present: str, most: int) -> list[Edit]:
        return smallest_edits(present, self._decoded(), most)

    def _decoded(self) -> str:
        return self.text if isinstance(self.text, str) else self.text.decode()


class Replacements(Struct, frozen=True):
    """Replacements of parts of the text; either all of them are applied or none."""

    requests: tuple[ReplaceText | ReplaceRange, ...]

    @property
    def size(self) -> int:
        return sum(len(each.text) if isinstance(each, ReplaceRange) else len(each.new) for each in self.requests)

    def work(self, present: str) -> int:
        return len(present) * len(self.requests) + sum(
            (each.end - each.start) * len(each.text)
            if isinstance(each, ReplaceRange)
            else len(each.old) * len(each.new)
            for each in self.requests
        )

    def edits(self, present: str, most: int) -> list[Edit]:
        return edits_of(present, self.requests, most)
