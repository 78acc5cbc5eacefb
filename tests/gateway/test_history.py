"""The past of a file: its versions, what changed between two, and the way back."""

import base64
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pycrdt
import pytest

from tests.support.oracle import Oracle

_OCTETS = {"Content-Type": "application/octet-stream"}
_PLAIN = {"Content-Type": "text/plain"}


def put(project: httpx.Client, text: str, path: str = "a.md", author: str | None = None) -> dict[str, Any]:
    headers: dict[str, Any] = {**_PLAIN} | ({} if author is None else {"X-Author": author.encode()})
    receipt: dict[str, Any] = (
        project.put(f"/files/{path}", content=text.encode(), headers=headers).raise_for_status().json()
    )
    return receipt


def history(project: httpx.Client, path: str = "a.md", **parameters: Any) -> dict[str, Any]:
    answer: dict[str, Any] = project.get(f"/history/{path}", params=parameters).raise_for_status().json()
    return answer


def restore(project: httpx.Client, version: int, path: str = "a.md", **headers: str) -> httpx.Response:
    return project.post(f"/history/{path}/restore", json={"version": version}, headers=headers)


def text_of(project: httpx.Client, **parameters: Any) -> str:
    return project.get("/files/a.md", params={"format": "text", **parameters}).raise_for_status().text


def test_versions_come_newest_first_with_time_size_and_author(shared_project: httpx.Client) -> None:
    receipts = [put(shared_project, "x" * number, author=author) for number, author in enumerate(["ada", "Zoë 🙂"], 1)]
    receipts.append(put(shared_project, "xxx"))
    listing = shared_project.get("/files").json()["files"][0]
    versions = history(shared_project)["versions"]
    assert [entry["version"] for entry in versions] == [3, 2, 1]
    assert [entry["author"] for entry in versions] == [None, "Zoë 🙂", "ada"]
    assert [entry["last_modified"] for entry in versions] == [each["last_modified"] for each in reversed(receipts)]
    assert versions[0]["size"] == listing["size"]
    assert versions[2]["size"] < versions[1]["size"] < versions[0]["size"]
    assert history(shared_project)["next"] is None


def test_pages_hold_every_version_once(shared_project: httpx.Client) -> None:
    for number in range(1, 24):
        put(shared_project, str(number))
    for limit in (1, 5, 23, 1000):
        seen: list[int] = []
        before: dict[str, int] = {}
        while True:
            page = history(shared_project, limit=limit, **before)
            assert len(page["versions"]) <= limit
            seen += [entry["version"] for entry in page["versions"]]
            if page["next"] is None:
                break
            before = {"before": page["next"]}
        assert seen == list(range(23, 0, -1))


def test_groups_join_neighbours_of_one_author(shared_project: httpx.Client) -> None:
    authors = ["ada"] * 3 + ["bob"] * 2 + ["ada"] + [None] * 2
    for number, author in enumerate(authors):
        put(shared_project, str(number), author=author)
    groups = history(shared_project, group=3600)["versions"]
    assert [(each.get("first_version", each["version"]), each["version"], each["author"]) for each in groups] == [
        (7, 8, None),
        (6, 6, "ada"),
        (4, 5, "bob"),
        (1, 3, "ada"),
    ]
    page = history(shared_project, group=3600, limit=2)
    rest = history(shared_project, group=3600, limit=2, before=page["next"])
    assert page["versions"] + rest["versions"] == groups
    assert shared_project.get("/files/a.md?at_version=2").headers["X-Version"] == "2"


def test_a_deletion_is_a_version_too(shared_project: httpx.Client) -> None:
    put(shared_project, "one")
    shared_project.delete("/files/a.md", headers={"X-Author": "ada"}).raise_for_status()
    entries = history(shared_project)["versions"]
    assert [(entry["version"], entry.get("deleted", False), entry["author"]) for entry in entries] == [
        (2, True, "ada"),
        (1, False, None),
    ]


def test_a_unified_difference_is_what_patch_takes(shared_project: httpx.Client, tmp_path: Path) -> None:
    texts = ["one\ntwo\nthree\nfour\n", "one\n2\nthree\nfour\nfive", "", "ä\r\n🙂\nend"]
    for text in texts:
        put(shared_project, text)
    for older in range(1, 5):
        for newer in range(1, 5):
            answer = shared_project.get("/history/a.md", params={"diff": f"{older}..{newer}"}).raise_for_status()
            assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
            file = tmp_path / "a.md"
            file.write_bytes(texts[older - 1].encode())
            if answer.text:
                command = ["patch", "--quiet", "--binary", str(file)]
                subprocess.run(command, input=answer.content, check=True)
            assert (file.read_bytes() if file.exists() else b"").decode() == texts[newer - 1]


def test_ranges_make_one_text_of_the_other(shared_project: httpx.Client) -> None:
    texts = ["one two three 🙂", "one 2 three 🙂🙂", "", "all new"]
    for text in texts:
        put(shared_project, text)
    for older in range(1, 5):
        for newer in range(1, 5):
            told = shared_project.get("/history/a.md", params={"diff": f"{older}..{newer}", "format": "json"}).json()
            assert (told["from"], told["to"]) == (older, newer)
            text = texts[older - 1]
            for edit in reversed(told["edits"]):
                text = text[: edit["start"]] + edit["text"] + text[edit["end"] :]
            assert text == texts[newer - 1]


@pytest.mark.parametrize("diff", ["1", "1..", "..2", "0..1", "1..x", "-1..2", "1...2", "1..99999999999999999999"])
def test_what_is_no_difference_is_refused(shared_project: httpx.Client, diff: str) -> None:
    put(shared_project, "x")
    refused = shared_project.get("/history/a.md", params={"diff": diff})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_parameter")


def test_a_version_that_never_was_is_not_found(shared_project: httpx.Client) -> None:
    put(shared_project, "x")
    for refused in (
        restore(shared_project, 2),
        shared_project.get("/history/a.md?diff=1..2"),
        shared_project.get("/files/a.md?at_version=2"),
    ):
        assert (refused.status_code, refused.json()["code"]) == (404, "version_not_found")
    for path in ("/history/b.md", "/history/b.md?diff=1..2"):
        assert shared_project.get(path).json()["code"] == "file_not_found"


def test_a_restore_is_a_new_version_and_erases_nothing(shared_project: httpx.Client) -> None:
    for text in ("one", "two", "three"):
        put(shared_project, text)
    receipt = restore(shared_project, 1, **{"X-Author": "ada"})
    assert (receipt.status_code, receipt.json()["version"], receipt.json()["changed"]) == (200, 4, True)
    assert text_of(shared_project) == "one"
    assert [text_of(shared_project, at_version=version) for version in range(1, 5)] == ["one", "two", "three", "one"]
    assert history(shared_project)["versions"][0]["author"] == "ada"
    again = restore(shared_project, 1)
    assert (again.json()["version"], again.json()["changed"]) == (4, False)


def test_a_deleted_file_comes_back_by_a_restore(shared_project: httpx.Client) -> None:
    put(shared_project, "one")
    before = shared_project.get("/files/a.md").headers["X-Incarnation"]
    shared_project.delete("/files/a.md").raise_for_status()
    receipt = restore(shared_project, 1)
    assert (receipt.status_code, receipt.json()["version"]) == (201, 3)
    assert text_of(shared_project) == "one"
    assert shared_project.get("/files/a.md").headers["X-Incarnation"] != before


def test_a_restore_minds_preconditions(shared_project: httpx.Client) -> None:
    put(shared_project, "one")
    tag = shared_project.get("/files/a.md").headers["ETag"]
    put(shared_project, "two")
    refused = restore(shared_project, 1, **{"If-Match": tag})
    assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")
    assert text_of(shared_project) == "two"


def test_a_restore_merges_with_what_is_written_at_the_same_time(shared_project: httpx.Client, oracle: Oracle) -> None:
    put(shared_project, "first line\nsecond line\n")
    put(shared_project, "first line, changed\nsecond line\n")
    offline: pycrdt.Doc[Any] = pycrdt.Doc()
    offline.apply_update(shared_project.get("/files/a.md").content)
    state = offline.get_state()
    offline.get("content", type=pycrdt.Text).insert(len(offline.get("content", type=pycrdt.Text)), "third line\n")
    restore(shared_project, 1).raise_for_status()
    mine = offline.get_update(state)
    shared_project.patch("/files/a.md", content=mine, headers=_OCTETS).raise_for_status()
    assert text_of(shared_project) == "first line\nsecond line\nthird line\n"
    news = shared_project.get("/files/a.md", params={"state_vector": _base64(offline.get_state())}).content
    assert oracle.text([offline.get_update(), news]) == text_of(shared_project)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def test_typing_in_a_file_of_many_versions_reads_any_of_them(shared_project: httpx.Client, oracle: Oracle) -> None:
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    text = document.get("content", type=pycrdt.Text)
    updates: list[bytes] = []
    subscription = document.observe(lambda event: updates.append(event.update))
    expected = [""]
    for number in range(1, 1501):
        if number % 7 == 0:
            del text[: len(text) // 3]
        else:
            text += f"{number} " * 30
        expected.append(str(text))
        shared_project.patch("/files/a.md", content=updates[-1], headers=_OCTETS).raise_for_status()
    document.unobserve(subscription)
    for version in (1, 2, 100, 499, 500, 777, 1234, 1499, 1500):
        whole = shared_project.get("/files/a.md", params={"at_version": version})
        assert whole.headers["X-Version"] == str(version)
        assert oracle.text([whole.content]) == expected[version]


def test_the_past_of_a_deleted_file_is_read_across_its_lives(shared_project: httpx.Client) -> None:
    put(shared_project, "one\n")
    put(shared_project, "one\ntwo\n")
    first = shared_project.get("/files/a.md").headers["X-Incarnation"]
    shared_project.delete("/files/a.md").raise_for_status()
    lives = {1: (first, "one\n"), 2: (first, "one\ntwo\n")}

    def check() -> None:
        for version, (incarnation, text) in lives.items():
            for form in ("text", "json", "update"):
                parameters = {"at_version": version, "format": form}
                answer = shared_project.get("/files/a.md", params=parameters).raise_for_status()
                assert (answer.headers["X-Incarnation"], answer.headers["X-Version"]) == (incarnation, str(version))
                known = shared_project.get(
                    "/files/a.md", params=parameters, headers={"If-None-Match": answer.headers["ETag"]}
                )
                assert (known.status_code, known.headers["ETag"]) == (304, answer.headers["ETag"])
            assert text_of(shared_project, at_version=version) == text
        difference = shared_project.get("/history/a.md", params={"diff": "1..2"}).raise_for_status()
        assert difference.text.endswith("@@ -1 +1,2 @@\n one\n+two\n")

    check()
    gone = shared_project.get("/files/a.md?at_version=3")
    assert (gone.status_code, gone.json()["code"]) == (410, "file_deleted")
    never = shared_project.get("/files/a.md?at_version=4")
    assert (never.status_code, never.json()["code"]) == (404, "version_not_found")
    put(shared_project, "three\n")
    lives[4] = (shared_project.get("/files/a.md").headers["X-Incarnation"], "three\n")
    assert lives[4][0] != first
    check()
    across = shared_project.get("/history/a.md", params={"diff": "2..4", "format": "json"}).raise_for_status().json()
    assert (across["from"], across["to"]) == (2, 4)
    shared_project.delete("/files/a.md").raise_for_status()
    check()
    assert restore(shared_project, 2).status_code == 201
    assert text_of(shared_project) == "one\ntwo\n"
    check()


def test_deleted_files_are_listed_with_who_deleted_them(shared_project: httpx.Client) -> None:
    assert shared_project.get("/files?deleted=true").json()["code"] == "project_not_found"
    paths = ["a/1.md", "a/2.md", "b.md", "c.md", "ä.md"]
    for path in [*paths, "alive.md"]:
        put(shared_project, path, path)
    for path in paths:
        headers = httpx.Headers([(b"X-Author", f"who deletes {path}".encode())])
        shared_project.delete(f"/files/{path}", headers=headers).raise_for_status()
    put(shared_project, "back", "c.md")
    gone = [path for path in paths if path != "c.md"]
    listing = shared_project.get("/files?deleted=true")
    assert [file["path"] for file in listing.json()["files"]] == gone
    newest = {path: history(shared_project, path)["versions"][0] for path in gone}
    for file in listing.json()["files"]:
        entry = newest[file["path"]]
        assert file == {
            "path": file["path"],
            "version": entry["version"],
            "last_modified": entry["last_modified"],
            "author": f"who deletes {file['path']}",
        }
    tag = listing.headers["ETag"]
    assert shared_project.get("/files?deleted=true", headers={"If-None-Match": tag}).status_code == 304
    assert [file["path"] for file in shared_project.get("/files").json()["files"]] == ["alive.md", "c.md"]
    assert shared_project.get("/files?deleted=false").json() == shared_project.get("/files").json()
    narrowed = shared_project.get("/files", params={"deleted": "true", "prefix": "a/"}).json()["files"]
    assert [file["path"] for file in narrowed] == ["a/1.md", "a/2.md"]
    pages: list[str] = []
    after: str | None = ""
    while after is not None:
        page = shared_project.get("/files", params={"deleted": "true", "limit": 1, "after": after}).json()
        assert len(page["files"]) == 1
        pages += [file["path"] for file in page["files"]]
        after = page["next"]
    assert pages == gone
    assert restore(shared_project, 1, "b.md").status_code == 201
    changed = shared_project.get("/files?deleted=true", headers={"If-None-Match": tag})
    assert [file["path"] for file in changed.json()["files"]] == ["a/1.md", "a/2.md", "ä.md"]
    refused = shared_project.get("/files?deleted=yes")
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_parameter")
