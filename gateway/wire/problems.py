"""The problems that the gateway answers with (RFC 9457), one class each, and the mapping of storage errors to them.

Problem
├── 400 InvalidPath · InvalidProject · InvalidParameter · InvalidCursor · InvalidStateVector · InvalidBody
│       · InvalidUpdateBody · InvalidText · MalformedRequest · TooComplex
├── 401 Unauthenticated
├── 403 OriginNotAllowed · Forbidden
├── 404 NotFound · ProjectNotFound · FileNotFound · VersionNotFound · TokenNotFound · SessionNotFound · TurnNotFound
├── 405 MethodNotAllowed
├── 409 MissingPredecessors · VersionAhead · FileExists · NotAText · EditNotApplicable · NestedTooDeeply
│       · WriteContention · SyncRefused · TurnFinished · IllegalTransition · BlockConflict · OutputConflict
├── 410 FileDeleted
├── 412 PreconditionFailed
├── 413 BodyTooLarge · DocumentTooLarge · PromptTooLarge · TooManyPaths
├── 415 UnsupportedMediaType
├── 422 KeyReused
├── 429 RateLimited
├── 431 HeadTooLarge
├── 500 StoredDataDamaged
├── 501 NotInstalled
├── 503 Overloaded · Unavailable · ShuttingDown
└── 507 StorageIsFull · QuotaExceeded
"""

import base64
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from storage import (
    AlreadyDone,
    DatabaseMoved,
    DatabaseOverwritten,
    DataDamaged,
    LogHeld,
    SessionMissing,
    StorageClosed,
    StorageError,
    StorageFull,
    StorageOverloaded,
    StorageUnavailable,
    TurnConflict,
    TurnStatus,
    VersionConflict,
)


class ProblemDetails(Struct, frozen=True, gc=False, omit_defaults=True):
    """Problem details (RFC 9457) with a stable machine-readable name in `code`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    state_vector: str | UnsetType = UNSET
    """With `missing_predecessors`: the gateway's state vector, base64url."""
    roots: dict[str, str] | UnsetType = UNSET
    """With `not_a_text`: the kind of each non-empty root by name: text, array, map or xml."""
    results: dict[str, Any] | UnsetType = UNSET
    """With `sync_refused`: the problem of each file, or null."""
    turn_status: TurnStatus | UnsetType = UNSET
    """With `turn_finished` and `illegal_transition`: the current status of the turn."""
    block_count: int | UnsetType = UNSET
    """With `block_conflict`: the number of blocks that the turn has."""
    certain: bool | UnsetType = UNSET
    """With 503 and 507: true if nothing was stored, false if the write may have been stored."""
    offset: int | UnsetType = UNSET
    """With `output_conflict`: the number of bytes of the stream that are stored."""
    index: int | UnsetType = UNSET
    """With `edit_not_applicable`: the index of the edit, starting at 0."""
    found: int | UnsetType = UNSET
    """With `edit_not_applicable`: the number of occurrences of the old text."""


class Problem(Exception):
    """An error answer. `headers` are sent with it; `detail` tells a person what is wrong and what to do."""

    status = 500
    code = "internal"
    title = "Internal error"
    certain: bool | None = None
    """For a valid request that failed: True if nothing was stored, False if the write may have been stored."""

    def __init__(self, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})

    def details(self) -> ProblemDetails:
        details = ProblemDetails("about:blank", self.title, self.status, self.detail, self.code)
        if self.certain is None:
            return details
        outcome = "nothing was stored" if self.certain else "it may have been stored: repeat the request"
        return msgspec.structs.replace(details, detail=f"{self.detail}; {outcome}", certain=self.certain)

    def body(self) -> bytes:
        return msgspec.json.encode(self.details())


class InvalidPath(Problem):
    status, code, title = 400, "invalid_path", "Invalid file path"

    def __init__(self, path: str, fault: str) -> None:
        shown = path[:200].encode("utf-8", "backslashreplace").decode()
        super().__init__(f"{shown[:200]!r} is not a valid file path: {fault}")


class InvalidProject(Problem):
    status, code, title = 400, "invalid_project", "Invalid project id"

    def __init__(self) -> None:
        super().__init__("a project id is 1 to 128 characters of A-Z a-z 0-9 . _ ~ -, and not . or ..")


class InvalidParameter(Problem):
    status, code, title = 400, "invalid_parameter", "Invalid parameter"

    def __init__(self, name: str, fault: str) -> None:
        super().__init__(f"{name}: {fault}")


class InvalidCursor(Problem):
    status, code, title = 400, "invalid_cursor", "Invalid cursor"

    def __init__(self) -> None:
        super().__init__("send cursors back unchanged, or omit the cursor to start over")


class TooComplex(Problem):
    status, code, title = 400, "too_complex", "The request is too complex"


class InvalidStateVector(Problem):
    status, code, title = 400, "invalid_state_vector", "Invalid state vector"


class InvalidBody(Problem):
    status, code, title = 400, "invalid_body", "Invalid request body"


class InvalidUpdateBody(Problem):
    status, code, title = 400, "invalid_update", "The body is not a valid Yjs update (encoding version 1)"


class InvalidText(Problem):
    status, code, title = 400, "invalid_text", "The body is not UTF-8 text"


class MalformedRequest(Problem):
    status, code, title = 400, "malformed_request", "Malformed HTTP request"

    def __init__(self) -> None:
        super().__init__("the request is not valid HTTP/1.1; the connection is closed")


class Unauthenticated(Problem):
    """There is no credential, or it is not valid. The detail reveals no part of the credential."""

    status, code, title = 401, "unauthenticated", "Authentication required"

    def __init__(self, detail: str = "send `Authorization: Bearer TOKEN`") -> None:
        super().__init__(detail, {"WWW-Authenticate": "Bearer"})


class Forbidden(Problem):
    status, code, title = 403, "forbidden", "Permission denied"

    def __init__(self, scope: str) -> None:
        super().__init__(f"the scope `{scope}` is missing", {"WWW-Authenticate": 'Bearer error="insufficient_scope"'})


class NotFound(Problem):
    status, code, title = 404, "not_found", "Not found"

    def __init__(self) -> None:
        super().__init__("no such resource; see /openapi.json for all resources")


class ProjectNotFound(Problem):
    status, code, title = 404, "project_not_found", "The project does not exist"

    def __init__(self, project: str) -> None:
        super().__init__(f"there is no project {project!r}; the first write to it creates it")


class FileNotFound(Problem):
    status, code, title = 404, "file_not_found", "The file does not exist"

    def __init__(self, path: str) -> None:
        super().__init__(f"there is no file {path!r} in this project")


class VersionNotFound(Problem):
    status, code, title = 404, "version_not_found", "The version does not exist"


class TokenNotFound(Problem):
    status, code, title = 404, "token_not_found", "The token does not exist"

    def __init__(self) -> None:
        super().__init__("there is no token of this id")


class HookNotFound(Problem):
    status, code, title = 404, "hook_not_found", "The webhook does not exist"

    def __init__(self, hook: str) -> None:
        super().__init__(f"there is no webhook {hook[:200]!r} in this project")


class SessionNotFound(Problem):
    status, code, title = 404, "session_not_found", "The session does not exist"

    def __init__(self, session: str) -> None:
        super().__init__(f"there is no session {session[:200]!r} in this project")


class TurnNotFound(Problem):
    status, code, title = 404, "turn_not_found", "The turn does not exist"

    def __init__(self, turn: str) -> None:
        super().__init__(f"there is no turn {turn[:200]!r} in this session")


class MethodNotAllowed(Problem):
    status, code, title = 405, "method_not_allowed", "Method not allowed"

    def __init__(self, method: str, allowed: list[str]) -> None:
        super().__init__(f"{method} is not allowed here", {"Allow": ", ".join(allowed)})


class MissingPredecessors(Problem):
    """The update builds on updates that the gateway is missing."""

    status, code, title = 409, "missing_predecessors", "The gateway is missing earlier updates"

    def __init__(self, state_vector: bytes) -> None:
        super().__init__(
            "send the difference between your document and state_vector; it includes the missing updates and this one"
        )
        self.server_state = state_vector
        self._state_vector = base64.urlsafe_b64encode(state_vector).decode().rstrip("=")

    def details(self) -> ProblemDetails:
        return msgspec.structs.replace(super().details(), state_vector=self._state_vector)


class VersionAhead(Problem):
    status, code, title = 409, "version_ahead", "The requested version is newer than the file"

    def __init__(self, path: str, asked: int, head: int) -> None:
        super().__init__(
            f"the request names version {asked} of {path!r}, but the newest version is {head}: the"
            " gateway was restored, or this is a different gateway; discard your document and read the file again"
        )


class FileExists(Problem):
    status, code, title = 409, "file_exists", "The file already exists"

    def __init__(self, path: str) -> None:
        super().__init__(f"{path!r} already exists; delete it first, or choose another path")


class NotAText(Problem):
    """The root is of another kind, or is missing while others exist; `roots` has the kind of each existing root."""

    status, code, title = 409, "not_a_text", "The root holds no such text"

    def __init__(self, detail: str, roots: Mapping[str, str]) -> None:
        super().__init__(detail)
        self._roots = dict(roots)

    def details(self) -> ProblemDetails:
        return msgspec.structs.replace(super().details(), roots=self._roots)


class EditNotApplicable(Problem):
    """One of several edits does not fit the text; none was applied."""

    status, code, title = 409, "edit_not_applicable", "The edit does not fit the text"

    def __init__(self, index: int, found: int, reason: str) -> None:
        super().__init__(f"edit {index}: {reason}")
        self._index = index
        self._found = found

    def details(self) -> ProblemDetails:
        return msgspec.structs.replace(super().details(), index=self._index, found=self._found)


class UnsupportedSchema(Problem):
    """The edit would change rich text that Markdown cannot hold. Nothing was written."""

    status, code, title = 409, "unsupported_schema", "Markdown cannot hold what would be edited"


class NestedTooDeeply(Problem):
    status, code, title = 409, "nested_too_deeply", "The content is nested too deeply"


class SyncRefused(Problem):
    """One update of an atomic sync was refused; `results` tells which one and why."""

    status, code, title = 409, "sync_refused", "No update was applied, because at least one was refused"

    def __init__(self, results: dict[str, Any]) -> None:
        super().__init__("`results` has the problem of each refused file")
        self._results = results

    def details(self) -> ProblemDetails:
        return msgspec.structs.replace(super().details(), results=self._results)


class WriteContention(Problem):
    status, code, title = 409, "write_contention", "Too many concurrent writes"

    def __init__(self, path: str) -> None:
        super().__init__(f"every attempt met a newer version of {path!r}; try again")


class TurnFinished(Problem):
    """A turn that has ended never changes again."""

    status, code, title = 409, "turn_finished", "The turn has ended"

    def __init__(self, turn_status: TurnStatus) -> None:
        super().__init__(f"the turn is {turn_status} and cannot change any more; nothing was stored")
        self._turn_status = turn_status

    def details(self) -> ProblemDetails:
        return msgspec.structs.replace(super().details(), turn_status=self._turn_status)


class IllegalTransition(Problem):
    status, code, title = 409, "illegal_transition", "Invalid status change"

    def __init__(self, turn_status: TurnStatus, wanted: TurnStatus) -> None:
        super().__init__(f"a turn that is {turn_status} cannot become {wanted}")
        self._turn_status = turn_status

    def details(self) -> ProblemDetails:
        return msgspec.structs.replace(super().details(), turn_status=self._turn_status)


class BlockConflict(Problem):
    status, code, title = 409, "block_conflict", "The block index is out of sequence"

    def __init__(self, first_index: int, block_count: int) -> None:
        super().__init__(
            f"the turn has {block_count} blocks: a batch at index {first_index} is neither the next nor a repetition"
        )
        self._block_count = block_count

    def details(self) -> ProblemDetails:
        return msgspec.structs.replace(super().details(), block_count=self._block_count)


class OutputConflict(Problem):
    status, code, title = 409, "output_conflict", "The output offset is out of sequence"

    def __init__(self, offset: int) -> None:
        super().__init__(f"{offset} bytes of the output are stored: continue from that offset")
        self._offset = offset

    def details(self) -> ProblemDetails:
        return msgspec.structs.replace(super().details(), offset=self._offset)


class FileDeleted(Problem):
    status, code, title = 410, "file_deleted", "The file was deleted"

    def __init__(self, path: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{path!r} was deleted, or this incarnation of it has ended; discard its document", headers)


class PreconditionFailed(Problem):
    status, code, title = 412, "precondition_failed", "Precondition failed"


class RequestTimeout(Problem):
    status, code, title = 408, "request_timeout", "Request timeout"


class BodyTooLarge(Problem):
    status, code, title = 413, "body_too_large", "The body is too large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the limit is {limit} bytes")


class PromptTooLarge(Problem):
    status, code, title = 413, "prompt_too_large", "The prompt is too large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the limit is {limit} bytes")


class DocumentTooLarge(Problem):
    status, code, title = 413, "document_too_large", "The document would become too large"

    def __init__(self, path: str, limit: int) -> None:
        super().__init__(f"the limit for {path!r} is {limit} bytes, encoded as a Yjs update; delete some content first")
        self.path = path


class TooManyPaths(Problem):
    status, code, title = 413, "too_many_paths", "Too many paths in one request"

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(f"{count} paths, but the limit is {limit}; use `since` for more files")


class UnsupportedMediaType(Problem):
    status, code, title = 415, "unsupported_media_type", "Unsupported media type"

    def __init__(self, found: str, wanted: str) -> None:
        super().__init__(f"the Content-Type is {found[:200]!r}; this request requires {wanted}", {"Accept": wanted})


class OriginNotAllowed(Problem):
    status, code, title = 403, "origin_not_allowed", "Origin not allowed"

    def __init__(self, origin: str) -> None:
        super().__init__(f"pages of {origin[:200]!r} may not use this gateway; see the setting GATEWAY_CORS_ORIGINS")


class HostNotAllowed(Problem):
    status, code, title = 421, "host_not_allowed", "Host not allowed"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"the request is for {host[:200]!r}; add the gateway's host names to the setting GATEWAY_HOSTS"
        )


class KeyReused(Problem):
    """The client used the idempotency key of a different request."""

    status, code, title = 422, "idempotency_key_reused", "Idempotency-Key reused for a different request"

    def __init__(self) -> None:
        super().__init__("a different request used this Idempotency-Key within the last 24 hours; nothing was stored")


class RateLimited(Problem):
    status, code, title = 429, "rate_limited", "Too many requests"

    def __init__(self, what: str, quota: int, seconds: int) -> None:
        window = "" if what == "connections" else " in a minute"
        headers = {
            "Retry-After": str(seconds),
            "RateLimit": f'"{what}";r=0;t={seconds}',
            "RateLimit-Policy": f'"{what}";q={quota}' + (";w=60" if window else ""),
        }
        super().__init__(f"{quota} {what} are allowed{window}; try again in {seconds} s", headers)


class HeadTooLarge(Problem):
    status, code, title = 431, "head_too_large", "Request header too large"

    def __init__(self, limit: str) -> None:
        super().__init__(f"the limit is {limit}; the connection is closed")


class StoredDataDamaged(Problem):
    status, code, title = 500, "data_damaged", "The stored data is damaged"


class NotInstalled(Problem):
    """The requested feature needs an optional extra of the package."""

    status, code, title = 501, "not_installed", "This part of the gateway is not installed"

    def __init__(self, extra: str) -> None:
        super().__init__(
            f"install the extra `{extra}` (pip install 'yjs-gateway[{extra}]') and start the gateway again"
        )


class Overloaded(Problem):
    status, code, title = 503, "overloaded", "The gateway is overloaded"

    def __init__(self, detail: str, *, certain: bool = True) -> None:
        super().__init__(detail, {"Retry-After": "1"})
        self.certain = certain


class Unavailable(Problem):
    status, code, title = 503, "storage_unavailable", "The database is not available"

    def __init__(self, detail: str, *, certain: bool = True) -> None:
        super().__init__(detail, {"Retry-After": "5"})
        self.certain = certain


class ShuttingDown(Problem):
    status, code, title = 503, "shutting_down", "The gateway is shutting down"

    def __init__(self, *, certain: bool | None = True) -> None:
        super().__init__("try again later", {"Retry-After": "2"})
        self.certain = certain


class QuotaExceeded(Problem):
    """The project has reached a quota. Deletions still work."""

    status, code, title = 507, "quota_exceeded", "The project is full"

    def __init__(self, project: str, what: str, limit: int) -> None:
        super().__init__(f"the project {project!r} may have at most {limit} {what}; delete some first")


class StorageIsFull(Problem):
    status, code, title = 507, "storage_full", "The disk is full"

    def __init__(self, *, certain: bool = True) -> None:
        super().__init__("reads still work; writes will work again once disk space is available", {"Retry-After": "30"})
        self.certain = certain


def problem_from_storage(error: StorageError) -> Problem:
    """Map an error of the storage to the problem that the client gets. This is the only such mapping."""
    match error:
        case StorageFull():
            return StorageIsFull(certain=error.certain)
        case StorageOverloaded():
            return Overloaded(f"{error.queued} writes are queued; try again later", certain=error.certain)
        case VersionConflict():
            return WriteContention(error.path)
        case SessionMissing():
            return SessionNotFound(error.session)
        case TurnConflict():
            return WriteContention(error.turn or error.session)
        case AlreadyDone():
            return KeyReused()
        case StorageClosed():
            return ShuttingDown(certain=error.certain)
        case DataDamaged():
            return StoredDataDamaged(str(error))
        case DatabaseMoved() | DatabaseOverwritten() | LogHeld():
            return Unavailable(str(error), certain=error.certain)
        case StorageUnavailable():
            return Unavailable("the database operation failed", certain=error.certain)
        case _:
            return Unavailable("the database could not be opened")


@contextlib.contextmanager
def after_a_write() -> Iterator[None]:
    """Context for code that runs after a write was stored: no failure in it may claim that nothing was stored."""
    try:
        yield
    except Problem as problem:
        if problem.certain is not None:
            problem.certain = False
        raise
    except StorageError as error:  # one exception object may be shared by many requests
        told = problem_from_storage(error)
        if told.certain is not None:
            told.certain = False
        raise told from error
