"""Documents as y-prosemirror writes them, made of ProseMirror's JSON, and edits of them by Markdown."""

import json
from collections.abc import Sequence
from typing import Any

import pycrdt

from gateway.richtext.building import Builder, link_up
from gateway.richtext.documents import read_markdown
from gateway.richtext.revising import Target, _revise
from gateway.richtext.schemas import SCHEMAS
from gateway.yjs.edit_requests import ReplaceText
from gateway.yjs.reconcile import rewriting_update
from gateway.yjs.revisions import NewText, Replacements, Revision
from gateway.yjs.sequences import Formats
from gateway.yjs.tree import Item, Node, read_tree
from gateway.yjs.values import canonical, decode_json

Json = dict[str, Any]


def document_of(content: Sequence[Json], root: str = "default", client: int = 1) -> bytes:
    """The document of which an editor shows these nodes."""
    builder = Builder(SCHEMAS["tiptap"], "")
    wanted = Node(None, root)
    link_up(wanted, _items(builder, content))
    return rewriting_update(Node(None, root), wanted, client, 0) or b"\x00\x00"


def _items(builder: Builder, content: Sequence[Json]) -> list[Item]:
    items: list[Item] = []
    runs: list[tuple[str | Item, Formats]] = []
    for node in [*content, None]:
        if node is not None and node["type"] == "text":
            runs.append(
                (node["text"], {mark["type"]: _format(mark.get("attrs", {})) for mark in node.get("marks", ())})
            )
            continue
        if runs:
            items.append(builder.shared_text(builder.formatted(runs)))
            runs = []
        if node is not None:
            items.append(builder.element(node["type"], node.get("attrs", {}), _items(builder, node.get("content", ()))))
    return items


def _format(attributes: Json) -> tuple[Any, bytes]:
    written = json.dumps(attributes, ensure_ascii=False, separators=(",", ":")).encode()
    return canonical(decode_json(written)), written


class Replica:
    """A document that is read and edited as Markdown, as the gateway does."""

    def __init__(self, whole: bytes, root: str | None = None) -> None:
        self.document: pycrdt.Doc[Any] = pycrdt.Doc()
        self.document.apply_update(whole)
        self._target = Target(root)

    @property
    def whole(self) -> bytes:
        return self.document.get_update()

    @property
    def markdown(self) -> str:
        return read_markdown(self.whole, self._target.root)

    def revise(self, revision: Revision, client: int = 77) -> bytes | None:
        update = _revise(read_tree(self.whole), self._target, revision, client)
        if update is not None:
            self.document.apply_update(update)
        return update

    def put(self, markdown: str, client: int = 77) -> bytes | None:
        return self.revise(NewText(markdown), client)

    def edit(self, old: str, new: str, client: int = 77) -> bytes | None:
        return self.revise(Replacements((ReplaceText(old, new),)), client)

    def xml(self, root: str = "default") -> str:
        return str(self.document.get(root, type=pycrdt.XmlFragment))


def places(whole: bytes, root: str = "default") -> dict[str, list[tuple[int, int]]]:
    """The places of the characters and elements of a document, by the path to what holds them."""
    found: dict[str, list[tuple[int, int]]] = {}

    def walk(node: Node, path: str) -> None:
        for item in node.items():
            if not item.deleted:
                found.setdefault(path, []).extend((item.client, item.clock + at) for at in range(item.length))
                if item.kind == 7:
                    walk(item.content, f"{path}/{item.client}.{item.clock}")

    walk(read_tree(whole).roots[root], "")
    return found


def p(*content: str | Json) -> Json:
    return {"type": "paragraph", "content": [t(each) if isinstance(each, str) else each for each in content]}


def t(text: str, *marks: str | Json) -> Json:
    return {"type": "text", "text": text, "marks": [{"type": m} if isinstance(m, str) else m for m in marks]}


def element(name: str, /, *content: Json, **attributes: Any) -> Json:
    return {"type": name, "attrs": attributes, "content": list(content)}
