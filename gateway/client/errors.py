"""The exceptions that the client's requests raise.

GatewayError
├── NoAnswer                no response: no connection, a timeout, a truncated response
├── UnexpectedAnswer        a response that is not part of this API
└── ProblemAnswer           the gateway responded with a problem (RFC 9457): one class for each `code`
    ├── 400 InvalidPath · InvalidProject · InvalidParameter · InvalidCursor · InvalidStateVector · InvalidBody
    │       · InvalidUpdate · InvalidText · MalformedRequest · TooComplex
    ├── 401 Unauthenticated
    ├── 403 OriginNotAllowed · Forbidden
    ├── 404 NotFound · ProjectNotFound · FileNotFound · VersionNotFound · TokenNotFound · SessionNotFound · TurnNotFound
    ├── 405 MethodNotAllowed
    ├── 408 RequestTimeout
    ├── 409 MissingPredecessors · VersionAhead · FileExists · NotAText · EditNotApplicable · NestedTooDeeply
    │       UnsupportedSchema
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
    """Base class of all client errors. `status` is None without a response; the hints come from its headers."""

    status: int | None = None
    retry_after_s: float | None = None
    backoff_s: float | None = None
    certain: bool = False
    """With 503 and 507: the gateway guarantees that nothing was stored."""


class NoAnswer(GatewayError):
    """No response came: the request may or may not have been carried out, and may be repeated."""


class UnexpectedAnswer(GatewayError):
    """The response is a proxy's page, a redirect, or has a body that cannot be decoded."""

    def __init__(self, status: int, fault: str) -> None:
        super().__init__(f"{status}: {fault}")
        self.status = status


ADVICE = {
    "unauthenticated": "Pass a valid token.",
    "forbidden": "Use a token whose grant allows this.",
    "origin_not_allowed": "Name the origin of the page in GATEWAY_CORS_ORIGINS.",
    "host_not_allowed": "Name the host in GATEWAY_HOSTS.",
    "not_found": "Check the URL of the gateway, which is http://host:port.",
    "project_not_found": "Check the name; the first write creates the project.",
    "file_not_found": "Check the path; the first write creates the file.",
    "file_deleted": "Restore a version of the file, or create it anew.",
    "version_ahead": "The gateway was restored to an earlier state: read the file again.",
    "precondition_failed": "Read the file again and redo the change, or use `edit`.",
    "edit_not_applicable": "Read the text again and correct the edit.",
    "not_a_text": "Name the root that is a text.",
    "rate_limited": "Send fewer requests, and try again later.",
    "quota_exceeded": "Delete files of the project, or raise its limit.",
    "storage_full": "Free space on the gateway's disk.",
    "storage_unavailable": "Try again in a moment.",
    "overloaded": "Try again in a moment.",
    "shutting_down": "Try again in a moment.",
}
"""What to do about the most frequent problems, by code. docs/api.md has the same for all."""


class ProblemAnswer(GatewayError):
    """The gateway refused the request. `problem` is the whole problem document."""

    code = ""

    def __init__(self, problem: ProblemDetails) -> None:
        advice = ADVICE.get(problem.code)
        said = f"{problem.title} ({problem.code}): {problem.detail}"
        super().__init__(said if advice is None else f"{said.removesuffix('.')}. {advice}")
        self.problem = problem
        self.status = problem.status
        self.certain = problem.certain is True


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
    """The update builds on content that the gateway lacks: send the difference from `state_vector`."""

    code = "missing_predecessors"

    @property
    def state_vector(self) -> bytes:
        text = self.problem.state_vector or ""
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class VersionAhead(ProblemAnswer):
    """The gateway was restored from a backup, or is a different one: drop the document and start over."""

    code = "version_ahead"


class FileExists(ProblemAnswer):
    code = "file_exists"


class NotAText(ProblemAnswer):
    """The root is not a text, or does not exist although other roots do: see `roots`."""

    code = "not_a_text"

    @property
    def roots(self) -> dict[str, str]:
        """The kind of each non-empty root by name: text, array, map or xml."""
        return self.problem.roots or {}


class UnsupportedSchema(ProblemAnswer):
    """The edit would change rich text that Markdown cannot hold; nothing was changed."""

    code = "unsupported_schema"


class EditNotApplicable(ProblemAnswer):
    """One of the edits does not apply to the text; none of the edits was made."""

    code = "edit_not_applicable"

    @property
    def index(self) -> int:
        """The index of the edit, starting at 0."""
        return self.problem.index or 0

    @property
    def found(self) -> int:
        """How many times the edit's old text was found; an edit requires exactly one match."""
        return self.problem.found or 0


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
    """There were too many requests: `retry_after_s` says when to retry."""

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
    """The project has reached its limit of files or bytes; deletions still succeed."""

    code = "quota_exceeded"


class StorageFull(ProblemAnswer):
    code = "storage_full"


def _kinds(root: type[ProblemAnswer]) -> Iterator[type[ProblemAnswer]]:
    for kind in root.__subclasses__():
        yield kind
        yield from _kinds(kind)


PROBLEMS = {kind.code: kind for kind in _kinds(ProblemAnswer)}
"""The exception classes by code. An unknown code, as of a newer gateway, becomes a plain ProblemAnswer."""


def problem_from(details: ProblemDetails) -> ProblemAnswer:
    """Return the exception for a problem."""
    return PROBLEMS.get(details.code, ProblemAnswer)(details)
