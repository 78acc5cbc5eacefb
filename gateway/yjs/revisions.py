"""What a client wants a text to become: a new text, or some of its parts replaced. Pure, and sent to workers."""

from typing import Protocol

from msgspec import Struct

from gateway.yjs.diff import common_prefix, common_suffix
from gateway.yjs.edit_requests import ReplaceRange, ReplaceText, edits_of
from gateway.yjs.text_edits import Edit, smallest_edits


class Revision(Protocol):
    """A change of a text, in terms of the text before it."""

    @property
    def size(self) -> int:
        """Characters of it, about."""

    def work(self, present: str) -> int:
        """How many pairs of characters are compared to find its edits of `present`, at most."""

    def edits(self, present: str, most: int) -> list[Edit]:
        """At most so many edits of `present`, in order and apart from each other.

        Raises:
            EditNotApplicable
        """


class NewText(Struct, frozen=True):
    """The whole text as it is to be."""

    text: str

    @property
    def size(self) -> int:
        return len(self.text)

    def work(self, present: str) -> int:
        start = common_prefix(present, self.text)
        end = start + common_suffix(present, self.text, start)
        return (len(present) - end) * (len(self.text) - end)

    def edits(self, present: str, most: int) -> list[Edit]:
        return smallest_edits(present, self.text, most)


class Replacements(Struct, frozen=True):
    """Parts of the text, replaced: all or none."""

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
