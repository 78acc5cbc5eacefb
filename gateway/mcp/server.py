"""The tools and the files of a project as a server of the protocol, built on the official package."""

import mimetypes
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any
from urllib.parse import quote, unquote

import anyio
import mcp_types as types
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourcesListChanged, ResourceUpdated
from mcp.shared.exceptions import MCPError

from gateway.client import GatewayError, Project
from gateway.client.errors import ProjectNotFound
from gateway.mcp.desk import Desk
from gateway.mcp.tools import BY_NAME, TOOLS, Refused, read_as_text
from gateway.wire.changes import FileFeedEntry
from gateway.wire.values import path_fault

Context = Any
"""`mcp.server.context.ServerRequestContext`: its type arguments depend on the transport."""
Desks = Callable[[Context], Awaitable[Desk]]
"""Finds the desk of the caller."""

_PAGE = 1000
_LONGEST_RESOURCE = 2**20
"""Bytes of a file that is read as a resource."""
_ABSENT_S = 1
"""How often a project that does not exist yet is looked for."""
_NAME = "yjs-gateway"
_INSTRUCTIONS = (
    "The files of a project that people and other agents edit at the same time as you. Edits merge: nobody needs to "
    "wait, and nothing that others write is lost. Change files with edit_file; what_changed tells what others did."
)


def make_server(desks: Desks, **more: Any) -> Server[Any]:
    """Make a server whose tools and resources are those of the caller's project.

    Args:
        more: further handlers, under the package's names for them.
    """

    async def list_tools(context: Context, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=_TOOLS)

    async def call_tool(context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        tool = BY_NAME.get(params.name)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, f"there is no tool {params.name!r}")
        try:
            text, failed = await tool.call(await desks(context), params.arguments or {}), False
        except Refused as refusal:
            text, failed = str(refusal), True
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=failed)

    async def list_resources(context: Context, params: types.PaginatedRequestParams | None) -> Any:
        project = (await desks(context)).project
        cursor = None if params is None else params.cursor
        if cursor is not None and path_fault(cursor) is not None:
            raise MCPError(types.INVALID_PARAMS, "the cursor is not one of an earlier answer")
        try:
            listing = (await project.list_files(after=cursor, limit=_PAGE)).value
        except ProjectNotFound:
            return types.ListResourcesResult(resources=[])
        except GatewayError as error:
            raise _error(error) from None
        assert listing is not None
        resources = [
            types.Resource(
                name=each.path,
                uri=uri_of(project.name, each.path),
                mime_type=_media_type(each.path),
                annotations=types.Annotations(last_modified=each.last_modified),
            )
            for each in listing.files
        ]
        return types.ListResourcesResult(resources=resources, next_cursor=listing.next)

    async def list_templates(context: Context, params: Any) -> types.ListResourceTemplatesResult:
        name = (await desks(context)).project.name
        template = types.ResourceTemplate(
            name="file", title="A file of the project", uri_template=f"yjs://{name}/{{+path}}"
        )
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def read_resource(context: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        project, uri = (await desks(context)).project, str(params.uri)
        path = path_of(project.name, uri)
        try:
            if path is None:
                raise MCPError(types.INVALID_PARAMS, f"{uri} is no resource of this project", {"uri": uri})
            text, rich = await read_as_text(project, path)
        except GatewayError as error:
            raise _error(error, uri=uri) from None
        if len(text.value) > _LONGEST_RESOURCE:  # the package encodes it in one step
            reason = f"it has more than {_LONGEST_RESOURCE} bytes: the tool read_file reads it in parts"
            raise MCPError(types.INVALID_PARAMS, f"{uri} is too long: {reason}", {"uri": uri})
        media_type = "text/markdown" if rich else _media_type(path)
        return types.ReadResourceResult(
            contents=[types.TextResourceContents(uri=uri, mime_type=media_type, text=text.value.decode())]
        )

    async def listen(context: Context, params: types.SubscriptionsListenRequestParams) -> Any:
        return await _listen((await desks(context)).project, context, params)

    return Server(
        _NAME,
        version=version("yjs-gateway"),
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscriptions_listen=listen,
        **more,
    )


def initialization(server: Server[Any]) -> InitializationOptions:
    """Return what a server reports to a client that keeps a session, in which it is notified of changes."""
    return server.create_initialization_options(NotificationOptions(resources_changed=True))


async def follow(project: Project, since: str | None, changed: Callable[[str, bool], Awaitable[None]]) -> None:
    """Until cancelled, report every change of a file after a cursor: the file's URI, and whether the list of files has
    changed. Without a cursor, and wherever the project does not exist, this waits for the project's first file."""
    while True:
        try:
            async for answer in project.follow(since, transport="wait", kinds=("file",)):
                for entry in answer.changes:
                    if isinstance(entry, FileFeedEntry):
                        await changed(uri_of(project.name, entry.path), entry.change_type != "modified")
        except ProjectNotFound:
            since = None
            await anyio.sleep(_ABSENT_S)


async def cursor_of(project: Project) -> str | None:
    """Return the cursor at the end of a project's feed; None if the project does not exist yet."""
    try:
        listing = (await project.list_files(limit=1)).value
    except ProjectNotFound:
        return None
    assert listing is not None
    return listing.cursor


async def _listen(project: Project, context: Context, params: types.SubscriptionsListenRequestParams) -> Any:
    """Notify one client of changes until it disconnects."""
    bus = InMemorySubscriptionBus()

    async def publish(uri: str, other_list: bool) -> None:
        if other_list:
            await bus.publish(ResourcesListChanged())
        await bus.publish(ResourceUpdated(uri=uri))

    try:
        since = await cursor_of(project)  # everything from here on is reported
    except GatewayError as error:
        raise _error(error) from None
    async with anyio.create_task_group() as group:
        group.start_soon(follow, project, since, publish)
        result = await ListenHandler(bus)(context, params)
        group.cancel_scope.cancel()
    return result


def _error(error: GatewayError, **data: str) -> MCPError:
    """Return the protocol's error: the request was wrong, or else the gateway could not answer."""
    asked_wrongly = error.status is not None and 400 <= error.status < 500 and error.status != 429
    return MCPError(types.INVALID_PARAMS if asked_wrongly else types.INTERNAL_ERROR, str(error), data or None)


def uri_of(project: str, path: str) -> str:
    """Return the URI of a file as a resource."""
    return f"yjs://{project}/{quote(path)}"


def path_of(project: str, uri: str) -> str | None:
    """Return the file that a URI names; None if it names no file of this project."""
    start = f"yjs://{project}/"
    if not uri.startswith(start):
        return None
    try:
        path = unquote(uri.removeprefix(start), errors="strict")
    except UnicodeDecodeError:
        return None
    return path if path_fault(path) is None else None


def _media_type(path: str) -> str:
    found = mimetypes.guess_type(path)[0]
    return found if found is not None and found.startswith("text/") else "text/plain"


_TOOLS = [
    types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.schema(),
        annotations=types.ToolAnnotations(
            title=tool.title,
            read_only_hint=tool.reads,
            destructive_hint=tool.destroys,
            idempotent_hint=tool.repeats,
            open_world_hint=False,
        ),
    )
    for tool in TOOLS
]
