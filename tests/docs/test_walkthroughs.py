"""What the documentation tells its reader to do is done, in order, and what it shows must come."""

import shutil
from pathlib import Path

import pytest

from tests.docs.markdown import PROJECT, code_blocks
from tests.docs.terminal import Terminal

_RUN_ELSEWHERE = frozenset(
    [
        "scripts/test",  # by .ci/run; see below
        "npm install yjs",  # the terminal has the packages of tests/yjs
        "npm install y-websocket ws",
        "npm install @hocuspocus/provider ws",
        "npm install graphql graphql-ws ws",
    ]
)


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "docs/api.md",
        "docs/live.md",
        "docs/client.md",
        "docs/storage.md",
        "docs/turns.md",
        "docs/graphql.md",
        "docs/push.md",
        "docs/mcp.md",
        "docs/command-line.md",
        "docs/rich-text.md",
    ],
)
def test_every_command_works_and_prints_what_is_shown(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    blocks = code_blocks(PROJECT / name)
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    if any(block.language == "js" for block in blocks):
        request.getfixturevalue("node")
    with Terminal(tmp_path, skipped=_RUN_ELSEWHERE) as terminal:
        for block in blocks:
            terminal.play(block)


def test_continuous_integration_runs_the_test_command_of_the_readme() -> None:
    shown = [line for block in code_blocks(PROJECT / "README.md") for line in block.lines]
    assert "$ scripts/test" in shown
    assert "scripts/test" in (PROJECT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
