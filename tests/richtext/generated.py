"""Arbitrary documents of the schemas that the gateway knows, as ProseMirror's JSON.

They are made of a seed: Hypothesis' own strategies take seconds for documents as large as these.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from tests.richtext.documents import Json, element

NASTY = [
    "<!-- x #1.2 -->", "<!--x #1.2-->", "&amp;", "&#32;", "&", "1. ", "12) ", "- ", "+ ", "* ", "# ", "###### ", "```",
    "~~~", "~~", "http://example.com", "<http://example.com>", "<b>", "</b>", "<script>", "![", "](", "[x]: y", "[ ] ",
    "[x] ", "<br>", "|", "| --- |", "---", "===", "***", "__", "_", "a_b", "*", "**", "\\", "\\\\", "`", "``", "\n",
    "\n\n", "  ", "\t", "\u00a0", "😀", "👨\u200d👩\u200d👧", "é", "e\u0301", "中文", "!", ">", ":", ":-:", "=", "-",
    "#", "\u2028", "\u3000", "“", "$", "word", "two words", "a", "b ", " c", ".", "x", "Z", "&nbsp;", "1", "0.",
    "]", ")",
]  # fmt: skip
HREFS = [
    "http://example.com/a?b=c&d", "", "/x y", "a(b)c", "<>", "a\\b", "&amp;", 'q"q', "javascript:x", "ü", "a\nb", "#x",
    "a*b",
]  # fmt: skip
LANGUAGES = [None, "python", "c++", "a`b", "x y", "&amp;", "\\", "a&b"]
CODE = ["", "\n", "```\nx\n```", "~~~~", "  a\n\n    b\n", "\tx", "a\n", "    indented", "\n\n"]


class Schema:
    """The names of a schema, and what its documents may hold."""

    def __init__(self, marks: dict[str, str], **names: str) -> None:
        self.marks = marks
        self.names = names


_MARKS = {"bold": "bold", "italic": "italic", "strike": "strike", "code": "code", "link": "link"}
_TIPTAP = Schema(
    _MARKS,
    hard_break="hardBreak", bullets="bulletList", numbers="orderedList", item="listItem", code="codeBlock",
    rule="horizontalRule", start="start", language="language", cell_text="paragraph", align="align",
)  # fmt: skip
_PROSEMIRROR = Schema(
    {"bold": "strong", "italic": "em", "code": "code", "link": "link"},
    hard_break="hard_break", bullets="bullet_list", numbers="ordered_list", item="list_item", code="code_block",
    rule="horizontal_rule", start="order", language="params",
)  # fmt: skip
_BLOCKNOTE = Schema(
    _MARKS,
    hard_break="hardBreak", code="codeBlock", rule="divider", language="language", cell_text="tableParagraph",
    align="textAlignment",
)  # fmt: skip


class Generator:
    def __init__(self, schema: Schema, random: Random) -> None:
        self.schema = schema
        self.random = random

    def text(self) -> str:
        return "".join(self.random.choices(NASTY, k=self.random.randint(1, 4)))

    def marks(self) -> list[Json]:
        chosen = self.random.sample(list(self.schema.marks.items()), k=self.random.choice([0, 0, 1, 1, 2, 3]))
        marks: list[Json] = [{"type": name} for kind, name in chosen if kind != "link"]
        if any(kind == "link" for kind, _ in chosen):
            attrs = {"href": self.random.choice([*HREFS, self.text()])}
            if self.schema is not _BLOCKNOTE and self.random.random() < 0.3:
                attrs["title"] = self.text()
            marks.append({"type": self.schema.marks["link"], "attrs": attrs})
        if self.random.random() < 0.2:
            marks.append({"type": "underline"})
        return marks

    def inline(self) -> list[Json]:
        content: list[Json] = []
        for _ in range(self.random.choice([0, 1, 1, 2, 3, 5])):
            chance = self.random.random()
            if chance < 0.75:
                marks, text = self.marks(), self.text()
                if any(mark["type"] == "code" for mark in marks):
                    text = text.replace("\n", " ")  # Markdown cannot say it: tested by itself
                content.append({"type": "text", "text": text, "marks": marks})
            elif chance < 0.9:
                content.append(element(self.schema.names["hard_break"]))
            elif self.schema is _PROSEMIRROR and chance < 0.96:
                content.append(self.image())
            else:
                content.append(element("mention", label=self.text()))
        return content

    def image(self) -> Json:
        title = self.text() if self.random.random() < 0.3 else None
        source = self.random.choice([*HREFS, self.text()])
        if self.schema is _BLOCKNOTE:
            return element("image", url=source, name=self.text(), caption="c")
        return element("image", src=source, alt=self.text(), title=title)

    def paragraph(self) -> Json:
        return element("paragraph", *self.inline())

    def code(self) -> Json:
        text = self.random.choice([*CODE, self.text()])
        content = [{"type": "text", "text": text}] if text else []
        return element(
            self.schema.names["code"], *content, **{self.schema.names["language"]: self.random.choice(LANGUAGES)}
        )

    def heading(self) -> Json:
        return element("heading", *self.inline(), level=self.random.randint(1, 6))

    def rule(self) -> Json:
        return element(self.schema.names["rule"])

    def unknown(self) -> Json:
        return element("callout", *self.inline())

    def table(self) -> Json:
        width = self.random.randint(1, 3)

        def row(kind: str) -> Json:
            cells = []
            for _ in range(width):
                align = self.random.choice([None, "left", "center", "right"])
                attributes: Json = {"colspan": 1, self.schema.names["align"]: align}
                cells.append(element(kind, element(self.schema.names["cell_text"], *self.inline()), **attributes))
            return element("tableRow", *cells)

        return element("table", row("tableHeader"), *(row("tableCell") for _ in range(self.random.randint(0, 2))))

    def quote(self, depth: int) -> Json:
        return element("blockquote", *self.blocks(depth, 1))

    def list_of(self, depth: int) -> Json:
        kinds = ["bullets", "numbers"] if self.schema is _PROSEMIRROR else ["bullets", "numbers", "tasks"]
        kind = self.random.choice(kinds)
        names = self.schema.names
        items = []
        for _ in range(self.random.randint(1, 3)):
            content = [self.paragraph(), *self.blocks(depth, 0)]
            if kind == "tasks":
                items.append(element("taskItem", *content, checked=self.random.random() < 0.5))
            else:
                items.append(element(names["item"], *content))
        if kind == "tasks":
            return element("taskList", *items)
        attributes = {names["start"]: self.random.choice([1, 1, 0, 7, 999])} if kind == "numbers" else {}
        return element(names[kind], *items, **attributes)

    def blocks(self, depth: int, least: int) -> list[Json]:
        return [self.block(depth - 1) for _ in range(self.random.choice([least, 1, 1, 2] if depth else [least]))]

    def block(self, depth: int) -> Json:
        makers: list[Callable[[], Json]] = [self.paragraph, self.paragraph, self.heading, self.code, self.rule]
        if self.schema is _TIPTAP:
            makers += [self.image, self.unknown, self.table]
        if depth > 0 and self.random.random() < 0.5:
            return self.random.choice([self.quote, self.list_of])(depth)
        return self.random.choice(makers)()

    def container(self, depth: int) -> Json:
        makers: list[Callable[[], Json]] = [
            self.paragraph, self.heading, self.code, self.rule, self.image, self.unknown, self.table,
            lambda: element("quote", *self.inline()),
        ]  # fmt: skip
        items: list[Callable[[], Json]] = [
            lambda: element("bulletListItem", *self.inline()),
            lambda: element("numberedListItem", *self.inline(), start=self.random.choice([None, None, 1, 4])),
            lambda: element("checkListItem", *self.inline(), checked=self.random.random() < 0.5),
        ]
        nested = []
        if self.random.random() < 0.5:
            block = self.random.choice(items)()
            if depth and self.random.random() < 0.4:
                nested = [element("blockGroup", *(self.container(depth - 1) for _ in range(self.random.randint(1, 2))))]
        else:
            block = self.random.choice(makers)()
        return element("blockContainer", block, *nested, id=str(self.random.random()))


def tiptap(seed: int) -> list[Json]:
    """A document of Tiptap's StarterKit with tables, task lists, images, and nodes that the gateway does not know."""
    generator = Generator(_TIPTAP, Random(seed))
    return [element("horizontalRule"), *(generator.block(3) for _ in range(generator.random.randint(0, 5)))]


def prosemirror(seed: int) -> list[Json]:
    """A document of the schema of prosemirror-markdown."""
    generator = Generator(_PROSEMIRROR, Random(seed))
    return [element("horizontal_rule"), *(generator.block(3) for _ in range(generator.random.randint(0, 5)))]


def blocknote(seed: int) -> list[Json]:
    """A document of BlockNote, nested where Markdown can say so."""
    generator = Generator(_BLOCKNOTE, Random(seed))
    return [element("blockGroup", *(generator.container(2) for _ in range(generator.random.randint(1, 6))))]


SCHEMAS: dict[str, Callable[[int], list[Any]]] = {"tiptap": tiptap, "prosemirror": prosemirror, "blocknote": blocknote}
