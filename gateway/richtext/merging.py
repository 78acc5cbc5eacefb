"""Makes the smallest edit of the blocks of a document after which they say what Markdown says. Pure.

Blocks that say the same stay untouched. A changed block is edited inside: its characters by the smallest edit, with all
that Markdown cannot say (colours, comments, other attributes) kept.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from gateway.richtext.blocks import Atom, Block, Inline, Marks, Run
from gateway.richtext.building import Builder, link_up, same_item
from gateway.richtext.planning import Step, plan, require_same_placeholders
from gateway.richtext.reading import Piece, Shown
from gateway.richtext.schemas import GROUP, Schema, base_name
from gateway.yjs.diff import Difference, Work, differences
from gateway.yjs.scan import FORMAT, STRING
from gateway.yjs.sequences import Formats, place_of, units_of
from gateway.yjs.text_edits import smallest_edits
from gateway.yjs.tree import Item, Node
from gateway.yjs.values import decode_json

CELLS = 2**27
"""The comparison budget of one edit: about 15 ms."""
_INLINE = ("paragraph", "heading", "code", "bullet", "number", "check")


class Merger:
    """Edits the blocks of a document of a schema."""

    def __init__(self, schema: Schema, seed: str) -> None:
        self._schema = schema
        self._builder = Builder(schema, seed)
        self._work = Work(CELLS)

    def blocks(
        self, holder: Node, shown: Sequence[Shown], new: Sequence[Block], steps: Sequence[Step] | None = None
    ) -> list[Item]:
        """Return the sequence of the shared type that holds blocks, after the edit.

        Args:
            shown: the blocks in `holder` that are shown; all else in it stays.
            steps: what becomes of the blocks, if that is known already.
        """
        steps = steps or plan([each.block for each in shown], new, self._work)
        return self._arranged(holder, shown, steps, self._edited, self._builder.block)

    def new_blocks(self, holder: Node, new: Sequence[Block]) -> list[Item]:
        """Return the sequence of a shared type that shows no blocks, with new ones."""
        kept = [same_item(item, item.content) for item in holder.items() if not item.deleted and item.kind != FORMAT]
        return [*map(self._builder.block, new), *kept]

    def hold(self, wanted: Node, root: Node, group: Item | None, items: list[Item]) -> None:
        """Make blocks the sequence of a root: directly, or in the element that the schema has around them."""
        if group is not None:
            changed = self._copied(group, items, {})
            around = [
                changed if item is group else same_item(item, item.content) for item in root.items() if not item.deleted
            ]
            link_up(wanted, around)
        elif self._schema.nested and items:
            link_up(wanted, [self._builder.element(GROUP, {}, items)])
        else:
            link_up(wanted, items)

    def _arranged(
        self,
        holder: Node,
        shown: Sequence[Shown],
        steps: Sequence[Step],
        edit: Callable[[Shown, Block], Item],
        build: Callable[[Block], Item],
    ) -> list[Item]:
        places = {id(each.item): index for index, each in enumerate(shown)}
        kept: dict[int, Item] = {}
        inserted: list[list[Item]] = [[] for _ in range(len(shown) + 1)]
        """New items, by the index of the old block before which they come."""
        at = 0
        for kind, index, block in steps:
            if kind in ("keep", "edit"):
                old = shown[index]
                kept[index] = same_item(old.item, old.node) if kind == "keep" else edit(old, block)
                at = index + 1
            elif kind == "copy":
                inserted[at].append(self._builder.item(shown[index].item.kind, shown[index].node))
            else:
                inserted[at].append(build(block))
        items = inserted[0]
        for item in holder.items():
            if item.deleted or item.kind == FORMAT:
                continue
            place = places.get(id(item))
            if place is None:
                items.append(same_item(item, item.content))
                continue
            items += [kept[place]] if place in kept else []
            items += inserted[place + 1]
        return items

    # One block

    def _edited(self, shown: Shown, new: Block) -> Item:
        """Return the item of a block that is edited inside."""
        if shown.content is not None:
            return self._edited_container(shown, shown.content, new)
        old = shown.block
        if old.kind == "table":
            return self._edited_table(shown, new)
        attributes = self._changed_attributes(old, new)
        if old.kind in _INLINE or (old.kind == "quote" and self._schema.nested):
            if old.inline == new.inline:
                return self._copied(shown.item, None, attributes)
            return self._copied(shown.item, self._inline(shown, new.inline), attributes)
        if old.kind in ("image", "rule"):
            return self._copied(shown.item, None, attributes)
        visible = [each for each in shown.children if not each.hidden]
        build = self._builder.block if old.kind in ("quote", "item", "task") else self._builder.part
        steps = plan([each.block for each in visible], new.children, self._work)
        return self._copied(shown.item, self._arranged(shown.node, visible, steps, self._edited, build), attributes)

    def _edited_container(self, shown: Shown, content: Shown, new: Block) -> Item:
        """Edit a block of BlockNote: the block itself, and the blocks nested in it."""
        bare = new if new.kind == "table" else new._replace(children=())
        items = [self._edited(content, bare)]
        nested = () if new.kind == "table" else new.children
        if nested and shown.nest is not None:
            visible = [each for each in shown.children if not each.hidden]
            items.append(self._copied(shown.nest, self.blocks(shown.nest.content, visible, nested), {}))
        elif nested:
            items.append(self._builder.group(nested))
        return self._copied(shown.item, items, {})

    def _changed_attributes(self, old: Block, new: Block) -> dict[str, Any]:
        before, after = self._builder.told(old), self._builder.told(new)
        return {name: value for name, value in after.items() if before[name] != value}

    def _copied(self, item: Item, items: Iterable[Item] | None, attributes: dict[str, Any]) -> Item:
        """Return an item for an element with other attributes and, if given, another sequence."""
        old: Node = item.content
        node = Node(old.kind, old.name)
        node.entries = {name: each for name, each in old.entries.items() if name not in attributes}
        node.entries |= {name: self._builder.value(value) for name, value in attributes.items() if value is not None}
        if items is None:
            node.start = old.start
        else:
            link_up(node, items)
        return same_item(item, node)

    # Tables

    def _edited_table(self, shown: Shown, new: Block) -> Item:
        before, after = shown.block.attributes[0], new.attributes[0]
        steps = plan([row.block for row in shown.children], new.children, self._work)
        if before != after or (steps and steps[0].old != 0):
            steps = [step._replace(kind="edit") if step.kind == "keep" else step for step in steps]
        first = steps[0].new if steps else None
        rows = self._arranged(
            shown.node,
            shown.children,
            steps,
            lambda row, wanted: self._edited_row(row, wanted, () if wanted is first else before, after),
            lambda row: self._builder.row(row, after, header=False),
        )
        return self._copied(shown.item, rows, {})

    def _edited_row(self, shown: Shown, new: Block, before: Sequence[str | None], after: Sequence[str | None]) -> Item:
        """Edit a row.

        Args:
            before: how the columns were aligned: a cell is aligned anew if its column is. Empty for the first row,
                whose cells say how the columns are aligned.
        """
        header = bool(shown.children) and shown.children[0].node.name == self._schema.elements["header"]
        places = {id(cell): place for place, cell in enumerate(shown.children)}
        steps = plan([cell.block for cell in shown.children], new.children, self._work)
        columns = iter(range(len(steps)))

        def aligned() -> str | None:
            column = next(columns)
            return after[column] if column < len(after) else None

        def edit(cell: Shown, wanted: Block) -> Item:
            align, place = aligned(), places[id(cell)]
            anew = align != cell.align and not (place < len(before) and before[place] == align)
            attributes = self._builder.cell_attributes(align) if anew else {}
            content = cell.content
            assert content is not None
            if content.block.inline == wanted.inline:
                return self._copied(cell.item, None, attributes)
            text = self._copied(content.item, self._inline(content, wanted.inline), {})
            return self._copied(cell.item, [text], attributes)

        def build(cell: Block) -> Item:
            return self._builder.cell(cell, aligned(), header=header)

        # A cell that is kept may be aligned anew, and one that is moved is written anew.
        every = [step._replace(kind="edit" if step.kind in ("keep", "edit") else "insert") for step in steps]
        return self._copied(shown.item, self._arranged(shown.node, shown.children, every, edit, build), {})

    # Inline content

    def _inline(self, shown: Shown, new: Inline) -> list[Item]:
        """Return the texts and elements of a block, after the edit of its inline content."""
        require_same_placeholders(_opaque(piece.atom for piece in shown.pieces), _opaque(new))
        old, wanted = _Tokens(shown.pieces), _Tokens(new)
        marked = shown.block.kind != "code"
        parts: list[_Part] = []
        at = low = 0
        for start, end, first, last in (*_compared(old, wanted, self._work), _end_of(old, wanted)):
            for (piece, offset, count), run in _aligned(old, wanted, at, low, start - at):
                formats = self._remarked(piece, run) if marked else piece.formats
                parts.append(_Part(piece, offset, count, formats))
            replaced = [piece for piece, _, _ in old.slices(start, end)]
            beside = [*replaced, *old.around(start, end)]
            for piece, offset, count in wanted.slices(first, last):
                if isinstance(piece, Atom):
                    parts.append(_Part(piece, 0, 1, {}))
                else:
                    text = piece.text[offset : offset + count]
                    hidden = self._hidden(replaced) if replaced else self._between(old, start)
                    parts.append(_Part(text, 0, count, {**hidden, **self._formats(piece.marks, beside)}))
            at, low = end, last
        return self._texts(shown, parts)

    def _between(self, old: "_Tokens", at: int) -> Formats:
        around = old.around(at, at)
        return self._hidden(around) if len(around) == 2 else {}

    def _hidden(self, pieces: Sequence[Piece]) -> Formats:
        """Return the formats that Markdown cannot say and that characters all have in common."""
        texts = [piece.formats for piece in pieces if piece.atom is None]
        if not texts or len(texts) != len(pieces):
            return {}
        return {
            name: value
            for name, value in texts[0].items()
            if not self._is_told(name) and all(other.get(name, (None,))[0] == value[0] for other in texts)
        }

    def _is_told(self, name: str) -> bool:
        return base_name(name) in self._schema.mark_kinds()

    def _formats(self, marks: Marks, beside: Sequence[Piece]) -> Formats:
        """Return the formats of new characters: as characters beside them have them, or as an editor makes them."""
        found = self._builder.formats(marks)
        for name in found:
            kind = self._schema.mark_kinds()[name]
            (mark,) = (mark for mark in marks if mark.kind == kind)
            like = next((piece for piece in beside if mark in piece.marks and name in piece.formats), None)
            if like is not None:
                found[name] = like.formats[name]
        return found

    def _remarked(self, piece: Piece, run: Run | Atom) -> Formats:
        """Return the formats of characters that stay, with the marks that Markdown says."""
        if not isinstance(run, Run) or run.marks == piece.marks:
            return piece.formats
        names = self._schema.mark_kinds()
        removed = {mark.kind for mark in piece.marks - run.marks}
        formats = {name: each for name, each in piece.formats.items() if names.get(base_name(name)) not in removed}
        added = self._builder.formats(run.marks)
        for name, value in added.items():
            kind = names[name]
            if kind not in removed and any(mark.kind == kind for mark in piece.marks):
                continue
            if kind == "link" and "link" in removed:
                (mark,) = (mark for mark in run.marks if mark.kind == "link")
                value = self._builder.link(mark, _link_of(piece, names))
            formats[name] = value
        return formats

    def _texts(self, shown: Shown, parts: Sequence["_Part"]) -> list[Item]:
        """Return the texts and elements that hold the parts, in as many of the present texts as possible."""
        groups: list[list[_Part] | _Part] = []
        for part in parts:
            if part.is_atom:
                groups.append(part)
            elif groups and isinstance(groups[-1], list):
                groups[-1].append(part)
            else:
                groups.append([part])
        chosen = _chosen_texts(shown, groups)
        if not groups and shown.texts:
            return [self._copied(shown.texts[0], [], {})]  # where others may be typing at this moment
        items = []
        for index, group in enumerate(groups):
            if isinstance(group, _Part):
                source = group.source
                assert not isinstance(source, str)
                items.append(
                    self._builder.atom(source)
                    if isinstance(source, Atom)
                    else same_item(source.item, source.item.content)
                )
                continue
            within = chosen.get(index)
            runs = [(self._characters(part, within), part.formats) for part in group]
            made = self._builder.formatted(runs)
            items.append(self._builder.shared_text(made) if within is None else self._copied(within, made, {}))
        return items

    def _characters(self, part: "_Part", within: Item | None) -> str | Item:
        """Return characters as the items that hold them, if these are in the chosen text; else to be copied."""
        source = part.source
        if isinstance(source, str):
            return source
        assert isinstance(source, Piece)
        text = source.text[part.offset : part.offset + part.count]
        if within is None or source.within is not within:
            return text
        length = units_of(source.item, part.offset + part.count) - units_of(source.item, part.offset)
        return Item(place_of(source.item, part.offset), length, STRING, text)


class _Part:
    """A part of the inline content after the edit: characters or an atom, which stay or are new."""

    __slots__ = ("count", "formats", "offset", "source")

    def __init__(self, source: Piece | Atom | str, offset: int, count: int, formats: Formats) -> None:
        self.source = source
        self.offset = offset
        self.count = count
        self.formats = formats

    @property
    def is_atom(self) -> bool:
        return isinstance(self.source, Atom) or (isinstance(self.source, Piece) and self.source.atom is not None)


class _Tokens:
    """Inline content as a sequence of characters and atoms."""

    def __init__(self, pieces: Sequence[Any]) -> None:
        self._pieces = pieces
        self._starts: list[int] = []
        self.tokens: list[Any] = []
        self.text: str | None = ""
        """The characters; None if there are atoms."""
        atoms = False
        for piece in pieces:
            self._starts.append(len(self.tokens))
            atom = piece if isinstance(piece, Atom) else getattr(piece, "atom", None)
            if atom is None:
                self.tokens += piece.text
            else:
                self.tokens.append(atom)
                atoms = True
        self.text = None if atoms else "".join(self.tokens)

    def __len__(self) -> int:
        return len(self.tokens)

    def slices(self, start: int, end: int) -> Iterator[tuple[Any, int, int]]:
        """Yield the pieces that hold tokens, each with the offset of the first one and their count."""
        for index in range(max(bisect_right(self._starts, start) - 1, 0), bisect_left(self._starts, end)):
            piece, first = self._pieces[index], self._starts[index]
            size = 1 if isinstance(piece, Atom) or getattr(piece, "atom", None) is not None else len(piece.text)
            low, high = max(start, first), min(end, first + size)
            if low < high:
                yield piece, low - first, high - low

    def around(self, start: int, end: int) -> list[Any]:
        """Return the pieces directly before `start` and directly from `end` on."""
        return [piece for at in (start - 1, end) for piece, _, _ in self.slices(at, at + 1)]


def _end_of(old: _Tokens, new: _Tokens) -> Difference:
    return Difference(len(old), len(old), len(new), len(new))


def _compared(old: _Tokens, new: _Tokens, work: Work) -> list[Difference]:
    if old.text is None or new.text is None:
        return differences(old.tokens, new.tokens, work)
    found = []
    shift = 0
    for edit in smallest_edits(old.text, new.text, work=work):
        found.append(Difference(edit.start, edit.end, edit.start + shift, edit.start + shift + len(edit.text)))
        shift += len(edit.text) - (edit.end - edit.start)
    return found


def _aligned(
    old: _Tokens, new: _Tokens, at: int, low: int, count: int
) -> Iterator[tuple[tuple[Piece, int, int], Run | Atom]]:
    """Yield parts of equal sequences that are in one piece of each: of the old one, and its piece of the new one."""
    runs = list(new.slices(low, low + count))
    index = used = 0
    for piece, offset, many in old.slices(at, at + count):
        while many:
            run, _, size = runs[index]
            taken = min(many, size - used)
            yield (piece, offset, taken), run
            offset, many, used = offset + taken, many - taken, used + taken
            if used == size:
                index, used = index + 1, 0


def _chosen_texts(shown: Shown, groups: Sequence[list[_Part] | _Part]) -> dict[int, Item]:
    """Return which of the present texts each group of characters is held by, by the index of the group."""
    held: dict[int, Counter[int]] = {}
    texts = {id(text): text for text in shown.texts}
    for index, group in enumerate(groups):
        for part in group if isinstance(group, list) else ():
            if isinstance(part.source, Piece) and part.source.within is not None:
                held.setdefault(id(part.source.within), Counter())[index] += part.count
    chosen: dict[int, tuple[int, Item]] = {}
    for text, counts in held.items():
        index, count = counts.most_common(1)[0]
        if index not in chosen or chosen[index][0] < count:
            chosen[index] = (count, texts[text])
    return _with_free_texts(shown, groups, {index: text for index, (_, text) in chosen.items()})


def _with_free_texts(shown: Shown, groups: Sequence[list[_Part] | _Part], chosen: dict[int, Item]) -> dict[int, Item]:
    """Let texts none of whose characters stay hold the new characters at their place."""
    order = {id(item): place for place, item in enumerate(shown.node.items())}
    free = [text for text in shown.texts if text not in chosen.values()]
    fixed = [
        order[id(chosen[index])] if index in chosen else _place(group, order) for index, group in enumerate(groups)
    ]
    for index, group in enumerate(groups):
        if fixed[index] is not None or not isinstance(group, list):
            continue
        before = max((place for place in fixed[:index] if place is not None), default=-1)
        after = min((place for place in fixed[index + 1 :] if place is not None), default=len(order))
        text = next((text for text in free if before < order[id(text)] < after), None)
        if text is not None:
            free.remove(text)
            chosen[index] = text
            fixed[index] = order[id(text)]
    return chosen


def _place(group: list[_Part] | _Part, order: dict[int, int]) -> int | None:
    if isinstance(group, _Part) and isinstance(group.source, Piece):
        return order[id(group.source.item)]
    return None


def _opaque(pieces: Iterable[Any]) -> list[Any]:
    return [piece.attributes for piece in pieces if isinstance(piece, Atom) and piece.kind == "opaque"]


def _link_of(piece: Piece, names: dict[str, str]) -> dict[str, Any]:
    for name, (_, written) in piece.formats.items():
        if names.get(base_name(name)) == "link":
            value = decode_json(written)
            return dict(value) if isinstance(value, dict) else {}
    return {}
