"""`PUT text/plain`: the smallest edit, merged with what others do."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import pycrdt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.requests import text_of
from gateway.wire.problems import InvalidText
from gateway.yjs.text_edits import apply_edits, smallest_edits

_PLAIN = {"Content-Type": "text/plain; charset=utf-8"}
_OCTETS = {"Content-Type": "application/octet-stream"}


def _put(project: httpx.Client, text: str, **headers: str) -> httpx.Response:
    return project.put(
        "/files/a.md", content=text.encode(), headers=_PLAIN | {k.replace("_", "-"): v for k, v in headers.items()}
    )


def _text(project: httpx.Client) -> str:
    return project.get("/files/a.md?format=text").raise_for_status().text


def _replica(project: httpx.Client) -> "pycrdt.Doc[object]":
    document: pycrdt.Doc[object] = pycrdt.Doc()
    document.apply_update(project.get("/files/a.md").raise_for_status().content)
    return document


_EMBED = object()
PIECES = st.lists(st.one_of(st.text(max_size=8), st.just(_EMBED)), max_size=8)

TEXTS = [
    "",
    "one line",
    "one\r\ntwo\r\n",
    "e\u0301 and é",
    "family 👨‍👩‍👧‍👦 and 👍🏽",
    "𝒳 outside the plane, \U0010ffff at its end",
    "\ufeffa mark at the start",
    "tab\tnull\x00bell\x07",
    "line\u2028separator",
    "a" * 5000 + "middle" + "b" * 5000,
]


def test_any_text_follows_any_other(shared_project: httpx.Client) -> None:
    for text in [*TEXTS, *reversed(TEXTS)]:
        assert _put(shared_project, text).status_code in (200, 201)
        assert _text(shared_project) == text


@given(st.text(), st.text())
def test_the_edits_make_the_new_text_of_the_old_one(old: str, new: str) -> None:
    document: pycrdt.Doc[object] = pycrdt.Doc()
    text = document.get("content", type=pycrdt.Text)
    text.insert(0, old)
    apply_edits(text, smallest_edits(old, new))
    assert str(text) == new


@given(st.text(alphabet="ab\n", max_size=12), st.text(alphabet="ab\n", max_size=12))
def test_no_smaller_edits_exist(old: str, new: str) -> None:
    edits = smallest_edits(old, new)
    assert sum(edit.end - edit.start + len(edit.text) for edit in edits) == len(old) + len(new) - 2 * _common(old, new)


def _common(old: str, new: str) -> int:
    """The length of the longest common subsequence, by the book."""
    row = [0] * (len(new) + 1)
    for left in old:
        above = 0
        for place, right in enumerate(new, 1):
            above, row[place] = row[place], above + 1 if left == right else max(row[place], row[place - 1])
    return row[-1]


def test_a_large_text_with_scattered_changes_is_edited_where_it_changes() -> None:
    lines = [f"line {number} of a long file with some words in it\n" for number in range(20_000)]
    changed = [line.replace("words", "changes") if number % 4000 == 7 else line for number, line in enumerate(lines)]
    edits = smallest_edits("".join(lines), "".join(changed))
    assert 5 <= len(edits) <= 40
    assert sum(edit.end - edit.start + len(edit.text) for edit in edits) < 100


def test_embeds_and_formats_between_the_changed_characters_stay(shared_project: httpx.Client) -> None:
    document: pycrdt.Doc[object] = pycrdt.Doc()
    text = document.get("content", type=pycrdt.Text)
    text.insert(0, "bold plain")
    text.format(0, 4, {"bold": True})
    text.insert_embed(5, {"image": "x.png"})
    shared_project.patch("/files/a.md", content=document.get_update(), headers=_OCTETS)
    assert _put(shared_project, "bold and plain").json()["changed"]
    pieces = _replica(shared_project).get("content", type=pycrdt.Text).diff()
    assert pieces[0] == ("bold", {"bold": True})
    assert {"image": "x.png"} in [content for content, _ in pieces]
    assert "".join(content for content, _ in pieces if isinstance(content, str)) == "bold and plain"


@pytest.mark.parametrize("body", [b"\xff", b"\xed\xa0\x80", b"ok\xc3"])
def test_what_is_not_utf_8_is_refused(shared_project: httpx.Client, body: bytes) -> None:
    refused = shared_project.put("/files/a.md", content=body, headers=_PLAIN)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_text")
    assert shared_project.get("/files/a.md").status_code == 404


def test_a_very_long_text_is_checked_in_slices_and_not_decoded() -> None:
    body = ("é🎉x" * 2**19).encode()  # characters lie across the ends of slices
    wrong = body[:-1] + b"\xff" + body

    async def work() -> None:
        reading = asyncio.create_task(text_of(body))
        turns = 0
        while not reading.done():
            await asyncio.sleep(0)
            turns += 1
        assert reading.result() is body
        assert turns >= len(body) // 2**19
        assert await text_of(b"short") == "short"
        for bad in (wrong, body[:-2]):
            with pytest.raises(InvalidText, match=f"position {len(body) - 1 if bad is wrong else len(body) - 5}"):
                await text_of(bad)

    asyncio.run(work())


def test_a_very_long_text_replaces_another_one(shared_project: httpx.Client) -> None:
    long = "line é\n" * 100_000
    assert _put(shared_project, long).json()["changed"]
    assert not _put(shared_project, long).json()["changed"]
    assert _put(shared_project, "🎉" + long).json()["changed"]
    assert _text(shared_project) == "🎉" + long
    url = "/files/a.md?base_version=2"
    revised = shared_project.put(url, content=("🎉" + long + "end").encode(), headers=_PLAIN)
    assert revised.json()["changed"]
    assert _text(shared_project) == "🎉" + long + "end"


def test_a_retry_makes_no_version(shared_project: httpx.Client) -> None:
    assert _put(shared_project, "once").json()["changed"]
    assert _put(shared_project, "once").json() | {"last_modified": 0, "cursor": 0} == {
        "path": "a.md", "version": 1, "last_modified": 0, "cursor": 0, "changed": False,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["map", "array", "xml"])
def test_a_root_of_another_kind_is_left_alone(shared_project: httpx.Client, kind: str) -> None:
    document: pycrdt.Doc[object] = pycrdt.Doc()
    match kind:
        case "map":
            document.get("content", type=pycrdt.Map)["key"] = 1
        case "array":
            document.get("content", type=pycrdt.Array).append("item")
        case _:
            document.get("content", type=pycrdt.XmlFragment).children.append(pycrdt.XmlElement("p"))
    shared_project.patch("/files/a.md", content=document.get_update(), headers=_OCTETS)
    refused = _put(shared_project, "text")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_a_text")
    assert refused.json()["roots"] == {"content": kind}
    assert shared_project.get("/files/a.md").headers["X-Version"] == "1"
    assert shared_project.put("/files/a.md?root=notes", content=b"text", headers=_PLAIN).json()["changed"]
    assert shared_project.get("/files/a.md?format=json").json()["notes"] == "text"


@pytest.mark.parametrize("accept", [{}, {"Accept": "text/plain"}], ids=["format", "accept"])
def test_the_text_of_a_document_that_has_others_roots_only_is_refused(
    shared_project: httpx.Client, accept: dict[str, str]
) -> None:
    """An agent must not take rich text for an empty file, nor write a second root beside it that no editor shows."""
    query = {} if accept else {"format": "text"}
    document: pycrdt.Doc[object] = pycrdt.Doc()
    document.get("prosemirror", type=pycrdt.XmlFragment).children.append(pycrdt.XmlElement("p"))
    document.get("notes", type=pycrdt.Text).insert(0, "a note")
    meta = document.get("meta", type=pycrdt.Map)
    meta["key"] = 1
    del meta["key"]
    shared_project.patch("/files/a.md", content=document.get_update(), headers=_OCTETS)
    roots = {"notes": "text", "prosemirror": "xml"}
    for _ in range(2):  # a refusal makes no root
        for refused in (shared_project.get("/files/a.md", params=query, headers=accept), _put(shared_project, "text")):
            assert (refused.status_code, refused.json()["code"]) == (409, "not_a_text")
            assert refused.json()["roots"] == roots
    assert shared_project.get("/files/a.md", params={"root": "notes", **query}, headers=accept).text == "a note"
    assert "content" not in shared_project.get("/files/a.md?format=json").json()
    said = shared_project.put("/files/a.md?root=content", content=b"text", headers=_PLAIN)
    assert said.json()["version"] == 2
    assert shared_project.get("/files/a.md", params=query, headers=accept).text == "text"
    assert _put(shared_project, "").status_code == 200
    assert shared_project.get("/files/a.md", params=query, headers=accept).text == ""


def test_a_large_document_without_the_root_is_refused_alike(shared_project: httpx.Client) -> None:
    document: pycrdt.Doc[object] = pycrdt.Doc()
    document.get("notes", type=pycrdt.Text).insert(0, "large " * 2**18)
    shared_project.patch("/files/a.md", content=document.get_update(), headers=_OCTETS).raise_for_status()
    refused = shared_project.get("/files/a.md?format=text")
    assert (refused.status_code, refused.json()["roots"]) == (409, {"notes": "text"})


def test_a_document_that_holds_nothing_has_an_empty_text(shared_project: httpx.Client) -> None:
    document: pycrdt.Doc[object] = pycrdt.Doc()
    shared_project.patch("/files/a.md", content=document.get_update(), headers=_OCTETS)
    assert shared_project.get("/files/a.md?format=text").text == ""
    meta = document.get("meta", type=pycrdt.Map)
    meta["key"] = 1
    del meta["key"]
    shared_project.patch("/files/a.md", content=document.get_update(), headers=_OCTETS)
    answer = shared_project.get("/files/a.md?format=text")
    assert (answer.status_code, answer.text) == (200, "")
    assert _put(shared_project, "text").status_code == 200
    assert shared_project.get("/files/a.md?format=text").text == "text"


def test_the_name_of_a_root_is_bounded(shared_project: httpx.Client) -> None:
    _put(shared_project, "text")
    for name, status in (("ä" * 100, 409), ("ä" * 101, 400)):
        answer = shared_project.get("/files/a.md", params={"format": "text", "root": name})
        assert answer.status_code == status
    assert answer.json()["code"] == "invalid_parameter"
    answer = shared_project.put("/files/a.md", params={"root": "r" * 201}, content=b"x", headers=_PLAIN)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


def test_agents_that_name_their_base_never_erase_each_others_paragraphs(shared_project: httpx.Client) -> None:
    paragraphs = [f"paragraph {number}: -" for number in range(6)]
    _put(shared_project, "\n\n".join(paragraphs))

    def work(number: int) -> None:
        with httpx.Client(base_url=shared_project.base_url, timeout=120) as client:
            for step in range(5):
                while True:
                    present = client.get("/files/a.md?format=text")
                    text = re.sub(f"(paragraph {number}: .*)-", rf"\g<1>{step}-", present.text)
                    answer = _put(client, text, If_Match=present.headers["ETag"])
                    if answer.status_code != 412:
                        break
                    assert answer.headers["ETag"] != present.headers["ETag"]
                assert answer.json()["changed"]

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert _text(shared_project) == "\n\n".join(f"paragraph {number}: 01234-" for number in range(6))


def test_what_a_person_types_while_an_agent_puts_is_never_lost(shared_project: httpx.Client) -> None:
    _put(shared_project, "top\n\nbottom\n")
    person = _replica(shared_project)
    text = person.get("content", type=pycrdt.Text)
    typed = ""
    for number in range(30):
        before = person.get_state()
        text.insert(len("top") + len(typed), f"[{number}]")
        typed += f"[{number}]"
        base = _text(shared_project)
        _put(shared_project, base.replace("bottom\n", f"bottom\nagent {number}\n"))
        update = person.get_update(before)
        assert shared_project.patch("/files/a.md", content=update, headers=_OCTETS).json()["changed"]
    final = _text(shared_project)
    assert final.startswith("top" + typed + "\n")
    assert sorted(re.findall(r"agent (\d+)", final), key=int) == [str(number) for number in range(30)]


@given(PIECES, st.text(max_size=24))
def test_embeds_stay_in_order_whatever_text_is_put_around_them(pieces: list[object], new: str) -> None:
    document: pycrdt.Doc[object] = pycrdt.Doc()
    text = document.get("content", type=pycrdt.Text)
    embeds = []
    for piece in pieces:
        if isinstance(piece, str):
            text.insert(len(text), piece)
        else:
            embeds.append({"image": str(len(embeds))})
            text.insert_embed(len(text), embeds[-1])
    apply_edits(text, smallest_edits(str(text), new))
    assert str(text) == new
    assert [content for content, _ in text.diff() if not isinstance(content, str)] == embeds


def test_what_people_type_while_agents_put_at_the_same_time_is_never_lost(shared_project: httpx.Client) -> None:
    _put(shared_project, "people:\r\n\r\nagents:\r\n")
    people = [_replica(shared_project) for _ in range(3)]

    def type_on(person: int) -> None:
        document = people[person]
        text = document.get("content", type=pycrdt.Text)
        with httpx.Client(base_url=shared_project.base_url, timeout=120) as client:
            for number in range(15):
                before = document.get_state()
                text.insert(len("people:"), f"[{person}.{number} 👩‍👩‍👧‍👦]")
                update = document.get_update(before)
                client.patch("/files/a.md", content=update, headers=_OCTETS).raise_for_status()

    def put(agent: int) -> None:
        with httpx.Client(base_url=shared_project.base_url, timeout=120) as client:
            for number in range(10):
                while True:
                    present = client.get("/files/a.md?format=text")
                    text = present.text.replace("agents:", f"agents: ({agent}.{number})", 1)
                    answer = _put(client, text, If_Match=present.headers["ETag"])
                    if answer.status_code != 412:
                        break
                answer.raise_for_status()

    with ThreadPoolExecutor(5) as pool:
        for done in [
            *(pool.submit(type_on, person) for person in range(3)),
            *(pool.submit(put, agent) for agent in (0, 1)),
        ]:
            done.result()
    final = _text(shared_project)
    expected = {f"[{person}.{number} 👩‍👩‍👧‍👦]" for person in range(3) for number in range(15)}
    expected |= {f"({agent}.{number})" for agent in (0, 1) for number in range(10)}
    assert {piece for piece in expected if final.count(piece) != 1} == set()
