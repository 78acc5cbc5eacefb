"""Routes of a single file: read, write, edit, delete and move."""

import contextlib
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.operation import WAIT_SCHEMA, Parameter, operation
from gateway.api.receipts import FILE_PATH, receipt_answer
from gateway.files.preconditions import changed_since
from gateway.files.reader import Content
from gateway.files.revisions import NewText, replacements
from gateway.files.store import Files, Written
from gateway.http.json_bodies import read_json
from gateway.http.permission import access_of, note, view_of, visible_path
from gateway.http.requests import (
    accepted_form,
    checked_path,
    file_path,
    header,
    header_bytes,
    if_modified_since,
    if_none_match,
    preconditions,
    project_id,
    read_body,
    require_media_type,
    state_vector,
    states_media_type,
    text_of,
    whole_number,
)
from gateway.http.waits import empty_after_wait, parse_wait, wait_for_change
from gateway.presence.writers import Writers
from gateway.richtext.revising import Target
from gateway.richtext.schemas import SCHEMA_NAMES, SchemaName
from gateway.watch.filter import ChangeFilter
from gateway.watch.hub import Hub
from gateway.wire.files import EditRequest, MoveRequest, Receipt
from gateway.wire.headers import file_headers, version_headers
from gateway.wire.media_types import HTML, JSON, MARKDOWN, OCTETS, TEXT
from gateway.wire.problems import (
    BodyTooLarge,
    DocumentTooLarge,
    EditNotApplicable,
    FileDeleted,
    FileExists,
    FileNotFound,
    InvalidBody,
    InvalidParameter,
    InvalidPath,
    InvalidStateVector,
    InvalidText,
    InvalidUpdateBody,
    MissingPredecessors,
    NestedTooDeeply,
    NotAText,
    PreconditionFailed,
    ProjectNotFound,
    StoredDataDamaged,
    TooComplex,
    UnsupportedMediaType,
    UnsupportedSchema,
    VersionAhead,
    VersionNotFound,
    WriteContention,
)
from gateway.wire.tags import Form, version_tag
from gateway.wire.values import has_unseen
from storage import Author, FileHead, wall_clock

_LONGEST_ROOT = 200
"""The maximum length of the name of a root, in bytes."""
_DEFAULT_ROOT = "content"
_FORMATS: tuple[Form, ...] = ("update", "text", "json", "markdown", "html")

_IF_MATCH = Parameter("If-Match", "Write only if the file is in one of these states.", {"type": "string"}, "header")
_IF_UNMODIFIED_SINCE = Parameter(
    "If-Unmodified-Since",
    "Write only if the file has not changed since; counts without `If-Match`.",
    {"type": "string"},
    "header",
)
_IF_NONE_MATCH = Parameter("If-None-Match", "Entity tags that the client has, or `*`.", {"type": "string"}, "header")
_LIFE = Parameter("X-Incarnation", "The incarnation of the file that the write means.", {"type": "string"}, "header")
AUTHOR = Parameter("X-Author", "Author, for the history.", {"type": "string", "maxLength": 200}, "header")
CONDITIONS = (_IF_MATCH, _IF_UNMODIFIED_SINCE, _IF_NONE_MATCH, _LIFE, AUTHOR)
FILE_HEADERS = ("ETag", "Last-Modified", "X-Version", "X-From-Version", "X-Incarnation")
ROOT = Parameter(
    "root",
    "The name of the root `Y.Text`; `content` unless said otherwise. Of rich text: the only root that has any.",
    {"type": "string"},
)
_VERSION = {"type": "integer", "minimum": 0}


BASE_VERSION = Parameter(
    "base_version",
    "The version that the text was made of: what others have written since stays. 0: there is no file.",
    _VERSION,
)
PREFER = Parameter("Prefer", "`return=representation`: answer with the text.", {"type": "string"}, "header")

_SCHEMA = Parameter(
    "schema",
    "With Markdown: the schema of a document whose content does not tell it: `tiptap` unless said otherwise.",
    {"enum": list(SCHEMA_NAMES)},
)
_RICH_TEXT = (UnsupportedSchema, NestedTooDeeply, TooComplex)

_WRITTEN = {200: {JSON: Receipt}, 201: {JSON: Receipt}}
_REVISED = {status: {JSON: Receipt, TEXT: str, MARKDOWN: str} for status in (200, 201)}
_WRITE = (
    InvalidPath,
    InvalidParameter,
    FileDeleted,
    PreconditionFailed,
    WriteContention,
    BodyTooLarge,
    DocumentTooLarge,
    StoredDataDamaged,
)


class FileRoutes:
    """Handlers of a single file."""

    def __init__(self, files: Files, hub: Hub, writers: Writers, *, body_limit: int) -> None:
        self._files = files
        self._hub = hub
        self._writers = writers
        self._body_limit = body_limit

    @operation(
        "GET",
        FILE_PATH,
        name="readFile",
        summary="The document: whole, what was added, as it was, or as text.",
        scope="read",
        parameters=(
            Parameter("from_version", "Only what later versions added.", _VERSION),
            Parameter("state_vector", "Exactly what this state vector lacks, base64url.", {"type": "string"}),
            Parameter("at_version", "The document as it was.", {"type": "integer", "minimum": 1}),
            Parameter("format", "How it is written.", {"enum": list(_FORMATS)}),
            Parameter("wait", "Seconds to wait for something newer.", WAIT_SCHEMA),
            ROOT,
            _IF_NONE_MATCH,
            Parameter("If-Modified-Since", "A date; counts without `If-None-Match`.", {"type": "string"}, "header"),
        ),
        headers=FILE_HEADERS,
        answers={200: {OCTETS: bytes, TEXT: str, JSON: dict, MARKDOWN: str, HTML: str}, 204: {}, 304: {}},
        problems=(
            StoredDataDamaged,
            InvalidPath,
            InvalidParameter,
            InvalidStateVector,
            ProjectNotFound,
            FileNotFound,
            VersionNotFound,
            FileDeleted,
            VersionAhead,
            NotAText,
            NestedTooDeeply,
            WriteContention,
        ),
    )
    async def read(self, request: Request) -> Response:
        """`GET P/files/{path}` in all its variants."""
        project, path = project_id(request), file_path(request)
        wanted = _wanted_format(request)
        since = whole_number(request, "from_version", least=0)
        at = whole_number(request, "at_version", least=1)
        lacking = state_vector(request)
        if sum(parameter is not None for parameter in (since, at, lacking)) > 1:
            raise InvalidParameter("from_version", "it excludes at_version and state_vector, and they each other")
        if lacking is not None and wanted != "update":
            raise InvalidParameter("state_vector", "what it asks for is an update, not text or JSON")
        wait = parse_wait(request)
        if at is not None:
            return await self._read_past(request, project, path, at, wanted)
        watched = await self._hub.require(project)
        as_of = watched.head
        head = await self._files.head(project, path, since or 0, if_none_match(request))
        known = _is_known(request, head, wanted)
        if known or (since is not None and since == head.version):
            wait_for_change(request, wait, watched, as_of, ChangeFilter(turns=False, paths=frozenset([path])))
            headers = {**file_headers(head, since or 0, wanted), **empty_after_wait(request)}
            return Response(status_code=304 if known else 204, headers=headers)
        if wanted == "update" and since is None and lacking is None:
            content, update = await self._files.read_newest(project, path, head)
            return Response(update, headers=_content_headers(content, wanted), media_type=OCTETS)
        if since is not None and wanted == "update":
            content = await self._files.read_since(project, path, since)
            return Response(content.update, headers=_content_headers(content, wanted), media_type=OCTETS)
        if lacking is not None:
            content = await self._files.read_lacking(project, path, lacking)
        else:
            content = await self._read_whole(project, path, since)
        return await self._represent(content, wanted, request)

    async def _read_past(self, request: Request, project: str, path: str, version: int, wanted: Form) -> Response:
        """Answer with a past version of the file, even if the file was deleted since."""
        stored = await self._files.stored_at(project, path, version)
        tags = if_none_match(request)
        if tags is not None and tags.match(version_tag(stored.incarnation, stored.version, wanted)):
            headers = version_headers(stored.incarnation, stored.version, stored.last_modified, 0, wanted)
            return Response(status_code=304, headers=headers)
        return await self._represent(await self._files.build_past(project, path, stored), wanted, request)

    async def _read_whole(self, project: str, path: str, since: int | None) -> Content:
        content = await self._files.read_whole(project, path)
        if since is not None and since > content.version:
            raise VersionAhead(path, since, content.version)
        return content

    async def _represent(self, content: Content, wanted: Form, request: Request) -> Response:
        headers = _content_headers(content, wanted)
        if wanted == "text":
            text = await self._files.text_of(content, root_of(request))
            return Response(text, headers=headers, media_type=TEXT)
        if wanted == "markdown" or wanted == "html":
            return _rich_text(await self._files.rich_text_of(content, wanted, named_root(request)), wanted, headers)
        if wanted == "json":
            return Response(await self._files.json_of(content), headers=headers, media_type=JSON)
        return Response(await self._files.wire_update(content), headers=headers, media_type=OCTETS)

    @operation(
        "PATCH",
        FILE_PATH,
        name="appendUpdate",
        summary="Merge a Yjs update (v1), creating the file.",
        scope="write",
        parameters=CONDITIONS,
        body={OCTETS: bytes},
        headers=FILE_HEADERS,
        answers=_WRITTEN,
        problems=(*_WRITE, InvalidUpdateBody, MissingPredecessors, UnsupportedMediaType),
    )
    async def append(self, request: Request) -> Response:
        """`PATCH P/files/{path}`: merge an update."""
        project, path = project_id(request), file_path(request)
        require_media_type(request, OCTETS)
        conditions = preconditions(request)
        update = await read_body(request, self._body_limit)
        return _noted(request, await self._files.append(project, path, update, conditions, author_of(request)))

    @operation(
        "PUT",
        FILE_PATH,
        name="putText",
        summary="Replace a text, or rich text as Markdown, by the smallest edit: of `base_version`, if there is one.",
        scope="write",
        parameters=(ROOT, _SCHEMA, BASE_VERSION, *CONDITIONS, PREFER),
        body={TEXT: str, MARKDOWN: str},
        headers=FILE_HEADERS,
        answers=_REVISED,
        problems=(
            *_WRITE,
            *_RICH_TEXT,
            InvalidText,
            NotAText,
            ProjectNotFound,
            FileNotFound,
            VersionAhead,
            UnsupportedMediaType,
        ),
    )
    async def put(self, request: Request) -> Response:
        """`PUT P/files/{path}`: replace the text."""
        project, path = project_id(request), file_path(request)
        markdown = states_media_type(request, MARKDOWN)
        require_media_type(request, MARKDOWN if markdown else TEXT)
        schema = _schema(request, markdown)
        conditions = preconditions(request)
        body = await read_body(request, self._body_limit)
        text = await text_of(body)
        root, author, make = root_of(request), author_of(request), "root" in request.query_params
        base = whole_number(request, "base_version", least=0)
        if markdown:
            target = Target(named_root(request), schema)
            revision = NewText(text)
            written = await self._files.revise_rich_text(
                project, path, target, revision, base, conditions, author, make=True
            )
            return await self._revised(request, project, written, target.root, "markdown")
        if base is None:
            written = await self._files.put_text(project, path, text, root, conditions, author, make=make)
        else:
            revision = NewText(text)
            written = await self._files.revise(project, path, root, revision, base, conditions, author, make=make)
        return await self._revised(request, project, written, root)

    @operation(
        "POST",
        "/api/projects/{project}/edits/{path:file}",
        name="editText",
        summary="Replace parts of the text of a root, all or none; with `base_version`, as edits of that version.",
        scope="write",
        parameters=(*CONDITIONS, PREFER),
        body={JSON: EditRequest},
        headers=FILE_HEADERS,
        answers={200: {JSON: Receipt, TEXT: str, MARKDOWN: str}},
        problems=(
            *_WRITE,
            *_RICH_TEXT,
            InvalidBody,
            NotAText,
            EditNotApplicable,
            ProjectNotFound,
            FileNotFound,
            VersionAhead,
            UnsupportedMediaType,
        ),
    )
    async def edit(self, request: Request) -> Response:
        """`POST P/edits/{path}`: replace parts of the text."""
        project, path = project_id(request), file_path(request)
        require_media_type(request, JSON)
        conditions, author = preconditions(request), author_of(request)
        asked = await read_json(request, self._body_limit, EditRequest)
        revision = replacements(asked.edits)
        if asked.format == "markdown":
            target = Target(None if asked.root is None else checked_root(asked.root))
            base = asked.base_version
            written = await self._files.revise_rich_text(project, path, target, revision, base, conditions, author)
            return await self._revised(request, project, written, target.root, "markdown")
        root = _DEFAULT_ROOT if asked.root is None else checked_root(asked.root)
        written = await self._files.revise(project, path, root, revision, asked.base_version, conditions, author)
        return await self._revised(request, project, written, root)

    async def _revised(
        self,
        request: Request,
        project: str,
        written: Written,
        root: str | None,
        form: Literal["text", "markdown"] = "text",
    ) -> Response:
        """Answer a revision with its receipt or, with `Prefer: return=representation` (RFC 7240), the new text."""
        self._writers.show(project, written, author_of(request).name, root, access_of(request.scope).subject)
        noted = _noted(request, written)
        if not _prefers_representation(request):
            return noted
        content = await self._files.read_at(project, written.head.path, written.head.version)
        headers = {
            **version_headers(content.incarnation, content.version, content.last_modified, 0, form),
            "Preference-Applied": "return=representation",
        }
        if form == "markdown":
            return _rich_text(await self._files.rich_text_of(content, form, root), form, headers, noted.status_code)
        assert root is not None
        text = await self._files.text_of(content, root)
        return Response(text, status_code=noted.status_code, headers=headers, media_type=TEXT)

    @operation(
        "DELETE",
        FILE_PATH,
        name="deleteFile",
        summary="Delete the file; its tombstone is a version.",
        scope="write",
        parameters=CONDITIONS,
        headers=FILE_HEADERS,
        answers={204: {}},
        problems=(*_WRITE, ProjectNotFound, FileNotFound),
    )
    async def delete(self, request: Request) -> Response:
        """`DELETE P/files/{path}`: write a tombstone."""
        project, path = project_id(request), file_path(request)
        head = await self._files.delete(project, path, preconditions(request), author_of(request))
        note(request, "delete", path=path, version=head.version)
        return Response(status_code=204, headers=file_headers(head))

    @operation(
        "POST",
        "/api/projects/{project}/files/move",
        name="moveFile",
        summary="Move a file, content and all.",
        scope="write",
        parameters=(AUTHOR,),
        body={JSON: MoveRequest},
        headers=FILE_HEADERS,
        answers={201: {JSON: Receipt}},
        problems=(
            InvalidPath,
            InvalidBody,
            ProjectNotFound,
            FileNotFound,
            FileDeleted,
            FileExists,
            WriteContention,
            BodyTooLarge,
            UnsupportedMediaType,
        ),
    )
    async def move(self, request: Request) -> Response:
        """`POST P/files/move`."""
        project = project_id(request)
        require_media_type(request, JSON)
        move = await read_json(request, self._body_limit, MoveRequest)
        source, target = (visible_path(request, checked_path(path)) for path in (move.source, move.target))
        written = await self._files.move(project, source, target, author_of(request))
        note(request, "move", path=target, version=written.head.version, detail=f"from {source}")
        return receipt(written)


def _content_headers(content: Content, form: Form) -> dict[str, str]:
    return version_headers(content.incarnation, content.version, content.last_modified, content.builds_on, form)


def _is_known(request: Request, head: FileHead, form: Form) -> bool:
    """Whether the client already has this representation: the current state in this form, not in another one."""
    tags = if_none_match(request)
    if tags is not None:
        return tags.match(version_tag(head.incarnation, head.version, form))
    since = if_modified_since(request)
    return since is not None and not changed_since(head.last_modified, since, wall_clock())


def _wanted_format(request: Request) -> Form:
    wanted = request.query_params.get("format")
    if wanted is None:
        return accepted_form(header_bytes(request, b"accept"))
    for form in _FORMATS:
        if wanted == form:
            return form
    raise InvalidParameter("format", f"it is one of {', '.join(_FORMATS)}")


def _prefers_representation(request: Request) -> bool:
    preferences = (header(request, b"prefer") or "").split(",")
    return any(each.split(";")[0].replace(" ", "").lower() == "return=representation" for each in preferences)


def _rich_text(text: bytes, form: Literal["markdown", "html"], headers: dict[str, str], status: int = 200) -> Response:
    if form == "markdown":
        return Response(text, status_code=status, headers=headers, media_type=MARKDOWN)
    return Response(
        text, headers={**headers, "Content-Security-Policy": "sandbox; default-src 'none'"}, media_type=HTML
    )


def _schema(request: Request, markdown: bool) -> SchemaName | None:
    schema = request.query_params.get("schema")
    if schema is None:
        return None
    for name in SCHEMA_NAMES:
        if schema == name and markdown:
            return name
    raise InvalidParameter("schema", f"it goes with a body of {MARKDOWN}, and is one of {', '.join(SCHEMA_NAMES)}")


def named_root(request: Request) -> str | None:
    """Return the name of the root that the request names; None if it names none."""
    return root_of(request) if "root" in request.query_params else None


def root_of(request: Request) -> str:
    return checked_root(request.query_params.get("root", _DEFAULT_ROOT))


def checked_root(root: str) -> str:
    """Check the name of a root and return it.

    Raises:
        InvalidParameter
    """
    if len(root.encode("utf-8", "surrogatepass")) > _LONGEST_ROOT:
        raise InvalidParameter("root", f"it has more than {_LONGEST_ROOT} bytes")
    return root


def author_of(request: Request) -> Author:
    """Return the author of a write: the subject of the credential. `X-Author` replaces it if the gateway requires no
    credentials, and with the scope `admin`, since an application's backend writes for its users.

    The header is decoded as UTF-8, which most tools send, or else as ISO-8859-1 (RFC 9110 §5.5).
    """
    access = access_of(request.scope)
    name = header(request, b"x-author")
    if name is None or not view_of(request).may("admin"):
        return access.author
    with contextlib.suppress(UnicodeDecodeError):
        name = name.encode("latin-1").decode()
    if len(name) > 200:
        raise InvalidParameter("X-Author", "it has more than 200 characters")
    if has_unseen(name):
        raise InvalidParameter("X-Author", "it has a control or format character")
    return Author(name, access.credential)


def _noted(request: Request, written: Written) -> Response:
    if written.changed:
        note(request, "write", path=written.head.path, version=written.head.version)
    return receipt(written)


def receipt(written: Written) -> Response:
    return _ReceiptAnswer(written)


class _ReceiptAnswer(Response):
    """The answer to a write. It sets directly what `Response` would compute."""

    media_type = JSON

    def __init__(self, written: Written) -> None:
        self.background = None
        self.status_code, self.raw_headers, self.body = receipt_answer(written)
