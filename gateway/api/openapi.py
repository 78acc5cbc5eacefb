"""The OpenAPI document, generated from the routed operations and the structs of their bodies."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from gateway.api.operation import Operation
from gateway.wire.media_types import EVENTS, JSON, OCTETS
from gateway.wire.presence import LARGEST_CLIENT
from gateway.wire.problems import (
    Forbidden,
    HeadTooLarge,
    HostNotAllowed,
    InvalidParameter,
    InvalidProject,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    NotInstalled,
    OriginNotAllowed,
    Overloaded,
    Problem,
    ProblemDetails,
    QuotaExceeded,
    RateLimited,
    RequestTimeout,
    ShuttingDown,
    StorageIsFull,
    StoredDataDamaged,
    Unauthenticated,
    Unavailable,
)

_READER_NAME = {"type": "string", "pattern": r"^[A-Za-z0-9._~-]{1,128}$"}
_PATH_PARAMETERS = {
    "project": {"type": "string", "pattern": r"^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}$"},
    "path": {"type": "string", "minLength": 1, "maxLength": 1024},
    "session": {"type": "string", "minLength": 1},
    "turn": {"type": "string", "minLength": 1},
    "token": {"type": "string", "minLength": 1},
    "hook": _READER_NAME,
    "client": _READER_NAME,
    "client_id": {"type": "integer", "minimum": 0, "maximum": LARGEST_CLIENT},
}
_PLAIN: dict[Any, dict[str, Any]] = {
    bytes: {"type": "string", "format": "binary"},
    str: {"type": "string"},
    dict: {"type": "object"},
}
_OF_NO_OPERATION = (
    MalformedRequest,
    OriginNotAllowed,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    HostNotAllowed,
    HeadTooLarge,
    NotInstalled,
)


def describe(operations: Iterable[Operation], version: str, *, asks: bool) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of some operations. `asks`: whether requests need a credential."""
    operations = list(operations)
    structs = sorted({struct for operation in operations for struct in _structs(operation)}, key=lambda s: s.__name__)
    schemas, components = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    references = dict(zip(structs, schemas, strict=True))
    paths: dict[str, Any] = {}
    for operation in operations:
        template = re.sub(r"{(\w+):\w+}", r"{\1}", operation.path)
        paths.setdefault(template, {})[operation.method.lower()] = _describe(operation, template, references, asks)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "yjs-gateway",
            "version": version,
            "description": "Requests that are none of these are answered with a problem as well: "
            + ", ".join(f"{problem.status} `{problem.code}`" for problem in _OF_NO_OPERATION),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"bearer": _SECURITY}},
    }


_SECURITY = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token of the gateway, or a JSON Web Token of the application whose claim `yjs_gateway` grants "
    "scopes: `read`, `write`, `admin` and `turns` in projects, or everything (`admin`).",
}


def _security(operation: Operation, asks: bool) -> list[dict[str, list[str]]]:
    """Return the scopes that the credential needs; with an empty alternative if no credential is required."""
    if operation.scope is None:
        return []
    scopes = ["turns", "read"] if operation.scope == "read turns" else [operation.scope]
    needed: list[dict[str, list[str]]] = [{"bearer": [scope]} for scope in scopes]
    return needed if asks else [*needed, {}]


def _structs(operation: Operation) -> Iterable[Any]:
    yield ProblemDetails
    for content in (operation.body or {}, *operation.answers.values()):
        for shapes in content.values():
            yield from (shape for shape in _alternatives(shapes) if shape not in _PLAIN)


def _alternatives(shapes: Any) -> tuple[Any, ...]:
    return shapes if isinstance(shapes, tuple) else (shapes,)


def _describe(operation: Operation, template: str, references: dict[Any, dict[str, Any]], asks: bool) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "security": _security(operation, asks),
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": _PATH_PARAMETERS[name]}
            for name in re.findall(r"{(\w+)}", template)
        ]
        + [
            {
                "name": parameter.name,
                "in": parameter.place,
                "description": parameter.description,
                "schema": parameter.schema,
            }
            for parameter in operation.parameters
        ],
        "responses": _responses(operation, template, references),
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.body, references)}
    return described


def _responses(operation: Operation, template: str, references: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    headers = {name: {"schema": {"type": "string"}} for name in operation.headers}
    for status, content in operation.answers.items():
        responses[str(status)] = {"description": _REASONS.get(status, "The answer."), "headers": headers}
        if content:
            responses[str(status)]["content"] = _content(content, references)
    for status, problems in sorted(_by_status(operation, template).items()):
        responses[str(status)] = {
            "description": " ".join(f"`{problem.code}`: {problem.title}." for problem in problems),
            "content": {"application/problem+json": {"schema": references[ProblemDetails]}},
        }
    return responses


_REASONS = {
    201: "It was created.",
    204: "There is nothing to send.",
    304: "Nothing has changed.",
}


def _by_status(operation: Operation, template: str) -> dict[int, list[type[Problem]]]:
    common: tuple[type[Problem], ...] = (Unavailable, ShuttingDown)
    if "{project}" in template:
        common = (InvalidProject, *common, StoredDataDamaged)
    if operation.method != "GET":
        common = (*common, InvalidParameter, Overloaded, StorageIsFull, QuotaExceeded)
    if operation.scope is not None:
        common = (*common, Unauthenticated, Forbidden, RateLimited)
    by_status: dict[int, list[type[Problem]]] = {}
    for problem in dict.fromkeys((*common, *operation.problems)):
        by_status.setdefault(problem.status, []).append(problem)
    return by_status


def _content(shapes: dict[str, Any], references: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    """An event stream has no schema: its events are of several shapes."""
    return {media: {} if media == EVENTS else {"schema": _schema(shape, references)} for media, shape in shapes.items()}


def _schema(shapes: Any, references: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    schemas = [_PLAIN.get(shape) or references[shape] for shape in _alternatives(shapes)]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


__all__ = ["JSON", "OCTETS", "describe"]
