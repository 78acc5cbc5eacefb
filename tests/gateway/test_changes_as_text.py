"""`GET P/changes?diff=text`: what changed since a cursor, as a text that `patch` takes."""

import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.server import GatewayProcess


def put(project: httpx.Client, path: str, text: str, author: str | None = None) -> str:
    headers = {"Content-Type": "text/plain", **({} if author is None else {"X-Author": author})}
    cursor: str = (
        project.put(f"files/{path}", content=text.encode(), headers=headers).raise_for_status().json()["cursor"]
    )
    return cursor


def news(project: httpx.Client, since: str | None = None, **parameters: Any) -> dict[str, Any]:
    params = {"diff": "text", **({} if since is None else {"since": since}), **parameters}
    answer: dict[str, Any] = project.get("changes", params=params).raise_for_status().json()
    return answer


def entries(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["path"]: entry for entry in answer["changes"]}


def test_it_tells_what_changed_since_the_cursor_and_by_whom(shared_project: httpx.Client, tmp_path: Path) -> None:
    old = "".join(f"line {number}\n" for number in range(40))
    put(shared_project, "a.md", old, "before")
    cursor = put(shared_project, "other.md", "same\n")
    new = old.replace("line 3\n", "line three\n").replace("line 30\n", "")
    put(shared_project, "a.md", old.replace("line 30\n", ""), "ada")
    put(shared_project, "a.md", new, "bob")
    put(shared_project, "new.md", "hello\n")
    answer = news(shared_project, cursor)
    found = entries(answer)
    assert set(found) == {"a.md", "new.md"}
    assert (found["a.md"]["from_version"], found["a.md"]["version"]) == (1, 3)
    assert found["a.md"]["authors"] == ["ada", "bob"]
    (tmp_path / "a.md").write_text(old)
    subprocess.run(["patch", "a.md"], cwd=tmp_path, input=found["a.md"]["diff"].encode(), check=True, stdout=-3)
    assert (tmp_path / "a.md").read_text() == new
    assert found["new.md"]["diff"] == "--- /dev/null\n+++ new.md (version 1)\n@@ -0,0 +1 @@\n+hello\n"
    assert (found["new.md"]["from_version"], found["new.md"]["authors"]) == (0, [])
    assert news(shared_project, answer["cursor"])["changes"] == []


def test_every_page_goes_on_where_the_one_before_ended(shared_project: httpx.Client) -> None:
    cursor = put(shared_project, "a.md", "one\n")
    for number in range(5):
        put(shared_project, f"{number}.md", f"{number}\n")
    put(shared_project, "a.md", "one\ntwo\n")
    seen: list[str] = []
    more = True
    while more:
        answer = news(shared_project, cursor, limit=2)
        seen += [entry["diff"].rpartition("+")[2] for entry in answer["changes"]]
        cursor, more = answer["cursor"], answer["more"]
    assert seen == [*(f"{number}\n" for number in range(5)), "two\n"]


def test_a_deletion_takes_all_lines_away_and_a_new_life_begins_with_none(shared_project: httpx.Client) -> None:
    cursor = put(shared_project, "a.md", "one\n")
    shared_project.delete("files/a.md").raise_for_status()
    gone = news(shared_project, cursor)
    assert entries(gone)["a.md"]["diff"] == "--- a.md (version 1)\n+++ /dev/null\n@@ -1 +0,0 @@\n-one\n"
    put(shared_project, "a.md", "two\n")
    again = entries(news(shared_project, gone["cursor"]))["a.md"]
    assert (again["change_type"], again["from_version"]) == ("created", 2)
    assert again["diff"] == "--- /dev/null\n+++ a.md (version 3)\n@@ -0,0 +1 @@\n+two\n"
    across = entries(news(shared_project, cursor))["a.md"]
    assert across["diff"].splitlines()[2:] == ["@@ -1 +1 @@", "-one", "+two"]


def test_differences_end_where_the_answer_is_full_and_the_entries_do_not(shared_project: httpx.Client) -> None:
    cursor = put(shared_project, "first", "x")
    for name in ("a", "b", "c"):
        put(shared_project, name, "word\n" * 100)
    size = len(entries(news(shared_project, cursor))["a"]["diff"])
    found = entries(news(shared_project, cursor, max_bytes=2 * size + 10))
    assert [entry["diff"] is None for entry in found.values()] == [False, False, True]
    assert entries(news(shared_project, cursor, max_bytes=0))["a"]["diff"] is None


def test_what_is_no_text_has_no_difference(shared_project: httpx.Client) -> None:
    import pycrdt

    document = pycrdt.Doc()
    document["list"] = pycrdt.Array([1, 2])
    headers = {"Content-Type": "application/octet-stream"}
    shared_project.patch("files/list.bin", content=document.get_update(), headers=headers).raise_for_status()
    put(shared_project, "a.md", "text\n")
    found = entries(news(shared_project))
    assert (found["list.bin"]["diff"], found["list.bin"]["from_version"]) == (None, 0)
    assert found["a.md"]["diff"] is not None
    other = entries(news(shared_project, root="list"))
    assert other["a.md"]["diff"] is None


def test_turns_have_their_prompt(shared_project: httpx.Client) -> None:
    session = shared_project.post("sessions", json={}).json()["id"]
    shared_project.post(f"sessions/{session}/turns", json={"prompt": "Sort it. " * 200}).raise_for_status()
    (entry,) = news(shared_project)["changes"]
    assert (entry["kind"], entry["status"], len(entry["prompt"])) == ("turn", "pending", 1000)


@pytest.mark.parametrize(
    "parameters", [{"diff": "html"}, {"diff": "text", "max_bytes": "-1"}, {"diff": "text", "limit": "5000"}]
)
def test_what_cannot_be_meant_is_refused(parameters: dict[str, str], shared_project: httpx.Client) -> None:
    put(shared_project, "a.md", "text\n")
    assert shared_project.get("changes", params=parameters).json()["code"] == "invalid_parameter"


def test_a_stream_refuses_it(shared_project: httpx.Client) -> None:
    put(shared_project, "a.md", "text\n")
    answer = shared_project.get("changes", params={"diff": "text"}, headers={"Accept": "text/event-stream"})
    assert answer.json()["code"] == "invalid_parameter"


def test_a_long_poll_brings_it(shared_project: httpx.Client, shared_gateway: GatewayProcess) -> None:
    import threading

    cursor = put(shared_project, "a.md", "one\n")
    found: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: found.append(news(shared_project, cursor, wait=50)))
    asking.start()
    put(shared_project, "a.md", "one\ntwo\n")
    asking.join()
    assert entries(found[0])["a.md"]["diff"].endswith("+two\n")
