"""The question of a client, within bounds on the cost of parsing it. Pure."""

from typing import Any

from msgspec import Struct

from gateway.wire.problems import TooComplex

LONGEST_QUERY = 100_000
"""Characters. A string in a query is one token, however long, and is read character by character."""
MOST_VALUES = 20_000
"""In all variables: each value is checked against its type."""


class Question(Struct, frozen=True):
    """A request (GraphQL over HTTP §5)."""

    query: str
    variables: dict[str, Any] | None = None
    operation_name: str | None = None

    def check(self) -> "Question":
        """Check the bounds; return the question itself.

        Raises:
            TooComplex
        """
        if len(self.query) > LONGEST_QUERY:
            raise TooComplex(f"the query has more than {LONGEST_QUERY} characters; send long texts as variables")
        waiting: list[Any] = [self.variables]
        count = 0
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict | list):
                count += len(value)
                if count > MOST_VALUES:
                    raise TooComplex(f"the variables have more than {MOST_VALUES} values")
                waiting.extend(value.values() if isinstance(value, dict) else value)
        return self
