"""Routes of the projects themselves: the list, and erasing one."""

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.operation import Parameter, operation
from gateway.changes.projects import ProjectList
from gateway.http.long_answers import json_with_list, response_of
from gateway.http.permission import access_of, note
from gateway.http.requests import project_id, whole_number
from gateway.wire.media_types import JSON
from gateway.wire.problems import InvalidParameter, InvalidProject, ProjectNotFound
from gateway.wire.projects import ProjectListing
from storage import Storage

_LIMIT, _MOST = 100, 1000


class ProjectRoutes:
    """Handlers of requests about projects."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._projects = ProjectList(storage)

    @operation(
        "GET",
        "/api/projects",
        name="listProjects",
        summary="The projects that the credential may read, ordered by id.",
        scope="read",
        parameters=(
            Parameter("after", "Only projects after this id: `next` of the page before.", {"type": "string"}),
            Parameter(
                "limit",
                f"At most so many; {_LIMIT} unless said.",
                {"type": "integer", "minimum": 1, "maximum": _MOST},
            ),
        ),
        answers={200: {JSON: ProjectListing}},
        problems=(InvalidParameter,),
    )
    async def list_projects(self, request: Request) -> Response:
        """`GET /api/projects`."""
        limit = whole_number(request, "limit", least=1, most=_MOST) or _LIMIT
        after = request.query_params.get("after", "")
        page = await self._projects.page(access_of(request.scope).grant, after, limit)
        return response_of(await json_with_list(page, "projects"), {"Cache-Control": "no-store"})

    @operation(
        "DELETE",
        "/api/projects/{project}",
        name="deleteProject",
        summary="Erase a project for good: its files and their history, sessions, turns and readers.",
        scope="admin",
        answers={204: {}},
        problems=(InvalidProject, ProjectNotFound),
    )
    async def delete_project(self, request: Request) -> Response:
        """`DELETE P`."""
        project = project_id(request)
        if await self._storage.erase_project(project) is None:
            raise ProjectNotFound(project)
        note(request, "project erased")
        return Response(status_code=204)
