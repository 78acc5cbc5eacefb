"""Edits of rich text by Markdown: a new text, or replacements in it, of the present document or of an older version.

Pure; sent to worker processes.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from gateway.richtext.blocks import Block
from gateway.richtext.building import UnsupportedSchema
from gateway.richtext.documents import Page, find_root
from gateway.richtext.merging import CELLS, Merger
from gateway.richtext.outline import from_markdown
from gateway.richtext.planning import Step, plan
from gateway.richtext.reading import group_of, read_blocks
from gateway.richtext.schemas import Schema, SchemaName, schema_of
from gateway.yjs.diff import Work
from gateway.yjs.heavy_edits import Basis, prepare_own, whole_of
from gateway.yjs.preparation import Prepared
from gateway.yjs.reconcile import rewriting_update
from gateway.yjs.revisions import Revision
from gateway.yjs.roots import NestedTooDeeply
from gateway.yjs.stored_form import to_wire
from gateway.yjs.surrogates import updates_of
from gateway.yjs.text_edits import Edit
from gateway.yjs.tree import Node, Tree, read_tree
from gateway.yjs.updates import apply_row, build_document

_MOST_EDITS = 2048
LONGEST_MARKDOWN = 2**20
"""The most characters of Markdown that are read: about 10 s."""


class Target(Struct, frozen=True):
    """Which rich text of a document is meant: its root and its schema, or None to tell them by the document."""

    root: str | None = None
    schema: SchemaName | None = None


class MarkdownTooLong(ValueError):
    """The Markdown is longer, or has more blocks and formats, than the gateway reads."""


def revise_present(
    present: Sequence[bytes], client_id: int, basis: Basis, target: Target, revision: Revision
) -> Prepared | None:
    """Return the edit that revises the Markdown of the whole document that the stored rows `present` build; None if
    nothing changes.

    Raises:
        RootIsNotRichText, SchemaMismatch, UnsupportedSchema, EditNotApplicable, NestedTooDeeply, MarkdownTooLong
    """
    update = _revise(read_tree(to_wire(whole_of(present))), target, revision, client_id)
    return None if update is None else prepare_own(update, basis, stored=False)


def revise_version(
    rows: Sequence[bytes], following: bytes | None, meant: str, target: Target, revision: Revision
) -> bytes | None:
    """Return the update that revises the Markdown of a version; None if there is nothing to do.

    The structs have a Yjs client of their own, made of the version and the revision: a repetition adds nothing.

    Args:
        rows: the stored updates that make the version.
        following: the stored update of the next version. If that version says what is wanted, this is a repetition.
        meant: the names of the file's incarnation and of the version, which together identify the version.

    Raises:
        As `revise_present`.
    """
    document = build_document(list(updates_of(rows)))
    whole = document.get_update()
    tree = read_tree(to_wire(whole))
    said = msgspec.json.encode([meant, target.root, target.schema, repr(revision)])
    attempt = 0
    while True:
        digest = hashlib.blake2b(said, digest_size=4, key=b"%d" % attempt)
        client = int.from_bytes(digest.digest())
        if client and client not in tree.clocks:
            break
        attempt += 1
    update = _revise(tree, target, revision, client)
    if update is None or following is None:
        return update
    later = build_document([whole])
    later = apply_row(later, following)
    revised = build_document([to_wire(whole), update])
    same = _markdown(to_wire(later.get_update()), target) == _markdown(revised.get_update(), target)
    return None if same else update


def _markdown(whole: bytes, target: Target) -> str | None:
    try:
        root = find_root(read_tree(whole), target.root, target.schema)
        schema = schema_of(root, target.schema)
        return Page(read_blocks(root, schema), schema).markdown
    except (ValueError, RecursionError):
        return None


def _revise(tree: Tree, target: Target, revision: Revision, client_id: int) -> bytes | None:
    try:
        root = find_root(tree, target.root, target.schema)
        schema = schema_of(root, target.schema)
        page = Page(read_blocks(root, schema), schema)
        edits = revision.edits(page.markdown, _MOST_EDITS)
        revised = _applied(page.markdown, edits)
        if revised == page.markdown:
            return None
        if len(revised) > LONGEST_MARKDOWN:
            raise MarkdownTooLong(f"the Markdown would have {len(revised)} characters; {LONGEST_MARKDOWN} are read")
        clock = tree.clocks.get(client_id, 0)
        wanted = _wanted(root, page, _read(revised, schema), f"{client_id}.{clock}")
        return rewriting_update(root, wanted, client_id, clock)
    except RecursionError:
        raise NestedTooDeeply from None


def _applied(text: str, edits: Sequence[Edit]) -> str:
    pieces, reached = [], 0
    for edit in edits:
        pieces += [text[reached : edit.start], edit.text]
        reached = edit.end
    return "".join((*pieces, text[reached:]))


def _parsed(text: str, schema: Schema) -> tuple[list[Block], list[int]]:
    from gateway.richtext.markdown_reading import TooManyTokens, read_markdown  # here, as few gateways need the parser

    try:
        return read_markdown(text, strike=schema.strike, tables=schema.tables, tasks=schema.tasks)
    except TooManyTokens as error:
        raise MarkdownTooLong(str(error)) from None


def _read(text: str, schema: Schema) -> list[Block]:
    blocks = from_markdown(_parsed(text, schema)[0], schema)
    while blocks and blocks[-1] == Block("paragraph"):
        blocks.pop()
    return blocks


def _wanted(root: Node, page: Page, new: Sequence[Block], seed: str) -> Node:
    """Return what the root is to become."""
    schema = page.schema
    merger = Merger(schema, seed)
    wanted = Node(root.kind, root.name)
    wanted.entries = root.entries
    group = group_of(root, schema)
    holder = root if group is None else group.content
    shown = page.shown or page.all_shown
    items = merger.blocks(holder, shown, new, _plan(page, new)) if shown else merger.new_blocks(holder, new)
    merger.hold(wanted, root, group, items)
    return wanted


def _plan(page: Page, new: Sequence[Block]) -> list[Step]:
    """Plan by what Markdown says of the present blocks.

    Where the Markdown of a block is not read as the block, the block is frozen: Markdown cannot say it completely.
    """
    if not page.shown:
        return plan([each.block for each in page.all_shown], new, Work(CELLS))
    said = _said(page)
    old: list[Block] = []
    owners: list[int] = []
    frozen: set[int] = set()
    at = 0
    for (_, count), blocks in zip(page.groups, said, strict=True):
        if not blocks:  # so it could not be told whether the block is to stay
            raise UnsupportedSchema("the document has a block that Markdown cannot show")
        members = [each.block for each in page.shown[at : at + count]]
        if blocks == members:
            owners += range(at, at + count)
        else:
            frozen |= set(range(len(old), len(old) + len(blocks)))
            owners += [at] * len(blocks)
        old += blocks
        at += count
    return list(_of_owners(plan(old, new, Work(CELLS), frozenset(frozen)), owners, frozen, page))


def _said(page: Page) -> list[list[Block]]:
    """Return what the Markdown of each group of blocks is read as."""
    blocks, starts = _parsed(page.markdown, page.schema)
    said: list[list[Block]] = [[] for _ in page.groups]
    for block, start in zip(blocks, starts, strict=True):
        said[bisect_right(page.starts, start) - 1] += from_markdown([block], page.schema)
    return said


def _of_owners(steps: Sequence[Step], owners: Sequence[int], frozen: set[int], page: Page) -> list[Step]:
    """Translate steps of what is said into steps of the blocks that say it.

    Raises:
        UnsupportedSchema: a frozen block is not kept or deleted as a whole.
    """
    kept = {step.old for step in steps if step.kind == "keep"}
    sizes = {group: [] for group in map(owners.__getitem__, frozen)}  # type: ignore[var-annotated]
    for index in sorted(frozen):
        sizes[owners[index]].append(index in kept)
    if any(any(each) and not all(each) for each in sizes.values()):
        raise UnsupportedSchema("a block would be edited that Markdown does not say completely")
    counts: dict[int, int] = {}
    at = 0
    for _, count in page.groups:
        counts[at] = count
        at += count
    found: list[Step] = []
    before: int | None = None
    for step in steps:
        if step.kind == "keep" and step.old in frozen:
            owner = owners[step.old]
            if before is not None and owners[before] == owner and before in frozen:
                if found and found[-1].kind != "keep":
                    raise UnsupportedSchema("a block would be parted that Markdown does not say completely")
            else:
                found += [Step("keep", index, page.shown[index].block) for index in range(owner, owner + counts[owner])]
            before = step.old
            continue
        if step.kind != "insert":
            before = step.old
            step = step._replace(old=owners[step.old])
        found.append(step)
    return found
