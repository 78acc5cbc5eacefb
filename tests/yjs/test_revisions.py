"""`PUT …?base_version=N` and `POST P/edits`: edits of the text that was read, merged with what others wrote."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pycrdt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.yjs.base_edits import edit_version
from gateway.yjs.revisions import NewText
from gateway.yjs.state_vectors import read_state_vector
from gateway.yjs.text_edits import apply_edits, smallest_edits
from gateway.yjs.updates import build_document
from tests.support.server import GatewayProcess, url_of

_PLAIN = {"Content-Type": "text/plain; charset=utf-8"}


def _put(project: httpx.Client, text: str, base: int | None = None, **parameters: str) -> httpx.Response:
    named: dict[str, Any] = {} if base is None else {"base_version": base}
    return project.put("/files/a.md", content=text.encode(), headers=_PLAIN, params=named | parameters)


def _edit(project: httpx.Client, *edits: dict[str, Any], **members: Any) -> httpx.Response:
    return project.post("/edits/a.md", json={"edits": list(edits), **members})


def _text(project: httpx.Client) -> str:
    return project.get("/files/a.md?format=text").raise_for_status().text


def test_a_headline_and_a_line_that_a_person_added_meanwhile_are_both_there(shared_project: httpx.Client) -> None:
    _put(shared_project, "# List\n\n- milk\n- bread\n")
    _put(shared_project, "# List\n\n- milk\n- bread\n- butter\n")
    answer = _put(shared_project, "# Shopping on Monday\n\n- milk\n- bread\n", base=1)
    assert answer.status_code == 200
    assert answer.json()["merged"] is True
    assert answer.json()["version"] == 3
    assert _text(shared_project) == "# Shopping on Monday\n\n- milk\n- bread\n- butter\n"


def test_what_a_base_has_and_the_new_text_has_not_is_deleted_and_nothing_else(shared_project: httpx.Client) -> None:
    _put(shared_project, "one\ntwo\nthree\n")
    _put(shared_project, "one\nand a half\ntwo\nthree\n")
    _put(shared_project, "three\n", base=1)
    assert _text(shared_project) == "and a half\nthree\n"


def test_a_base_that_is_the_present_version_says_nothing_of_a_merge(shared_project: httpx.Client) -> None:
    _put(shared_project, "one")
    answer = _put(shared_project, "one two", base=1).json()
    assert answer["version"] == 2
    assert "merged" not in answer


def _moved_on(project: httpx.Client) -> None:
    _put(project, "person\n" + _text(project))


@pytest.mark.parametrize("between", ["nothing", "others write", "the gateway is killed"])
@pytest.mark.parametrize("moved_on", [False, True], ids=["at the head", "behind the head"])
def test_a_repetition_adds_nothing(tmp_path: Path, between: str, moved_on: bool) -> None:
    with GatewayProcess(tmp_path / "gateway.db") as gateway, gateway.client() as project:
        _put(project, "one\n")
        if moved_on:
            _moved_on(project)
        first = _put(project, "one\ntwo\n", base=1)
        assert first.json()["changed"] is True
        if between == "others write":
            _moved_on(project)
        if between == "the gateway is killed":
            gateway.kill()
            gateway.start()
        with gateway.client() as project:
            before = _text(project)
            again = _put(project, "one\ntwo\n", base=1)
            assert again.status_code == 200
            assert again.json()["changed"] is False
            edited = _edit(project, {"start": 4, "end": 4, "text": "two\n"}, base_version=1)
            assert edited.json()["changed"] is False
            assert _text(project) == before
            assert before.count("two") == 1


def test_a_base_of_zero_creates_and_never_overwrites(shared_project: httpx.Client) -> None:
    assert _put(shared_project, "one", base=0).status_code == 201
    refused = _put(shared_project, "two", base=0)
    assert refused.status_code == 412
    assert refused.json()["code"] == "precondition_failed"
    assert _text(shared_project) == "one"


def test_a_base_that_there_is_not_is_refused(shared_project: httpx.Client) -> None:
    assert _put(shared_project, "x", base=1).json()["code"] == "project_not_found"
    _put(shared_project, "one")
    assert _put(shared_project, "x", base=2).json()["code"] == "version_ahead"
    shared_project.delete("/files/a.md")
    assert _put(shared_project, "x", base=1).json()["code"] == "file_deleted"
    _put(shared_project, "new incarnation")
    assert _put(shared_project, "x", base=1).json()["code"] == "file_deleted"
    assert _text(shared_project) == "new incarnation"
    assert (
        shared_project.put("/files/b.md", content=b"x", headers=_PLAIN, params={"base_version": 1}).status_code == 404
    )


def test_a_base_that_retention_has_squashed_is_412(tmp_path: Path) -> None:
    database = tmp_path / "gateway.db"
    with GatewayProcess(database) as gateway, gateway.client() as project:
        for number in range(5):
            _put(project, f"{number}")
    compact = [sys.executable, "-m", "gateway", "compact", "--retain-versions", "2", "--database", url_of(database)]
    subprocess.run(compact, check=True, capture_output=True)
    with GatewayProcess(database) as gateway, gateway.client() as project:
        refused = _put(project, "x", base=1)
        assert refused.status_code == 412
        assert refused.headers["X-Version"] == "5"
        assert _put(project, "5", base=4).json()["merged"] is True


def test_old_text_is_replaced_in_the_live_text(shared_project: httpx.Client) -> None:
    _put(shared_project, "The quick brown fox.")
    answer = _edit(shared_project, {"old": "brown", "new": "red"})
    assert answer.status_code == 200
    assert _text(shared_project) == "The quick red fox."
    assert answer.headers["ETag"] == f'"{answer.headers["X-Incarnation"]}.2"'


def test_edits_are_made_all_or_none(shared_project: httpx.Client) -> None:
    _put(shared_project, "a b b")
    refused = _edit(shared_project, {"old": "a", "new": "x"}, {"old": "b", "new": "y"})
    assert refused.status_code == 409
    problem = refused.json()
    assert (problem["code"], problem["index"], problem["found"]) == ("edit_not_applicable", 1, 2)
    absent = _edit(shared_project, {"old": "z", "new": "x"}).json()
    assert (absent["index"], absent["found"]) == (0, 0)
    assert _text(shared_project) == "a b b"
    assert _edit(shared_project, {"old": "a", "new": "x"}, {"old": "b", "new": "y", "all": True}).status_code == 200
    assert _text(shared_project) == "x y y"


def test_a_range_counts_as_javascript_does(shared_project: httpx.Client) -> None:
    _put(shared_project, "😀 smile")
    assert _edit(shared_project, {"start": 3, "end": 8, "text": "grin"}).status_code == 200
    assert _text(shared_project) == "😀 grin"
    half = _edit(shared_project, {"start": 1, "end": 2, "text": ""})
    assert half.json()["code"] == "edit_not_applicable"


def test_edits_of_a_base_find_their_text_there_and_keep_what_others_wrote(shared_project: httpx.Client) -> None:
    _put(shared_project, "one fox, one dog")
    _put(shared_project, "1 fox, one dog and a cat")
    answer = _edit(shared_project, {"old": "dog", "new": "wolf"}, base_version=1)
    assert answer.json()["merged"] is True
    assert _text(shared_project) == "1 fox, one wolf and a cat"


@pytest.mark.parametrize(
    "edits",
    [
        [],
        [{}],
        [{"old": "a"}],
        [{"old": "a", "new": "b", "start": 0, "end": 1, "text": "x"}],
        [{"start": 0, "text": "x"}],
        [{"start": 0, "end": 1, "text": "x", "all": True}],
        [{"start": -1, "end": 1, "text": "x"}],
        [{"old": "a", "new": "b", "odd": 1}],
        [{"old": "a", "new": "b"}] * 1001,
    ],
)
def test_a_body_that_is_no_list_of_edits_is_refused(shared_project: httpx.Client, edits: list[Any]) -> None:
    _put(shared_project, "abc")
    assert _edit(shared_project, *edits).json()["code"] == "invalid_body"


def test_the_text_comes_back_where_it_is_preferred(shared_project: httpx.Client) -> None:
    _put(shared_project, "one\n")
    _put(shared_project, "one\ntwo\n")
    answer = shared_project.put(
        "/files/a.md?base_version=1",
        content=b"zero\none\n",
        headers=_PLAIN | {"Prefer": "respond-async, return=representation"},
    )
    assert answer.text == "zero\none\ntwo\n"
    assert answer.headers["Preference-Applied"] == "return=representation"
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.headers["ETag"].endswith('.3.t"')
    again = shared_project.get("/files/a.md?format=text", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304


def test_rich_text_is_not_edited_as_text(shared_project: httpx.Client) -> None:
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    document["prosemirror"] = pycrdt.XmlFragment([pycrdt.XmlElement("paragraph", {}, [pycrdt.XmlText("hello")])])
    octets = {"Content-Type": "application/octet-stream"}
    shared_project.patch("/files/a.md", content=document.get_update(), headers=octets)
    assert _edit(shared_project, {"old": "hello", "new": "x"}).json()["code"] == "not_a_text"
    assert _put(shared_project, "x", base=1).json()["code"] == "not_a_text"
    assert _put(shared_project, "x", base=1, root="notes").status_code == 200


def test_a_format_stays_around_what_is_edited_in_an_old_version(shared_project: httpx.Client) -> None:
    document: pycrdt.Doc[Any] = pycrdt.Doc()
    document["content"] = text = pycrdt.Text()
    text.insert(0, "plain ")
    text.insert(6, "bold words", {"b": True})
    octets = {"Content-Type": "application/octet-stream"}
    shared_project.patch("/files/a.md", content=document.get_update(), headers=octets)
    _put(shared_project, "very plain bold words")
    _edit(shared_project, {"old": "words", "new": "new words"}, base_version=1)
    replica = build_document([shared_project.get("/files/a.md").content])
    assert replica.get("content", type=pycrdt.Text).diff() == [
        ("very plain ", None),
        ("bold new words", {"b": True}),
    ]


# Each side inserts characters of its own alphabet, so that it can be told whose they are.
_BASES = st.text(st.sampled_from("abc\n "), max_size=12)


def _side(alphabet: str) -> "st.SearchStrategy[Callable[[str], str]]":
    def build(choices: list[tuple[bool, str]]) -> Callable[[str], str]:
        def revise(base: str) -> str:
            pieces = []
            for index, character in enumerate((*base, "")):
                keep, added = choices[index % len(choices)] if choices else (True, "")
                pieces += [added, character if keep else ""]
            return "".join(pieces)

        return revise

    return st.lists(st.tuples(st.booleans(), st.text(st.sampled_from(alphabet), max_size=2)), max_size=14).map(build)


@settings(deadline=None)
@given(_BASES, _side("XYZ😀"), _side("123"))
def test_what_either_side_adds_survives_and_what_either_deletes_is_gone(
    base: str, person: Callable[[str], str], agent: Callable[[str], str]
) -> None:
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=1)
    rows: list[bytes] = []
    subscription = document.observe(lambda event: rows.append(event.update))
    text = document.get("content", type=pycrdt.Text)
    text.insert(0, base)
    before = list(rows)
    update = edit_version(before, None, "life.1", "content", NewText(agent(base)), False)
    _edit_as_person(text, base, person(base))
    if update is not None:
        document.apply_update(update)
        document.apply_update(update)
    document.unobserve(subscription)
    merged = str(text)
    for alphabet, side in (("XYZ😀", person(base)), ("123", agent(base))):
        assert [each for each in merged if each in alphabet] == [each for each in side if each in alphabet]
    for character in "abc\n ":
        deleted = [base.count(character) - side.count(character) for side in (person(base), agent(base))]
        assert base.count(character) - sum(deleted) <= merged.count(character) <= base.count(character) - max(deleted)


def _edit_as_person(text: pycrdt.Text, base: str, new: str) -> None:
    """The edits of another client."""
    apply_edits(text, smallest_edits(base, new))


def test_an_edit_of_an_old_version_bears_a_client_that_nothing_else_bears() -> None:
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=1)
    document.get("content", type=pycrdt.Text).insert(0, "one")
    rows = [document.get_update()]

    def edited(meant: str, text: str) -> bytes | None:
        return edit_version(rows, None, meant, "content", NewText(text), False)

    assert edited("life.1", "one two") == edited("life.1", "one two")
    clients = {
        next(iter(client for client in _clients(rows, update) if client != 1))
        for update in (edited("life.1", "one two"), edited("life.2", "one two"), edited("life.1", "one too"))
        if update is not None
    }
    assert len(clients) == 3


def _clients(rows: list[bytes], update: bytes) -> list[int]:
    return list(read_state_vector(build_document([*rows, update]).get_state()))


def test_an_edit_that_the_next_version_has_already_is_none() -> None:
    document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=1)
    rows: list[bytes] = []
    subscription = document.observe(lambda event: rows.append(event.update))
    text = document.get("content", type=pycrdt.Text)
    text.insert(0, "one")
    text.insert(3, " two")
    document.unobserve(subscription)
    assert edit_version(rows[:1], rows[1], "life.1", "content", NewText("one two"), False) is None
    assert edit_version(rows[:1], rows[1], "life.1", "content", NewText("one three"), False) is not None
