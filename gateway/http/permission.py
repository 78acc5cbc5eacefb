"""Permissions of a request: its credential, its view of the project, and the checks of what it needs."""

from starlette.requests import Request
from starlette.types import Scope

from gateway.access.access import OPEN, Access
from gateway.access.audit import Audit
from gateway.access.grants import Need, View
from gateway.wire.problems import FileNotFound, Forbidden, Unauthenticated


def visible_path(request: Request, path: str) -> str:
    """Return the path if the credential may see it.

    Raises:
        FileNotFound
    """
    if not view_of(request).sees(path):
        raise FileNotFound(path)
    return path


def access_of(scope: Scope) -> Access:
    """Return the access of a request. If the gateway requires no credentials, the access allows everything.

    Raises:
        Unauthenticated: there was no credential, or it is no longer valid.
    """
    access: Access | None = scope.get("gateway.access", OPEN)
    if access is OPEN:
        return OPEN
    if access is None:
        raise Unauthenticated
    access.require_valid()
    return access


def view_in(scope: Scope, project: str) -> View | None:
    """Return the view of a project for a request that has not reached a handler; None if a handler must refuse it."""
    access: Access | None = scope.get("gateway.access", OPEN)
    return None if access is None else access.view(project)


def view_of(request: Request) -> View:
    """Return what the request may see and do in its project."""
    view: View = request.scope["gateway.view"]
    return view


def require(request: Request, need: Need) -> None:
    """Require a permission whose need is known only from the body.

    Raises:
        Forbidden
    """
    view = view_of(request)
    if not view.may(need):
        raise Forbidden(view.missing(need))


def note(
    request: Request, action: str, *, path: str | None = None, version: int | None = None, detail: str | None = None
) -> None:
    """Record in the audit log, if there is one, what a request has done."""
    audit: Audit | None = request.scope.get("gateway.audit")
    if audit is not None:
        project = request.path_params.get("project")
        access = request.scope.get("gateway.access")
        audit.note(action, access, project=project, path=path, version=version, detail=detail)
