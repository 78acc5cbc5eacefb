"""Results on the wire (GraphQL §7): data, and errors with the codes of the gateway's problems."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import structlog
from graphql import GraphQLError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import ExecutionResult

from gateway.http.requests import json_bytes
from gateway.wire.json import new_mark, put_in
from gateway.wire.problems import InvalidBody, Problem, problem_from_storage
from storage import StorageError

_log = structlog.get_logger("gateway.graphql")

_LONG = 2**16
_IN_EXTENSIONS = frozenset(("type", "title", "detail"))
"""Members of a problem that the error states elsewhere, or omits."""


class EncodedText(str):
    """A part of a result that is JSON already; what it holds as a `str` does not count."""

    __slots__ = ("encoded",)

    encoded: bytes

    @classmethod
    def of(cls, encoded: bytes) -> "EncodedText":
        text = cls()
        text.encoded = encoded
        return text


def encoded_value(encoded: bytes) -> EncodedText | msgspec.Raw:
    """Return a part of a result, of any type of JSON, that is JSON already. A short one costs the encoder no call."""
    return msgspec.Raw(encoded) if len(encoded) <= _LONG else EncodedText.of(encoded)


def _encoded(answer: object) -> list[bytes]:
    mark, long = new_mark(), list[bytes]()

    def as_it_is(value: object) -> msgspec.Raw:
        if not isinstance(value, EncodedText):
            raise NotImplementedError
        if len(value.encoded) <= _LONG:
            return msgspec.Raw(value.encoded)
        long.append(value.encoded)
        return msgspec.Raw(b'"%b"' % mark.encode())

    return put_in(msgspec.json.encode(answer, enc_hook=as_it_is), mark, long)


def _decoded(value: Any) -> Any:
    """Return a result with its encoded texts decoded."""
    if isinstance(value, EncodedText):
        return json.loads(value.encoded)
    if isinstance(value, msgspec.Raw):
        return json.loads(bytes(value))
    if isinstance(value, list):
        return [_decoded(each) for each in value]
    return {name: _decoded(each) for name, each in value.items()} if isinstance(value, dict) else value


def result_bytes(result: ExecutionResult) -> bytes:
    """Encode a result; `data` is omitted if nothing was executed."""
    return b"".join(result_parts(result))


def result_parts(result: ExecutionResult) -> list[bytes]:
    """Encode a result in parts, of which long texts are some; `data` is omitted if nothing was executed."""
    answer: dict[str, Any] = {}
    if result.errors:
        answer["errors"] = [formatted(error) for error in result.errors]
    if not is_request_error(result):
        answer["data"] = result.data
    try:
        return _encoded(answer)
    except UnicodeEncodeError:  # another text holds a lone surrogate
        return [json_bytes(_decoded(answer))]


def is_request_error(result: ExecutionResult) -> bool:
    """Whether nothing was executed: an error during execution would name a field."""
    return result.data is None and bool(result.errors) and not any(error.path for error in result.errors or ())


def errors_bytes(errors: Iterable[GraphQLError]) -> bytes:
    """Encode errors alone, as a list."""
    return json_bytes([formatted(error) for error in errors])


def problem_result(problem: Problem) -> bytes:
    """Encode a result that consists of a problem."""
    return b'{"errors":%b}' % problem_errors(problem)


def problem_errors(problem: Problem) -> bytes:
    """Encode a problem as a list of errors."""
    return errors_bytes([GraphQLError(problem.detail, original_error=problem)])


def formatted(error: GraphQLError) -> dict[str, Any]:
    """Return an error in wire form; internal errors are logged, and their details are withheld."""
    told: dict[str, Any] = dict(error.formatted)
    original = error.original_error
    while isinstance(original, GraphQLError):
        original = original.original_error
    if original is None:
        return told
    problem = _problem(original)
    details = problem.details()
    told["message"] = details.detail
    told["extensions"] = {
        name: value for name, value in msgspec.to_builtins(details).items() if name not in _IN_EXTENSIONS
    }
    return told


def _problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, StorageError):
        return problem_from_storage(error)
    if isinstance(error, CannotGetOperationTypeError):
        return InvalidBody(error.as_http_error_reason())
    if isinstance(error, InvalidOperationTypeError):
        return InvalidBody("a mutation is done by POST")
    _log.error("GraphQL request failed", exc_info=error)
    return Problem("the failure was logged; please report it")
