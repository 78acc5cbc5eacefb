"""What a grant lets somebody do, and what of a project exists for it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.grants import EVERYTHING, InvalidGrant, Paths, grant_json, parse_grant, parse_scopes

_PATHS = st.text("ab/.", min_size=1, max_size=6)


def test_scopes_imply_those_below_them_and_turns_stand_beside() -> None:
    assert parse_scopes("read") == {"read"}
    assert parse_scopes("write") == {"read", "write"}
    assert parse_scopes("admin") == {"read", "write", "admin", "turns"}
    assert parse_scopes("turns") == {"turns"}
    assert parse_scopes("read turns") == {"read", "turns"}


def test_a_project_that_is_not_named_does_not_exist() -> None:
    grant = parse_grant({"projects": {"demo": "write", "shop-*": "read"}})
    assert grant.view("other") is None
    assert grant.view("demo-2") is None
    assert grant.view("shop") is None
    view = grant.view("shop-1")
    assert view is not None
    assert view.may("read")
    assert not view.may("write")


def test_the_name_of_a_project_beats_patterns_and_the_longest_pattern_the_others() -> None:
    grant = parse_grant({"projects": {"*": "read", "shop-*": "write", "shop-1": "turns"}})
    scopes = {name: view.scopes for name in ("x", "shop-2", "shop-1") if (view := grant.view(name)) is not None}
    assert scopes == {"x": {"read"}, "shop-2": {"read", "write"}, "shop-1": {"turns"}}


def test_admin_sees_all() -> None:
    assert parse_grant({"admin": True}).view("any") is EVERYTHING


def test_a_folder_holds_what_is_below_it_and_a_file_is_one_file() -> None:
    paths = Paths.of(["docs/", "README.md", "docs/deep/", "docs/a.md"])
    assert paths == Paths(("docs/",), ("README.md",))
    assert [path in paths for path in ("docs/a", "docs/deep/b", "README.md")] == [True] * 3
    assert [path in paths for path in ("docs", "docs-private/a", "README.md.bak", "README.md/x", "a/docs/b")] == [
        False
    ] * 5


@given(st.lists(_PATHS, max_size=5), _PATHS, st.text("ab/.", max_size=3))
def test_the_places_to_look_in_hold_every_path_once_and_in_order(names: list[str], path: str, prefix: str) -> None:
    paths = Paths.of(names)
    found = [place for place, single in paths.within(prefix) if (path == place if single else path.startswith(place))]
    assert len(found) == (path in paths and path.startswith(prefix))
    places = [place for place, _ in paths.within(prefix)]
    assert places == sorted(places)
    assert not any(
        later.startswith(place)
        for place, single in paths.within(prefix)
        if not single
        for later in places
        if later != place
    )


def test_who_sees_some_paths_sees_no_turns_unless_they_are_named() -> None:
    grant = parse_grant(
        {
            "projects": {
                "all": "write",
                "some": {"scope": "write", "paths": ["docs/"]},
                "both": {"scope": "write turns", "paths": ["docs/"]},
                "turns": "turns",
                "read": "read",
            }
        }
    )
    views = {name: grant.view(name) for name in grant.projects}
    assert {name for name, view in views.items() if view is not None and view.sees_turns} == {
        "all",
        "both",
        "turns",
        "read",
    }
    assert {name for name, view in views.items() if view is not None and view.writes_turns} == {"all", "both", "turns"}
    assert views["turns"] is not None
    assert not views["turns"].sees("docs/a.md")


@pytest.mark.parametrize(
    "claim",
    [
        [],
        "admin",
        {"admin": "yes"},
        {"projects": {"demo": "all"}},
        {"projects": {"demo": ""}},
        {"projects": {"demo": "read  write"}},
        {"projects": {"": "read"}},
        {"projects": {"a*b": "read"}},
        {"projects": {"demo": {"scope": "read", "path": ["docs/"]}}},
        {"projects": {"demo": {"scope": "read", "paths": []}}},
        {"projects": {"demo": {"scope": "read", "paths": [""]}}},
        {"projects": {"demo": {"scope": "read", "paths": ["/docs/"]}}},
        {"projects": {"demo": {"paths": ["docs/"]}}},
        {"project": {"demo": "read"}},
        {"projects": {str(number): "read" for number in range(1001)}},
    ],
    ids=str,
)
def test_what_is_not_understood_grants_nothing(claim: Any) -> None:
    with pytest.raises(InvalidGrant):
        parse_grant(claim)


@pytest.mark.parametrize(
    "claim",
    [
        {"projects": {}, "admin": True},
        {
            "projects": {"demo": "write", "shop-*": {"scope": "read turns", "paths": ["docs/", "README.md"]}},
            "admin": False,
        },
    ],
)
def test_a_grant_is_written_as_it_is_read(claim: Any) -> None:
    assert grant_json(parse_grant(claim)) == claim
