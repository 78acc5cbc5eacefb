"""A whole document as Markdown and as HTML. Pure; sent to worker processes."""

from collections.abc import Sequence
from typing import Any

from gateway.richtext.blocks import Block
from gateway.richtext.html import opaque_nodes, write_html
from gateway.richtext.markdown_writing import write_markdown
from gateway.richtext.outline import for_markdown
from gateway.richtext.reading import Shown, blocks_of, read_blocks
from gateway.richtext.schemas import SCHEMAS, Schema, SchemaName, schema_of
from gateway.yjs.roots import NestedTooDeeply, RootKind, kind_of
from gateway.yjs.tree import Node, Tree, read_tree


class RootIsNotRichText(ValueError):
    """The document has content but no such XmlFragment; `roots` holds the kind of each root that it has."""

    def __init__(self, root: str | None, roots: dict[str, RootKind]) -> None:
        told = ", ".join(f"{name!r} (a Y.{kind.capitalize()})" for name, kind in sorted(roots.items()))
        rich = sum(kind == "xml" for kind in roots.values())
        if root is None and rich > 1:
            message = f"the document has several roots of rich text; name one by `root`: {told}"
        else:
            message = f"the {'document' if root is None else f'root {root!r}'} holds no rich text; the roots are {told}"
        super().__init__(message)
        self.root = root
        self.roots = roots

    def __reduce__(self) -> tuple[Any, ...]:
        """Let a worker process pickle the error."""
        return RootIsNotRichText, (self.root, self.roots)


def read_markdown(whole: bytes, root: str | None) -> str:
    """Return the rich text of a whole document as Markdown.

    Args:
        whole: an update in the wire form.
        root: the root that holds the rich text; None: the only one that does.

    Raises:
        RootIsNotRichText, NestedTooDeeply
    """
    try:
        node = find_root(read_tree(whole), root)
        schema = schema_of(node)
        return Page(read_blocks(node, schema), schema).markdown
    except RecursionError:
        raise NestedTooDeeply from None


def read_html(whole: bytes, root: str | None) -> str:
    """Return the rich text of a whole document as HTML.

    Raises:
        RootIsNotRichText, NestedTooDeeply
    """
    try:
        node = find_root(read_tree(whole), root)
        schema = schema_of(node)
        shown = read_blocks(node, schema)
        blocks = [block for made, _ in for_markdown(blocks_of(shown), schema) for block in made]
        return write_html(blocks, dict(opaque_nodes(shown)))
    except RecursionError:
        raise NestedTooDeeply from None


def find_root(tree: Tree, root: str | None, asked: SchemaName | None = None) -> Node:
    """Return the root that holds rich text; an empty one if there is none and the document holds nothing else.

    Args:
        asked: the schema whose usual root is meant, if no root is named and none has content.

    Raises:
        RootIsNotRichText
    """
    kinds = {name: kind for name, node in tree.roots.items() if (kind := kind_of(node)) is not None}
    if root is None:
        rich = [name for name, kind in kinds.items() if kind == "xml"]
        if len(rich) > 1 or (kinds and not rich):
            raise RootIsNotRichText(None, kinds)
        name = rich[0] if rich else _emptied(tree) or SCHEMAS[asked or "tiptap"].root
    elif kinds.get(root, "xml") != "xml" or (kinds and root not in kinds and "xml" not in kinds.values()):
        raise RootIsNotRichText(root, kinds)
    else:
        name = root
    return tree.roots.get(name) or Node(None, name)


def _emptied(tree: Tree) -> str | None:
    """Return the name of the only root, of which nothing is left."""
    return next(iter(tree.roots)) if len(tree.roots) == 1 else None


class Page:
    """The blocks of a root as Markdown. Empty paragraphs at its end are not shown."""

    def __init__(self, shown: Sequence[Shown], schema: Schema) -> None:
        visible = [each for each in shown if not each.hidden]
        self.trailing = 0
        """How many empty paragraphs at the end are not shown."""
        while self.trailing < len(visible) and visible[-1 - self.trailing].is_blank:
            self.trailing += 1
        self.all_shown = visible
        self.shown = visible[: len(visible) - self.trailing]
        self.schema = schema
        self.groups = for_markdown([each.block for each in self.shown], schema)
        """The blocks of Markdown in groups, each with how many blocks of the schema it shows."""
        self._blocks: list[Block] = [block for made, _ in self.groups for block in made]
        self.markdown, starts = write_markdown(self._blocks)
        self.starts: list[int] = []
        """The line at which each group begins."""
        at = 0
        for made, _ in self.groups:
            self.starts.append(starts[at])
            at += len(made)
