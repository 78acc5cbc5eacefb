"""Stock clients of npm ask, write and follow: graphql-ws, graphql-sse, urql and Apollo Client."""

import json
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.support.server import GatewayProcess


@pytest.mark.parametrize("client", ["graphql-ws", "graphql-sse", "urql", "apollo"])
def test_a_stock_client_asks_writes_and_follows(
    shared_gateway: GatewayProcess, project: httpx.Client, name: str, stock_clients: Path, client: str
) -> None:
    assert project.put("/files/a.md", content="one").is_success
    command = ["node", "clients.mjs", shared_gateway.url, name, client]
    process = subprocess.Popen(command, cwd=stock_clients, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with process:
        assert process.stdout is not None

        def told() -> dict[str, object]:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("{"), line + process.stdout.read()
            return dict(json.loads(line))

        project_told = told()["query"]["project"]  # type: ignore[index]
        assert [(file["path"], file["version"]) for file in project_told["files"]["files"]] == [("a.md", 1)]
        assert told()["mutation"]["putText"]["version"] == 1  # type: ignore[index]
        texts = {}
        for path in ("first.md", "second.md", "end.md"):
            for change in told()["changes"]["changes"]["changes"]:  # type: ignore[index]
                texts[change["path"]] = change["text"]
            assert project.put(f"/files/{path}", content=f"in {path}").is_success
        for line in process.stdout:
            for change in json.loads(line)["changes"]["changes"]["changes"]:
                texts[change["path"]] = change["text"]
    assert process.returncode == 0
    expected = {path: f"in {path}" for path in ("first.md", "second.md", "end.md")}
    assert texts == {f"by-{client}.md": f"from {client}", **expected}
