"""What a request of the client can raise.

GatewayError
├── NoAnswer                nothing came back: no connection, a timeout, an answer cut off
├── UnexpectedAnswer        what came back is not of this API
└── ProblemAnswer           the gateway answered with a problem (RFC 9457): one class for each `code`
    ├── 400 InvalidPath · InvalidProject · InvalidParameter · InvalidCursor · InvalidStateVector · InvalidBody
    │       · InvalidUpdate · InvalidText · MalformedRequest · TooComplex
    ├── 401 Unauthenticated
    ├── 403 OriginNotAllowed · Forbidden
    ├── 404 NotFound · ProjectNotFound · FileNotFound · VersionNotFound · TokenNotFound · SessionNotFound · TurnNotFound
    ├── 405 MethodNotAllowed
    ├── 408 RequestTimeout
    ├── 409 MissingPredecessors · VersionAhead · FileExists · NotAText · EditNotApplicable · NestedTooDeeply
    │       · WriteContention · SyncRefused · TurnFinished · IllegalTransition · BlockConflict · OutputConflict
    ├── 410 FileDeleted
    ├── 412 PreconditionFailed
    ├── 413 BodyTooLarge · DocumentTooLarge · PromptTooLarge · TooManyPaths
    ├── 415 UnsupportedMediaType
    ├── 421 HostNotAllowed
    ├── 422 KeyReused
    ├── 429 RateLimited
    ├── 431 HeadTooLarge
    ├── 500 InternalError · DataDamaged
    ├── 501 NotInstalled
    ├── 503 Overloaded · StorageUnavailable · ShuttingDown
    └── 507 StorageFull · QuotaExceeded
"""

import base64
from collections.abc import Iterator

from gateway.wire.problems import ProblemDetails


class GatewayError(Exception):
    """Every error of the client. `status` is None where no answer came; the rest is what its headers said."""

    status: int | None = None
    retry_after_s: float | None = None
    backoff_s: float | None = None
    certain: bool = False
    """With 503 and 507: the gateway says that nothing was stored."""


class NoAnswer(GatewayError):
    """The request may have been done or not; it may be repeated."""


class UnexpectedAnswer(GatewayError):
    """A proxy's page, a redirect, a body that cannot be read."""

    def __init__(self, status: int, fault: str) -> None:
        super().__init__(f"{status}: {fault}")
        self.status = status


class ProblemAnswer(GatewayError):
    """The gateway said no. `details` is all that it said."""

    code = ""

    def __init__(self, details: ProblemDetails) -> None:
        super().__init__(f"{details.title} ({details.code}): {details.detail}")
        self.details = details
        self.status = details.status
        self.certain = details.certain is True


class InvalidPath(ProblemAnswer):
    code = "invalid_path"


class InvalidProject(ProblemAnswer):
    code = "invalid_project"


class InvalidParameter(ProblemAnswer):
    code = "invalid_parameter"


class InvalidCursor(ProblemAnswer):
    code = "invalid_cursor"


class InvalidStateVector(ProblemAnswer):
    code = "invalid_state_vector"


class InvalidBody(ProblemAnswer):
    code = "invalid_body"


class InvalidUpdate(ProblemAnswer):
    code = "invalid_update"


class InvalidText(ProblemAnswer):
    code = "invalid_text"


class MalformedRequest(ProblemAnswer):
    code = "malformed_request"


class TooComplex(ProblemAnswer):
    code = "too_complex"


class Unauthenticated(ProblemAnswer):
    """The credential is missing, was not accepted, has expired or was revoked."""

    code = "unauthenticated"


class Forbidden(ProblemAnswer):
    code = "forbidden"


class NotFound(ProblemAnswer):
    code = "not_found"


class ProjectNotFound(ProblemAnswer):
    code = "project_not_found"


class FileNotFound(ProblemAnswer):
    code = "file_not_found"


class VersionNotFound(ProblemAnswer):
    code = "version_not_found"


class HookNotFound(ProblemAnswer):
    code = "hook_not_found"


class TokenNotFound(ProblemAnswer):
    code = "token_not_found"


class SessionNotFound(ProblemAnswer):
    code = "session_not_found"


class TurnNotFound(ProblemAnswer):
    code = "turn_not_found"


class MethodNotAllowed(ProblemAnswer):
    code = "method_not_allowed"


class RequestTimeout(ProblemAnswer):
    code = "request_timeout"


class MissingPredecessors(ProblemAnswer):
    """The update builds on something that the gateway lacks: send the difference from `state_vector`."""

    code = "missing_predecessors"

    @property
    def state_vector(self) -> bytes:
        text = self.details.state_vector or ""
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class VersionAhead(ProblemAnswer):
    """The gateway was restored, or is another one: drop the document and start over."""

    code = "version_ahead"


class FileExists(ProblemAnswer):
    code = "file_exists"


class NotAText(ProblemAnswer):
    """The root is not a text, or is not there while others are: see `roots`."""

    code = "not_a_text"

    @property
    def roots(self) -> dict[str, str]:
        """By name the kind of each root that holds something: text, array, map or xml."""
        return self.details.roots or {}


class EditNotApplicable(ProblemAnswer):
    """One of the edits does not fit the text; none was made."""

    code = "edit_not_applicable"

    @property
    def index(self) -> int:
        """Which of the edits, from 0."""
        return self.details.index or 0

    @property
    def found(self) -> int:
        """How often its old text was found: an edit needs exactly one."""
        return self.details.found or 0


class NestedTooDeeply(ProblemAnswer):
    code = "nested_too_deeply"


class WriteContention(ProblemAnswer):
    code = "write_contention"


class SyncRefused(ProblemAnswer):
    code = "sync_refused"


class TurnFinished(ProblemAnswer):
    code = "turn_finished"


class IllegalTransition(ProblemAnswer):
    code = "illegal_transition"


class BlockConflict(ProblemAnswer):
    code = "block_conflict"


class OutputConflict(ProblemAnswer):
    code = "output_conflict"


class FileDeleted(ProblemAnswer):
    code = "file_deleted"


class PreconditionFailed(ProblemAnswer):
    code = "precondition_failed"


class BodyTooLarge(ProblemAnswer):
    code = "body_too_large"


class PromptTooLarge(ProblemAnswer):
    code = "prompt_too_large"


class DocumentTooLarge(ProblemAnswer):
    code = "document_too_large"


class TooManyPaths(ProblemAnswer):
    code = "too_many_paths"


class UnsupportedMediaType(ProblemAnswer):
    code = "unsupported_media_type"


class OriginNotAllowed(ProblemAnswer):
    code = "origin_not_allowed"


class HostNotAllowed(ProblemAnswer):
    code = "host_not_allowed"


class KeyReused(ProblemAnswer):
    code = "idempotency_key_reused"


class RateLimited(ProblemAnswer):
    """Too much was asked for: `retry_after_s` says when to come again."""

    code = "rate_limited"


class HeadTooLarge(ProblemAnswer):
    code = "head_too_large"


class InternalError(ProblemAnswer):
    code = "internal"


class NotInstalled(ProblemAnswer):
    """The gateway lacks an extra of its package."""

    code = "not_installed"


class DataDamaged(ProblemAnswer):
    code = "data_damaged"


class Overloaded(ProblemAnswer):
    code = "overloaded"


class StorageUnavailable(ProblemAnswer):
    code = "storage_unavailable"


class ShuttingDown(ProblemAnswer):
    code = "shutting_down"


class QuotaExceeded(ProblemAnswer):
    """The project has as many files or bytes as it may; deletions are still done."""

    code = "quota_exceeded"


class StorageFull(ProblemAnswer):
    code = "storage_full"


def _kinds(root: type[ProblemAnswer]) -> Iterator[type[ProblemAnswer]]:
    for kind in root.__subclasses__():
        yield kind
        yield from _kinds(kind)


PROBLEMS = {kind.code: kind for kind in _kinds(ProblemAnswer)}
"""By code. A code of a newer gateway is a plain ProblemAnswer."""


def problem_from(details: ProblemDetails) -> ProblemAnswer:
    """The exception for a problem."""
    return PROBLEMS.get(details.code, ProblemAnswer)(details)
