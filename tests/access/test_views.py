"""Which answers tell as what they were made: a page shares a stream with those pages alone that see the same."""

import httpx

from tests.access.conftest import Subject, bearer
from tests.support.server import GatewayProcess


def view(subject: httpx.Client) -> str:
    answer = subject.get("/files", params={"limit": 1})
    assert answer.status_code == 200, answer.text
    with subject.stream("GET", "/changes", headers={"Accept": "text/event-stream"}) as stream:
        assert stream.headers["X-View"] == answer.headers["X-View"]
    return answer.headers["X-View"]


def test_a_view_is_that_of_a_subject_its_credential_and_its_grant(guarded: GatewayProcess, name: str) -> None:
    everything, reading = {name: "write"}, {name: "read"}
    some = {name: {"scope": "read", "paths": ["docs/"]}}
    with Subject(guarded, name, bearer("ann", projects=everything)) as ann:
        ann.write("docs/a.md", "one").raise_for_status()
        mine = view(ann)
    others = set()
    for subject, grant in [("bob", everything), ("ann", reading), ("ann", some)]:
        with Subject(guarded, name, bearer(subject, projects=grant)) as other:
            others.add(view(other))
    assert len(others) == 3
    assert mine not in others
    with Subject(guarded, name, bearer("ann", 500, projects=everything)) as renewed:
        assert view(renewed) == mine


def test_each_token_of_the_gateway_has_a_view_of_its_own(guarded: GatewayProcess, name: str) -> None:
    views = set()
    with Subject(guarded, name, bearer("root", admin=True)) as root:
        for _ in range(2):
            asked = {"name": "Ann", "subject": "ann", "projects": {name: "write"}}
            token = root.post(f"{guarded.url}/api/tokens", json=asked).raise_for_status().json()["token"]
            with Subject(guarded, name, token) as ann:
                ann.write("a.md", "one").raise_for_status()
                views.add(view(ann))
    assert len(views) == 2


def test_a_gateway_that_asks_nobody_has_one_view(shared_project: httpx.Client) -> None:
    shared_project.put("/files/a.md", content="one", headers={"Content-Type": "text/plain"}).raise_for_status()
    assert view(shared_project) == "open"
