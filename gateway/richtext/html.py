"""Writes rich text as HTML in which nothing runs. What Markdown cannot say is shown by its content. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

from gateway.richtext.blocks import Atom, Block, Inline, Mark, Run
from gateway.richtext.building import is_safe, is_safe_image
from gateway.richtext.reading import Shown, identity
from gateway.yjs.scan import STRING, TYPE
from gateway.yjs.tree import Node

_TAGS = {"bold": "strong", "italic": "em", "strike": "s", "code": "code"}
_ORDER = ("link", "bold", "italic", "strike", "code")


def write_html(blocks: Sequence[Block], opaque: Mapping[str, Node]) -> str:
    """Return blocks as HTML.

    Args:
        opaque: the elements that Markdown cannot say, by id.
    """
    return "\n".join(_Writer(opaque).block(block) for block in blocks) + ("\n" if blocks else "")


def opaque_nodes(shown: Iterable[Shown]) -> Iterator[tuple[str, Node]]:
    """Yield the elements that Markdown cannot say, each with its id."""
    for each in shown:
        if each.block.kind == "opaque":
            yield identity(each.item)[1], each.node
        for piece in each.pieces:
            if piece.atom is not None and piece.atom.kind == "opaque":
                yield identity(piece.item)[1], piece.item.content
        yield from opaque_nodes(each.children if each.content is None else (each.content, *each.children))


class _Writer:
    def __init__(self, opaque: Mapping[str, Node]) -> None:
        self._opaque = opaque

    def block(self, block: Block) -> str:
        match block.kind:
            case "paragraph":
                return f"<p>{self._inline(block.inline)}</p>"
            case "heading":
                level = block.attributes[0]
                return f"<h{level}>{self._inline(block.inline)}</h{level}>"
            case "code":
                language = block.attributes[0]
                named = f' class="language-{escape(language)}"' if language else ""
                return f"<pre><code{named}>{self._inline(block.inline)}</code></pre>"
            case "quote":
                return f"<blockquote>{self._blocks(block)}</blockquote>"
            case "bullets" | "tasks":
                return f"<ul>{self._blocks(block)}</ul>"
            case "numbers":
                start = block.attributes[0]
                numbered = "" if start == 1 else f' start="{start}"'
                return f"<ol{numbered}>{self._blocks(block)}</ol>"
            case "item":
                return f"<li>{self._blocks(block)}</li>"
            case "task":
                checked = " checked" if block.attributes[0] else ""
                return f'<li><input type="checkbox" disabled{checked}>{self._blocks(block)}</li>'
            case "table":
                return self._table(block)
            case "rule":
                return "<hr>"
            case "image":
                return self._atom(Atom("image", block.attributes))
        return self._unknown(block.attributes, "div")

    def _blocks(self, block: Block) -> str:
        return "".join(map(self.block, block.children))

    def _table(self, block: Block) -> str:
        rows = []
        for index, row in enumerate(block.children):
            name = "td" if index else "th"
            cells = []
            for cell, align in zip(row.children, _padded(block.attributes[0], len(row.children)), strict=True):
                aligned = f' style="text-align:{align}"' if align else ""
                cells.append(f"<{name}{aligned}>{self._inline(cell.inline)}</{name}>")
            rows.append(f"<tr>{''.join(cells)}</tr>")
        return f"<table><thead>{rows[0]}</thead><tbody>{''.join(rows[1:])}</tbody></table>"

    def _inline(self, inline: Inline) -> str:
        return "".join(self._run(each) if isinstance(each, Run) else self._atom(each) for each in inline)

    def _run(self, run: Run) -> str:
        text = escape(run.text)
        for mark in sorted(run.marks, key=lambda mark: _ORDER.index(mark.kind), reverse=True):
            text = _link(mark, text) if mark.kind == "link" else f"<{_TAGS[mark.kind]}>{text}</{_TAGS[mark.kind]}>"
        return text

    def _atom(self, atom: Atom) -> str:
        if atom.kind == "break":
            return "<br>"
        if atom.kind == "image":
            source, alternative, title = atom.attributes
            named = f' title="{escape(title)}"' if title else ""
            shown = f' src="{escape(source)}"' if is_safe_image(source) else ""
            return f'<img{shown} alt="{escape(alternative)}"{named}>'
        return self._unknown(atom.attributes, "span")

    def _unknown(self, identity: Sequence[str], tag: str) -> str:
        name, place = identity
        node = self._opaque.get(place)
        content = "" if node is None else _content(node)
        return f'<{tag} data-type="{escape(name)}">{content}</{tag}>'


def _link(mark: Mark, text: str) -> str:
    if not is_safe(mark.href):
        return text
    named = f' title="{escape(mark.title)}"' if mark.title else ""
    return f'<a href="{escape(mark.href)}" rel="noopener noreferrer nofollow"{named}>{text}</a>'


def _content(node: Node) -> str:
    parts = []
    for item in node.items():
        if item.deleted:
            continue
        if item.kind == STRING:
            parts.append(escape(item.content))
        elif item.kind == TYPE:
            inside: Node = item.content
            shown = _content(inside)
            parts.append(f'<div data-type="{escape(inside.name)}">{shown}</div>' if inside.name else shown)
    return "".join(parts)


def _padded(align: Sequence[str | None], count: int) -> list[str | None]:
    return [*align[:count], *[None] * (count - len(align))]
