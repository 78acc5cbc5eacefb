"""Between the blocks of a schema and those of Markdown: lists of list items in BlockNote, images in Tiptap. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from gateway.richtext.blocks import BREAK, EMPTY_PARAGRAPH, Atom, Block, Inline, Mark, Run, joined
from gateway.richtext.schemas import Schema

_LISTS = {"bullet": "bullets", "number": "numbers", "check": "tasks"}
_ITEMS = {"bullets": "bullet", "numbers": "number", "tasks": "check"}


def for_markdown(blocks: Sequence[Block], schema: Schema) -> list[tuple[list[Block], int]]:
    """Return the blocks as Markdown has them, in groups, each with the number of blocks of the schema that it shows."""
    if not schema.nested:
        return [([block], 1) for block in blocks]
    found: list[tuple[list[Block], int]] = []
    for kind, group in groupby(blocks, lambda block: block.kind):
        members = list(group)
        if kind in _LISTS:
            found += [([each], count) for each, count in _lists(kind, members, schema)]
        else:
            found += [(list(_unnested(block, schema)), 1) for block in members]
    return found


def _lists(kind: str, members: list[Block], schema: Schema) -> Iterator[tuple[Block, int]]:
    """Yield the lists that consecutive list items of BlockNote make: a number with a start begins another one."""
    starts = [0, *(at for at, each in enumerate(members) if at and kind == "number" and each.attributes[0] is not None)]
    for start, end in zip(starts, [*starts[1:], len(members)], strict=True):
        part = members[start:end]
        items = []
        for each in part:
            inside = [Block("paragraph", (), each.inline), *_flat(each.children, schema)]
            attributes = each.attributes if kind == "check" else ()
            items.append(Block("task" if kind == "check" else "item", attributes, (), tuple(inside)))
        first = part[0].attributes
        attributes = (first[0] if first[0] is not None else 1,) if kind == "number" else ()
        yield Block(_LISTS[kind], attributes, (), tuple(items)), len(part)


def _unnested(block: Block, schema: Schema) -> Iterator[Block]:
    """Yield a block and then what is nested in it, which Markdown cannot say of anything but list items."""
    if block.kind == "table":
        yield block
        return
    nested = block.children
    bare = block._replace(children=())
    yield Block("quote", (), (), (Block("paragraph", (), bare.inline),)) if block.kind == "quote" else bare
    yield from _flat(nested, schema)


def _flat(blocks: Sequence[Block], schema: Schema) -> Iterator[Block]:
    for shown, _ in for_markdown(blocks, schema):
        yield from shown


def from_markdown(blocks: Iterable[Block], schema: Schema) -> list[Block]:
    """Return blocks of Markdown as the schema has them."""
    found: list[Block] = []
    for block in blocks:
        found += _nested(block, schema) if schema.nested else _adapted(block, schema)
    return found


def _adapted(block: Block, schema: Schema) -> Iterator[Block]:
    if block.kind == "paragraph" and not schema.images_inline:
        yield from _split_at_images(block)
        return
    if block.kind in ("quote", "item", "task", "bullets", "numbers", "tasks"):
        children = from_markdown(block.children, schema)
        if block.kind in ("quote", "item", "task") and (
            not children or (children[0].kind != "paragraph" and (block.kind == "task" or schema.name == "tiptap"))
        ):
            children = children if block.kind == "quote" and children else [EMPTY_PARAGRAPH, *children]
        block = block._replace(children=tuple(children))
    elif not schema.images_inline:
        block = _without_images(block)
    yield block


def _nested(block: Block, schema: Schema) -> Iterator[Block]:
    match block.kind:
        case "paragraph":
            yield from _split_at_images(block)
        case "quote":
            for child in block.children or (EMPTY_PARAGRAPH,):
                if child.kind == "paragraph":
                    yield _without_images(child._replace(kind="quote"))
                else:
                    yield from _nested(child, schema)
        case "bullets" | "numbers" | "tasks":
            for index, item in enumerate(block.children):
                children = item.children
                first = children[0] if children and children[0].kind == "paragraph" else None
                rest = children[1:] if first else children
                attributes = item.attributes
                if block.kind == "numbers":
                    attributes = (block.attributes[0] if not index and block.attributes[0] != 1 else None,)
                inline = () if first is None else _without_images(first).inline
                yield Block(_ITEMS[block.kind], attributes, inline, tuple(from_markdown(rest, schema)))
        case _:
            yield _without_images(block)


def _split_at_images(block: Block) -> Iterator[Block]:
    """Yield the parts of a paragraph around its images, which are blocks of their own."""
    if not any(isinstance(piece, Atom) and piece.kind == "image" for piece in block.inline):
        yield block
        return
    part: list[Run | Atom] = []
    for piece in (*block.inline, None):
        if isinstance(piece, Run) or (piece is not None and piece.kind != "image"):
            part.append(piece)
            continue
        if inline := _trimmed(part):
            yield Block("paragraph", (), inline)
        part = []
        if piece is not None:
            yield Block("image", piece.attributes)


def _trimmed(part: list[Run | Atom]) -> Inline:
    """Return inline content without breaks and white space at its ends."""
    pieces = [*part]
    for end in (0, -1):
        while pieces:
            piece = pieces[end]
            if isinstance(piece, Run):
                text = piece.text.rstrip() if end else piece.text.lstrip()
                if text:
                    pieces[end] = Run(text, piece.marks)
                    break
            elif piece != BREAK:
                break
            del pieces[end]
    return joined(pieces)


def _without_images(block: Block) -> Block:
    """Return a block of Markdown whose images are links instead: the schema has no images in text."""
    inline = joined(
        _link(piece) if isinstance(piece, Atom) and piece.kind == "image" else piece for piece in block.inline
    )
    return block._replace(inline=inline, children=tuple(map(_without_images, block.children)))


def _link(image: Atom) -> Run:
    source, alternative, title = image.attributes
    return Run(alternative or source, frozenset([Mark("link", source, title)]))
