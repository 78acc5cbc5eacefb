"""Two gateways behind nginx, with the configuration that the documentation gives."""

import contextlib
import copy
from pathlib import Path

import httpx

from tests.live.clients import figure, put
from tests.live.editors import Editor
from tests.live.test_rooms import Edit
from tests.postgres.conftest import Nodes
from tests.support.nginx import in_front_of, running_nginx
from tests.support.server import PATIENCE_S


def _commits(nodes: Nodes) -> list[float]:
    return [figure(node, "gateway_commits_total") for node in nodes]


def test_a_project_stays_with_a_gateway_until_that_is_killed(nodes: Nodes, tmp_path: Path, open_editor: Edit) -> None:
    with running_nginx(tmp_path, in_front_of(nodes)) as url, contextlib.ExitStack() as closed:
        projects: list[httpx.Client] = []
        homes: list[int] = []
        while len(projects) < 8 or len(set(homes)) < 2:  # each gateway has some, by a hash of their names
            client = httpx.Client(base_url=f"{url}/api/projects/p{len(projects)}", timeout=PATIENCE_S, verify=False)
            projects.append(closed.enter_context(client))
            before = _commits(nodes)
            for number in range(5):
                put(client, f"{number}.md", "x")
            served = [after > then for after, then in zip(_commits(nodes), before, strict=True)]
            assert sorted(served) == [False, True]
            homes.append(served.index(True))
        through = copy.copy(nodes[0])
        through.url = url
        names = [f"p{number}" for number in range(len(projects))]
        editors: list[Editor] = [open_editor(through, name, "room.md").synced() for name in names]
        for editor in editors:
            editor.insert("before ")
        nodes[0].kill()
        for number, client in enumerate(projects):
            listing = client.get("/files").raise_for_status().json()
            assert {entry["path"] for entry in listing["files"]} >= {f"{name}.md" for name in range(5)}
            put(client, "after.md", "x")
            editors[number].insert("after ", at=7)
        for name in names:
            other = open_editor(nodes[1], name, "room.md").synced()
            other.until_text("before after ")
