"""Names as parts of a URL, validated before a request is sent.

URL parsers resolve `.` and `..` (also as `%2e`), so an unchecked path could escape its project.
"""

from urllib.parse import quote

from gateway.client.errors import InvalidParameter, InvalidPath, InvalidProject, ProblemAnswer
from gateway.wire.problems import ProblemDetails
from gateway.wire.values import path_fault, valid_project_id


def project_path(name: str) -> str:
    """Return the path of a project's URL.

    Raises:
        InvalidProject
    """
    if not valid_project_id(name):
        detail = f"{name!r} is not a project id: 1 to 128 characters of A-Z a-z 0-9 . _ ~ -, and not . or .."
        raise _refusal(InvalidProject, "Invalid project id", detail)
    return f"/api/projects/{name}"


def quoted_path(path: str) -> str:
    """Validate a file path and quote it for a URL.

    Raises:
        InvalidPath
    """
    return quote(checked_path(path))


def checked_path(path: str) -> str:
    """Validate a file path and return it unchanged.

    Raises:
        InvalidPath
    """
    fault = path_fault(path)
    if fault is not None:
        raise _refusal(InvalidPath, "Invalid file path", f"{path!r} is not a valid file path: {fault}")
    return path


def quoted_id(identifier: str, name: str) -> str:
    """Validate an id, such as that of a session or a turn, and quote it for a URL.

    Raises:
        InvalidParameter
    """
    try:
        quoted = quote(identifier, safe="")
    except UnicodeEncodeError:
        quoted = ""
    if quoted in ("", ".", "..") or "/" in identifier:
        raise _refusal(InvalidParameter, "Invalid parameter", f"{identifier!r} is not the id of a {name}")
    return quoted


def _refusal(kind: type[ProblemAnswer], title: str, detail: str) -> ProblemAnswer:
    return kind(ProblemDetails("about:blank", title, 400, detail, kind.code))
