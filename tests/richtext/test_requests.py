"""Rich text over HTTP: read as Markdown and HTML, written as Markdown, merged with what others do."""

import httpx
import pycrdt
import pytest

from tests.richtext.documents import Replica, document_of, element, p, t

_MARKDOWN = {"Content-Type": "text/markdown; charset=utf-8"}
_FILE = "/files/page"


def _append(project: httpx.Client, update: bytes) -> None:
    project.patch(_FILE, content=update, headers={"Content-Type": "application/octet-stream"}).raise_for_status()


def _put(project: httpx.Client, markdown: str, **params: str | int) -> httpx.Response:
    return project.put(_FILE, content=markdown.encode(), headers=_MARKDOWN, params=params)


def _markdown(project: httpx.Client) -> str:
    return project.get(f"{_FILE}?format=markdown").raise_for_status().text


def _edit(project: httpx.Client, old: str, new: str, **fields: object) -> httpx.Response:
    return project.post("/edits/page", json={"format": "markdown", "edits": [{"old": old, "new": new}], **fields})


def test_a_document_is_read_as_markdown_and_as_html(shared_project: httpx.Client) -> None:
    link = {"type": "link", "attrs": {"href": "javascript:alert(1)"}}
    _append(shared_project, document_of([p("a ", t("b<c", "bold"), t("x", link)), element("youtube", p("film"))]))
    read = shared_project.get(f"{_FILE}?format=markdown")
    assert read.headers["content-type"] == "text/markdown; charset=utf-8"
    assert read.text == "a **b\\<c**[x](<javascript:alert(1)>)\n\n<!-- youtube #1.12 -->\n"
    accepted = shared_project.get(_FILE, headers={"Accept": "text/markdown"})
    assert (accepted.text, accepted.headers["etag"]) == (read.text, read.headers["etag"])
    assert (
        shared_project.get(f"{_FILE}?format=markdown", headers={"If-None-Match": read.headers["etag"]}).status_code
        == 304
    )
    html = shared_project.get(f"{_FILE}?format=html")
    assert html.text == (
        '<p>a <strong>b&lt;c</strong>x</p>\n<div data-type="youtube"><div data-type="paragraph">film</div></div>\n'
    )
    assert html.headers["content-type"] == "text/html; charset=utf-8"
    assert "sandbox" in html.headers["content-security-policy"]
    assert len({read.headers["etag"], html.headers["etag"], shared_project.head(_FILE).headers["etag"]}) == 3


def test_a_past_version_is_read_as_markdown(shared_project: httpx.Client) -> None:
    _put(shared_project, "one\n")
    _put(shared_project, "two\n")
    assert shared_project.get(f"{_FILE}?format=markdown&at_version=1").text == "one\n"


def test_markdown_makes_a_document_of_the_schema_that_is_asked_for(shared_project: httpx.Client) -> None:
    text = "- a **b**\n"
    assert _put(shared_project, text, schema="prosemirror").status_code == 201
    assert "<bullet_list>" in str(shared_project.get(f"{_FILE}?format=json").json()["prosemirror"])
    assert _markdown(shared_project) == text
    again = _put(shared_project, text)
    assert (again.status_code, again.json()["changed"]) == (200, False)
    other = _put(shared_project, text, schema="tiptap")
    assert (other.status_code, other.json()["code"]) == (400, "invalid_parameter")
    assert _put(shared_project, text, schema="word").status_code == 400


def test_a_base_keeps_what_others_wrote_and_a_repetition_adds_nothing(shared_project: httpx.Client) -> None:
    _put(shared_project, "# Plan\n\nBuy mlk.\n")
    person = pycrdt.Doc[object]()
    person.apply_update(shared_project.get(_FILE).content)
    children = person.get("default", type=pycrdt.XmlFragment).children
    children[1].children[0].insert(0, "Today: ")
    _append(shared_project, person.get_update())
    wanted = "# Plan\n\nBuy **milk**.\n\n## More\n\n- bread\n"
    written = _put(shared_project, wanted, base_version=1)
    assert (written.status_code, written.json()["version"], written.json()["merged"]) == (200, 3, True)
    assert _markdown(shared_project) == "# Plan\n\nToday: Buy **milk**.\n\n## More\n\n- bread\n"
    for _ in range(2):
        assert _put(shared_project, wanted, base_version=1).json()["changed"] is False
    edited = _edit(shared_project, "Plan", "Plans", base_version=1)
    assert edited.json()["version"] == 4
    assert _edit(shared_project, "Plan", "Plans", base_version=1).json()["changed"] is False
    assert _markdown(shared_project).startswith("# Plans\n\nToday")


def test_a_repetition_of_a_write_that_was_not_merged_adds_nothing(shared_project: httpx.Client) -> None:
    _put(shared_project, "one\n")
    assert _put(shared_project, "two **2**\n", base_version=1).json()["version"] == 2
    assert _put(shared_project, "two **2**\n", base_version=1).json()["changed"] is False


def test_parts_of_the_markdown_are_replaced(shared_project: httpx.Client) -> None:
    assert _edit(shared_project, "a", "b").status_code == 404
    _put(shared_project, "one two two\n")
    assert _edit(shared_project, "two", "x").json()["code"] == "edit_not_applicable"
    answer = shared_project.post(
        "/edits/page",
        json={"format": "markdown", "edits": [{"start": 0, "end": 3, "text": "**1**"}]},
        headers={"Prefer": "return=representation"},
    )
    assert (answer.text, answer.headers["content-type"]) == ("**1** two two\n", "text/markdown; charset=utf-8")


def test_what_markdown_cannot_hold_is_not_edited(shared_project: httpx.Client) -> None:
    _append(shared_project, document_of([p("a"), element("youtube", src="x")]))
    refused = _edit(shared_project, "youtube", "vimeo")
    assert (refused.status_code, refused.json()["code"]) == (409, "unsupported_schema")
    assert shared_project.head(_FILE).headers["x-version"] == "1"


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_a_text_is_no_rich_text(shared_project: httpx.Client, form: str) -> None:
    shared_project.put(_FILE, content=b"# plain", headers={"Content-Type": "text/plain"}).raise_for_status()
    refused = shared_project.get(f"{_FILE}?format={form}")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_a_text")
    assert refused.json()["roots"] == {"content": "text"}
    assert _put(shared_project, "x\n").json()["code"] == "not_a_text"
    assert _put(shared_project, "x\n", root="content").json()["code"] == "not_a_text"
    assert shared_project.get(f"{_FILE}?format=text").text == "# plain"


def test_one_of_several_roots_is_named(shared_project: httpx.Client) -> None:
    _append(shared_project, document_of([p("a")], "one"))
    _append(shared_project, document_of([p("b")], "two", client=2))
    assert shared_project.get(f"{_FILE}?format=markdown").json()["roots"] == {"one": "xml", "two": "xml"}
    assert _put(shared_project, "B\n", root="two").status_code == 200
    assert shared_project.get(f"{_FILE}?format=markdown&root=two").text == "B\n"
    assert shared_project.get(f"{_FILE}?format=markdown&root=one").text == "a\n"


def test_a_parameter_of_markdown_is_refused_with_a_text(shared_project: httpx.Client) -> None:
    refused = shared_project.put(f"{_FILE}?schema=tiptap", content=b"x", headers={"Content-Type": "text/plain"})
    assert refused.json()["code"] == "invalid_parameter"


def test_markdown_that_is_too_long_is_refused(shared_project: httpx.Client) -> None:
    refused = _put(shared_project, "a" * (2**20 + 1))
    assert (refused.status_code, refused.json()["code"]) == (400, "too_complex")


def test_a_replica_of_yjs_agrees(shared_project: httpx.Client) -> None:
    _put(shared_project, "# a\n\n- b\n- [ ] c\n")
    replica = Replica(shared_project.get(_FILE).content)
    assert replica.markdown == _markdown(shared_project)
