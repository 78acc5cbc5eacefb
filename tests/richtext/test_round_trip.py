"""What is read as Markdown and written back unchanged changes nothing, whatever the document holds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.richtext.documents import Page, find_root
from gateway.richtext.reading import read_blocks
from gateway.richtext.revising import _said
from gateway.richtext.schemas import schema_of
from gateway.yjs.tree import read_tree
from tests.richtext import generated
from tests.richtext.documents import Replica, document_of

SEEDS = st.integers(0, 2**32)


def _page(whole: bytes) -> Page:
    root = find_root(read_tree(whole), None)
    schema = schema_of(root)
    return Page(read_blocks(root, schema), schema)


@pytest.mark.parametrize("schema", generated.SCHEMAS)
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_markdown_is_read_back_as_the_blocks_that_it_was_written_of(schema: str, seed: int) -> None:
    page = _page(document_of(generated.SCHEMAS[schema](seed)))
    shown = [each.block for each in page.shown]
    said = [block for blocks in _said(page) for block in blocks]
    assert said == shown, page.markdown


@pytest.mark.parametrize("schema", generated.SCHEMAS)
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_the_same_markdown_changes_nothing(schema: str, seed: int) -> None:
    replica = Replica(document_of(generated.SCHEMAS[schema](seed)))
    assert replica.put(replica.markdown) is None
    assert replica.put(replica.markdown + "\n\n") is None
