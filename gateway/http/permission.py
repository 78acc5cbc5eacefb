"""What a request may do: who asks, what of the project exists for it, what it needs."""

from starlette.requests import Request
from starlette.types import Scope

from gateway.access.audit import Audit
from gateway.access.grants import Need, View
from gateway.access.guard import OPEN, Access
from gateway.wire.problems import FileNotFound, Forbidden, Unauthenticated


def visible_path(request: Request, path: str) -> str:
    """The path, if it may exist for who asks.

    Raises:
        FileNotFound
    """
    if not view_of(request).sees(path):
        raise FileNotFound(path)
    return path


def access_of(scope: Scope) -> Access:
    """Who asks, and what it may do. Where nobody is asked for credentials: everything.

    Raises:
        Unauthenticated: there was no credential, or it counts no more.
    """
    access: Access | None = scope.get("gateway.access", OPEN)
    if access is OPEN:
        return OPEN
    if access is None:
        raise Unauthenticated
    access.require_valid()
    return access


def view_in(scope: Scope, project: str) -> View | None:
    """What a request that no handler has seen yet may do in a project; None where a handler has to say no."""
    access: Access | None = scope.get("gateway.access", OPEN)
    return None if access is None else access.view(project)


def view_of(request: Request) -> View:
    """What the request may do in its project."""
    view: View = request.scope["gateway.view"]
    return view


def require(request: Request, need: Need) -> None:
    """Raises Forbidden where the request may not do something that only its body tells."""
    view = view_of(request)
    if not view.may(need):
        raise Forbidden(view.missing(need))


def note(
    request: Request, action: str, *, path: str | None = None, version: int | None = None, detail: str | None = None
) -> None:
    """Note in the audit what a request has done, where there is one."""
    audit: Audit | None = request.scope.get("gateway.audit")
    if audit is not None:
        project = request.path_params.get("project")
        access = request.scope.get("gateway.access")
        audit.note(action, access, project=project, path=path, version=version, detail=detail)
