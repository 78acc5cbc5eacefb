"""Parsing and validation of queries, within bounds on their cost; the last ones are remembered. A long query is checked
in another thread, which gives the interpreter back every 0.5 ms."""

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
from anyio.lowlevel import RunVar
from graphql import (
    ASTValidationRule,
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    OverlappingFieldsCanBeMergedRule,
    ValidationContext,
    parse,
    specified_rules,
)
from graphql.validation.validate import ValidationAbortedError
from strawberry.extensions import MaxAliasesLimiter, QueryDepthLimiter, SchemaExtension
from strawberry.schema.schema import validate_document

MOST_DEPTH = 10
MOST_ALIASES = 50
MOST_TOKENS = 1000
MOST_COMPARISONS = 20_000
"""The check whether fields with the same name can be merged compares each with each. In units of graphql-core, which
counts two for a pair of fields: at most about 20 ms."""
MOST_ERRORS = 10

_SHORT = 30
"""A query of at most this many characters is checked in the event loop, in less than 1 ms."""
_REMEMBERED = 128

_Checked = tuple[DocumentNode, list[GraphQLError]]
"""A document, and what is wrong with it."""


class Checking(SchemaExtension):
    """Parses and validates the query of a request."""

    async def on_parse(self) -> AsyncIterator[None]:
        context = self.execution_context
        assert context.query is not None
        context.graphql_document, self._errors = await _checked(context.schema._schema, context.query)
        yield

    def on_validate(self) -> Iterator[None]:
        self.execution_context.pre_execution_errors = self._errors
        yield


async def _checked(schema: GraphQLSchema, query: str) -> _Checked:
    """Return a query parsed and validated.

    Raises:
        GraphQLError: a syntax error.
    """
    found = _remembered.get(query)
    if found is not None:
        _remembered.move_to_end(query)
        return found
    if len(query) <= _SHORT:
        found = _check(schema, query)
    else:
        found = await anyio.to_thread.run_sync(_check, schema, query, limiter=_one_at_a_time())
    _remembered[query] = found
    if len(_remembered) > _REMEMBERED:
        _remembered.popitem(last=False)
    return found


def _check(schema: GraphQLSchema, query: str) -> _Checked:
    document = parse(query, max_tokens=MOST_TOKENS)
    return document, validate_document(schema, document, _RULES)


def _one_at_a_time() -> anyio.CapacityLimiter:
    """Return the limiter of the event loop: several threads would take turns with each other before the loop has its
    own."""
    limiter = _limiter.get()
    if limiter is None:
        limiter = anyio.CapacityLimiter(1)
        _limiter.set(limiter)
    return limiter


class _FewErrors(ASTValidationRule):
    """Ends the validation after some errors: to suggest what was meant takes a millisecond or two for each."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self._errors = 0
        self._report = context.report_error
        context.report_error = self._count  # type: ignore[method-assign]

    def _count(self, error: GraphQLError) -> None:
        self._report(error)
        self._errors += 1
        if self._errors >= MOST_ERRORS:
            raise ValidationAbortedError(f"only the first {MOST_ERRORS} errors are told")


class _FewComparisons(OverlappingFieldsCanBeMergedRule):
    """Ends the validation where it compares too many fields with each other."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self.rule_context.remaining_complexity_budget = MOST_COMPARISONS

    def enter_selection_set(self, *arguments: Any) -> None:
        try:
            super().enter_selection_set(*arguments)
        except ValidationAbortedError:
            message = "the query names the same fields too often to check whether they can be merged"
            raise ValidationAbortedError(message) from None


_RULES: tuple[type[ASTValidationRule], ...] = (
    *(_FewComparisons if rule is OverlappingFieldsCanBeMergedRule else rule for rule in specified_rules),
    *QueryDepthLimiter(MOST_DEPTH).validation_rules,
    *MaxAliasesLimiter(MOST_ALIASES).validation_rules,
    _FewErrors,
)
_remembered: OrderedDict[str, _Checked] = OrderedDict()
_limiter: RunVar[anyio.CapacityLimiter | None] = RunVar("gateway_graphql_checking", None)
