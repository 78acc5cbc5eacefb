"""The main job, once through."""

import httpx
import pycrdt


def test_a_file_is_written_polled_and_fetched(project: httpx.Client) -> None:
    document = pycrdt.Doc[object]()
    text = document.get("content", type=pycrdt.Text)
    text += "Hello"
    octets = {"Content-Type": "application/octet-stream"}
    first = project.patch("/files/notes/a.md", content=document.get_update(), headers=octets)
    assert first.status_code == 201
    assert first.json()["version"] == 1

    state = document.get_state()
    text += ", world"
    second = project.patch("/files/notes/a.md", content=document.get_update(state), headers=octets)
    assert second.status_code == 200

    changes = project.post("/files/status", json={"versions": {"notes/a.md": 1}}).json()
    assert [(change["path"], change["version"], change["change_type"]) for change in changes["changes"]] == [
        ("notes/a.md", 2, "modified")
    ]
    increment = project.get("/files/notes/a.md", params={"from_version": 1})
    assert (increment.headers["X-From-Version"], increment.headers["X-Version"]) == ("1", "2")
    whole = project.get("/files/notes/a.md", params={"at_version": 1}).content
    replica = pycrdt.Doc[object]()
    replica.apply_update(whole)
    replica.apply_update(increment.content)
    assert str(replica.get("content", type=pycrdt.Text)) == "Hello, world"
    assert project.get("/files/notes/a.md", params={"format": "text"}).text == "Hello, world"
