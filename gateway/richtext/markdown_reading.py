"""Reads Markdown as blocks (CommonMark, with GitHub's tables, strikethrough and task lists). Pure.

HTML in Markdown is text, save `<br>` and the placeholders of what Markdown cannot say.
"""

import functools
import re
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.common.utils import unescapeAll
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from gateway.richtext.blocks import BREAK, Atom, Block, Inline, Mark, Run, joined
from gateway.richtext.markdown_writing import EMPTY
from gateway.yjs.roots import NestedTooDeeply

_PLACEHOLDER = re.compile(r"<!--( ?)([A-Za-z0-9_.]+) #([0-9]+\.[0-9]+)( ?)-->")
_LINE_BREAK = re.compile(r"<br ?/?>", re.IGNORECASE)
_TASK = re.compile(r"\[([ xX])\](?:[ \t]|$)")
_MARKS = {"strong": "bold", "em": "italic", "s": "strike"}
_ALIGN = {f"text-align:{each}": each for each in ("left", "center", "right")}
_DEEPEST = 100
MOST_TOKENS = 400_000
"""The most tokens of Markdown that become blocks: about 15 s. A list of 1 MiB with three formats in each line has
fewer."""


class TooManyTokens(ValueError):
    """The Markdown has more tokens (blocks, cells, texts and the ends of formats) than become blocks."""


def read_markdown(text: str, *, strike: bool, tables: bool, tasks: bool) -> tuple[list[Block], list[int]]:
    """Return the blocks of Markdown, and the line at which each begins, from 0.

    Raises:
        NestedTooDeeply: the parser would leave out what is nested more deeply than it reads.
        TooManyTokens
    """
    tokens = _parser(strike, tables).parse(text)
    count = sum(1 + len(token.children or ()) for token in tokens)
    if count > MOST_TOKENS:
        raise TooManyTokens(
            f"the Markdown has {count} tokens, such as blocks, cells and formats; {MOST_TOKENS} are read"
        )
    if any(token.level >= _DEEPEST - 1 for token in tokens):
        raise NestedTooDeeply
    return _Tokens(tokens, tasks).blocks()


@functools.cache
def _parser(strike: bool, tables: bool) -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"maxNesting": _DEEPEST})
    parser.disable(["html_block", "html_inline"])
    parser.enable([name for name, wanted in (("strikethrough", strike), ("table", tables)) if wanted])
    parser.inline.ruler.before("autolink", "placeholder", _placeholder)
    parser.validateLink = lambda url: True  # type: ignore[method-assign]
    parser.normalizeLink = lambda url: url  # type: ignore[method-assign]
    parser.normalizeLinkText = lambda link: link  # type: ignore[method-assign]
    return parser


def _placeholder(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] != "<":
        return False
    found = _PLACEHOLDER.match(state.src, state.pos)
    if found is not None and found[1] == found[4]:
        if not silent:
            token = state.push("opaque", "", 0)
            token.meta = {"attributes": (found[2], found[3]), "block": bool(found[1])}
        state.pos = found.end()
        return True
    found = _LINE_BREAK.match(state.src, state.pos)
    if found is None:
        return False
    if not silent:
        state.push("hardbreak", "br", 0)
    state.pos = found.end()
    return True


class _Tokens:
    """The tokens of a parser, read once."""

    def __init__(self, tokens: Sequence[Token], tasks: bool) -> None:
        self._tokens = tokens
        self._at = 0
        self._tasks = tasks

    def blocks(self, end: str | None = None) -> tuple[list[Block], list[int]]:
        """Read blocks up to a token of the type `end`."""
        found: list[Block] = []
        starts: list[int] = []
        while self._at < len(self._tokens) and self._tokens[self._at].type != end:
            token = self._tokens[self._at]
            self._at += 1
            block = self._block(token)
            made = self._lists(block) if block.kind == "bullets" else [block]
            found += made
            starts += [token.map[0] if token.map else 0] * len(made)
        self._at += 1
        return found, starts

    def _block(self, token: Token) -> Block:
        match token.type:
            case "paragraph_open":
                return self._paragraph()
            case "heading_open":
                return Block("heading", (int(token.tag[1:]),), self._inline("heading_close"))
            case "fence" | "code_block":
                text = token.content.removesuffix("\n")
                return Block("code", (_language(token),), (Run(text),) if text else ())
            case "blockquote_open":
                return Block("quote", (), (), tuple(self.blocks("blockquote_close")[0]))
            case "bullet_list_open":
                return Block("bullets", (), (), tuple(self.blocks("bullet_list_close")[0]))
            case "ordered_list_open":
                start = token.attrs.get("start", 1)
                return Block("numbers", (int(start),), (), tuple(self.blocks("ordered_list_close")[0]))
            case "list_item_open":
                return self._item()
            case "table_open":
                return self._table()
            case "hr":
                return Block("rule")
        raise AssertionError(token.type)

    def _paragraph(self) -> Block:
        token = self._tokens[self._at]
        inline = self._inline("paragraph_close")
        if token.content == EMPTY:
            return Block("paragraph")
        children = token.children or []
        if len(children) == 1 and children[0].type == "opaque" and children[0].meta["block"]:
            return Block("opaque", children[0].meta["attributes"])
        return Block("paragraph", (), inline)

    def _item(self) -> Block:
        """Read a list item; whether it is a task is noted in its attributes until the list is known."""
        token = self._tokens[self._at]
        inline = self._tokens[self._at + 1] if token.type == "paragraph_open" else None
        task = _TASK.match(inline.content) if inline is not None and self._tasks else None
        children = self.blocks("list_item_close")[0]
        if task is None:
            return Block("item", (), (), tuple(children))
        first = children[0]
        text = first.inline[0]
        assert isinstance(text, Run)
        assert inline is not None
        content = joined([Run(text.text[task.end() :], text.marks), *first.inline[1:]])
        if inline.content[task.end() :] == EMPTY:
            content = ()
        return Block("task", (task[1] != " ",), (), (Block("paragraph", (), content), *children[1:]))

    @staticmethod
    def _lists(block: Block) -> list[Block]:
        """Part a list into lists of tasks and of other items."""
        lists: list[Block] = []
        for item in block.children:
            kind = "tasks" if item.kind == "task" else "bullets"
            if lists and lists[-1].kind == kind:
                lists[-1] = lists[-1]._replace(children=(*lists[-1].children, item))
            else:
                lists.append(Block(kind, (), (), (item,)))
        return lists or [block]

    def _table(self) -> Block:
        rows: list[Block] = []
        cells: list[Block] = []
        align: list[str | None] = []
        while (token := self._tokens[self._at]).type != "table_close":
            self._at += 1
            if token.type in ("th_open", "td_open"):
                if token.type == "th_open":
                    align.append(_ALIGN.get(str(token.attrs.get("style"))))
                cells.append(Block("cell", (), self._inline(token.type.replace("open", "close"))))
            elif token.type == "tr_close":
                rows.append(Block("row", (), (), tuple(cells)))
                cells = []
        self._at += 1
        return Block("table", (tuple(align),), (), tuple(rows))

    def _inline(self, end: str) -> Inline:
        token = self._tokens[self._at]
        inline = _read_inline(token.children or []) if token.type == "inline" else ()
        while self._tokens[self._at].type != end:
            self._at += 1
        self._at += 1
        return inline


def _language(token: Token) -> str:
    return unescapeAll(token.info).strip() if token.type == "fence" else ""


def _read_inline(tokens: Sequence[Token]) -> Inline:
    pieces: list[Run | Atom] = []
    marks: list[Mark] = []
    for token in tokens:
        match token.type:
            case "text" | "text_special":
                pieces.append(Run(token.content, frozenset(marks)))
            case "softbreak":
                pieces.append(Run(" ", frozenset(marks)))
            case "hardbreak":
                pieces.append(BREAK)
            case "code_inline":
                pieces.append(Run(token.content, frozenset([*marks, Mark("code")])))
            case "image":
                attributes = (_attribute(token, "src"), _plain(token.children or []), _attribute(token, "title"))
                pieces.append(Atom("image", attributes))
            case "opaque":
                pieces.append(Atom("opaque", token.meta["attributes"]))
            case "link_open":
                marks.append(Mark("link", _attribute(token, "href"), _attribute(token, "title")))
            case _ if token.nesting == 1:
                marks.append(Mark(_MARKS[token.tag]))
            case _:
                marks.pop()
    return joined(pieces)


def _attribute(token: Token, name: str) -> str:
    return str(token.attrs.get(name, ""))


def _plain(tokens: Sequence[Token]) -> str:
    return "".join(
        _plain(token.children)
        if token.children
        else {"softbreak": " ", "hardbreak": "\n"}.get(token.type, token.content)
        for token in tokens
    )
