"""Conditional requests (RFC 9110 §13), as clients behind caches and proxies make them."""

from email.utils import formatdate, parsedate_to_datetime

import httpx
import pytest

from gateway.wire.tags import EntityTags
from tests.live.clients import event_stream

_PLAIN = {"Content-Type": "text/plain"}
_FORMS: tuple[dict[str, dict[str, str]], ...] = (
    {"headers": {"Accept": "*/*"}},
    {"headers": {"Accept": "text/plain"}},
    {"params": {"format": "json"}},
)
_MARKS = ("-gzip", "--gzip", ";gzip", "-br", "-zstd", "-df", "+gzip", "-gzip-br")


def _put(project: httpx.Client, text: str, **headers: str) -> httpx.Response:
    return project.put("/files/a", content=text, headers={**_PLAIN, **headers})


def _marked(tag: str) -> list[str]:
    """A tag in the spellings that proxies make of it."""
    bare = tag.removeprefix("W/").strip('"')
    inside = [f'"{bare}{mark}"' for mark in _MARKS]
    return [
        *inside,
        *(f"W/{form}" for form in inside),
        f'"{bare}"-gzip',
        f'w/"{bare}"',
        bare,
        f'"x", ,"{bare};br"',
        f',"{bare}",',
    ]


# A tag for each representation


def test_each_form_of_a_version_has_a_tag_of_its_own(shared_project: httpx.Client) -> None:
    _put(shared_project, "one")
    answers = [shared_project.get("/files/a", **form) for form in _FORMS]
    version = answers[0].headers["X-Incarnation"] + ".1"
    assert [answer.headers["ETag"] for answer in answers] == [f'"{version}"', f'"{version}.t"', f'"{version}.j"']
    assert len({answer.content for answer in answers}) == 3


@pytest.mark.parametrize("repeated", [1, 2])
def test_only_the_tag_of_what_would_be_sent_is_unchanged(shared_project: httpx.Client, repeated: int) -> None:
    """Asked twice: the second answer may come from memory."""
    _put(shared_project, "one")
    whole = [shared_project.get("/files/a", **form) for form in _FORMS]
    for _ in range(repeated):
        for asked, form in enumerate(_FORMS):
            for known, other in enumerate(whole):
                headers = {**form.get("headers", {}), "If-None-Match": other.headers["ETag"]}
                answer = shared_project.get("/files/a", params=form.get("params"), headers=headers)
                assert answer.status_code == (304 if asked == known else 200), (asked, known)
                assert answer.headers["ETag"] == whole[asked].headers["ETag"]
                assert "Accept" in answer.headers["Vary"].split(", ")
                assert answer.content == (b"" if asked == known else whole[asked].content)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (["text/plain", "application/octet-stream"], 0),
        (["application/octet-stream;q=0.1", "text/*"], 1),
        (["text/plain;q=0.2, */*"], 0),
        (["TEXT/Plain"], 1),
    ],
)
def test_several_lines_of_accept_are_one_list(shared_project: httpx.Client, accept: list[str], form: int) -> None:
    _put(shared_project, "one")
    octets, text = (shared_project.get("/files/a", **known).headers["ETag"] for known in _FORMS[:2])
    lines = [("Accept", line) for line in accept]
    with httpx.Client(base_url=shared_project.base_url, verify=False) as bare:
        bare.headers.pop("Accept")
        for _ in range(2):
            assert bare.get("/files/a", headers=lines).headers["ETag"] == (octets, text)[form]
            for known, tag in enumerate((octets, text)):
                answer = bare.get("/files/a", headers=[*lines, ("If-None-Match", tag)])
                assert answer.status_code == (304 if known == form else 200)


def test_a_write_takes_the_tag_of_every_form(shared_project: httpx.Client) -> None:
    _put(shared_project, "0")
    for number, form in enumerate(_FORMS, 1):
        tag = shared_project.get("/files/a", **form).headers["ETag"]
        assert _put(shared_project, f"{number}", **{"If-Match": tag}).status_code == 200
        assert _put(shared_project, "lost", **{"If-Match": tag}).status_code == 412
        assert (
            _put(
                shared_project, "lost", **{"If-None-Match": shared_project.get("/files/a", **form).headers["ETag"]}
            ).status_code
            == 412
        )
    assert shared_project.get("/files/a?format=text").text == "3"


def test_an_old_version_is_known_by_the_tag_of_its_form(shared_project: httpx.Client) -> None:
    for text in ("one", "two"):
        _put(shared_project, text)
    for form, other in (("text", "json"), ("json", "update"), ("update", "text")):
        old = {"at_version": 1, "format": form}
        tag = shared_project.get("/files/a", params=old).headers["ETag"]
        assert shared_project.get("/files/a", params=old, headers={"If-None-Match": tag}).status_code == 304
        another = {**old, "format": other}
        assert shared_project.get("/files/a", params=another, headers={"If-None-Match": tag}).status_code == 200


def test_a_form_that_the_client_does_not_have_is_not_waited_for(shared_project: httpx.Client) -> None:
    _put(shared_project, "one")
    octets = shared_project.get("/files/a").headers["ETag"]
    answer = shared_project.get(
        "/files/a", params={"format": "text", "wait": 60}, headers={"If-None-Match": octets}, timeout=50
    )
    assert (answer.status_code, answer.text) == (200, "one")


# Tags on their way


def test_a_tag_that_a_proxy_has_marked_is_recognised_everywhere(shared_project: httpx.Client) -> None:
    _put(shared_project, "one")
    session = shared_project.post("/sessions", json={}).json()["id"]
    turn = shared_project.post(f"/sessions/{session}/turns", json={"prompt": ""}).json()["id"]
    resources = (
        "/files/a",
        "/files/a?format=text",
        "/files/a?format=json",
        "/files/a?at_version=1",
        "/files",
        "/changes",
    )
    for url in (*resources, f"/sessions/{session}/turns/{turn}", f"/sessions/{session}/turns/{turn}/status"):
        for form in _marked(shared_project.get(url).headers["ETag"]):
            answer = shared_project.get(url, headers={"If-None-Match": form})
            assert answer.status_code == 304, (url, form)
    for url in resources[:3]:
        for form in _marked(shared_project.get(url).headers["ETag"]):
            assert _put(shared_project, "one", **{"If-Match": form}).status_code == 200, form
            assert _put(shared_project, "two", **{"If-None-Match": form}).status_code == 412, form


def test_a_tag_of_another_state_stays_another_one_whatever_follows_it(shared_project: httpx.Client) -> None:
    for number in range(12):
        _put(shared_project, f"{number}")
    first = shared_project.get("/files/a?at_version=1").headers["ETag"].strip('"')
    twelfth = shared_project.get("/files/a").headers["ETag"].strip('"')
    for other in (
        first,
        f"{first}-2",
        f"{twelfth}3",
        f"{twelfth}.9",
        f"{twelfth}t",
        f"{twelfth}.tt",
        f"x{twelfth}",
        f"x {twelfth}",
        twelfth[:-1],
    ):
        assert shared_project.get("/files/a", headers={"If-None-Match": f'"{other}"'}).status_code == 200, other
        assert _put(shared_project, "lost", **{"If-Match": f'"{other}"'}).status_code == 412, other


@pytest.mark.parametrize("header", ["abc", ', "x"', '"x",,', ",", "", 'w/"x"', '"x"-gzip', "W/x"])
def test_tags_of_others_match_nothing(shared_project: httpx.Client, header: str) -> None:
    _put(shared_project, "one")
    assert shared_project.get("/files/a", headers={"If-None-Match": header}).status_code == 200
    assert _put(shared_project, "lost", **{"If-Match": header}).status_code == 412
    assert _put(shared_project, "two", **{"If-None-Match": header}).status_code == 200


@pytest.mark.parametrize("header", ["*", "*, *", '*, "x"', '"x", *'])
def test_a_star_means_any_state(shared_project: httpx.Client, header: str) -> None:
    assert _put(shared_project, "one", **{"If-Match": header}).status_code == 412
    assert _put(shared_project, "one", **{"If-None-Match": header}).status_code == 201
    assert _put(shared_project, "lost", **{"If-None-Match": header}).status_code == 412
    assert _put(shared_project, "two", **{"If-Match": header}).status_code == 200


def test_a_long_list_is_read_in_one_pass() -> None:
    tags = EntityTags.parse(",".join(f'W/"6334ead2a3.{number}-gzip"' for number in range(10_000)), "If-Match")
    assert len(tags.tags) == 10_000
    assert EntityTags.parse('"' + "," * 60_000 + '"', "If-Match").tags == frozenset()


# Dates


def test_a_date_guards_a_write_where_no_tag_does(shared_project: httpx.Client) -> None:
    modified = _put(shared_project, "one").headers["Last-Modified"]
    seconds = parsedate_to_datetime(modified).timestamp()
    before, after = formatdate(seconds - 1, usegmt=True), formatdate(seconds + 1, usegmt=True)
    stale, fresh = {"If-Unmodified-Since": before}, {"If-Unmodified-Since": after}
    tag = shared_project.get("/files/a").headers["ETag"]
    for refused in (stale, {**fresh, "If-Match": '"x.1"'}):
        for answer in (
            _put(shared_project, "lost", **refused),
            shared_project.patch("/files/a", content=b"\0\0", headers=refused),
            shared_project.delete("/files/a", headers=refused),
            shared_project.post("/history/a/restore", json={"version": 1}, headers=refused),
        ):
            assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
            assert answer.headers["ETag"] == tag
    for done in ({"If-Unmodified-Since": modified}, fresh, {**stale, "If-Match": tag}):
        assert _put(shared_project, "one", **done).status_code == 200
    for ignored in ("", "yesterday", "0", "Mon, 99 Jan 2001 00:00:00 GMT", "Mon, 01 Jan 99999 00:00:00 GMT"):
        assert _put(shared_project, "one", **{"If-Unmodified-Since": ignored}).status_code == 200
    assert shared_project.put("/files/new", content="1", headers={**_PLAIN, **stale}).status_code == 201
    assert shared_project.delete("/files/a", headers={"If-Unmodified-Since": modified}).status_code == 204


def test_a_date_spares_a_read_where_no_tag_is_named(shared_project: httpx.Client) -> None:
    modified = _put(shared_project, "one").headers["Last-Modified"]
    seconds = parsedate_to_datetime(modified).timestamp()
    before = formatdate(seconds - 1, usegmt=True)
    for form in _FORMS:

        def read(form: dict[str, dict[str, str]] = form, **conditions: str) -> httpx.Response:
            headers = {**form.get("headers", {}), **conditions}
            return shared_project.get("/files/a", params=form.get("params"), headers=headers)

        tag = read().headers["ETag"]
        unchanged = read(**{"If-Modified-Since": modified})
        assert (unchanged.status_code, unchanged.headers["ETag"]) == (304, tag)
        assert read(**{"If-Modified-Since": before}).status_code == 200
        assert read(**{"If-Modified-Since": "yesterday"}).status_code == 200
        assert read(**{"If-Modified-Since": modified, "If-None-Match": '"x.1"'}).status_code == 200
        assert read(**{"If-Modified-Since": before, "If-None-Match": tag}).status_code == 304


# Streams


@pytest.mark.parametrize("told", ["undefined", "null", "0", "a.b", "deadbeef00.7", "x" * 10_000, "1.1.1.1"])
def test_a_stream_from_no_cursor_starts_over(shared_project: httpx.Client, told: str) -> None:
    """`EventSource` sends what it was given last, and gives up for good on an error."""
    _put(shared_project, "one")
    for stream in (event_stream(shared_project, told), event_stream(shared_project, since=told)):
        with stream as events:
            assert [event.name for event in events.until_ready()] == ["reset", "change"]
