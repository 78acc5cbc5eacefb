"""`Idempotency-Key`: a repetition is answered as the first time."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.server import GatewayProcess


class Agent:
    """A turn, and the three requests that take a key."""

    def __init__(self, project: httpx.Client) -> None:
        self.project = project
        self.session: str = project.post("/sessions", json={}).json()["id"]
        self.turn: str = project.post(f"/sessions/{self.session}/turns", json={"prompt": ""}).json()["id"]
        turns = f"/sessions/{self.session}/turns"
        blocks = {"blocks": [{"type": "text", "content": "1"}, {"type": "text", "content": 2}]}
        self.requests: list[tuple[str, Any]] = [
            ("/sessions", {"title": "once"}),
            (turns, {"prompt": "once"}),
            (f"{turns}/{self.turn}/blocks", blocks),
        ]

    def send(self, number: int, key: str | None, **members: object) -> httpx.Response:
        path, body = self.requests[number]
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.project.post(path, json={**body, **members}, headers=headers)

    def counts(self) -> tuple[int, int, int]:
        """How many sessions, turns and blocks there are."""
        turns = f"/sessions/{self.session}/turns"
        sessions = self.project.get("/sessions").json()["sessions"]
        blocks = self.project.get(f"{turns}/{self.turn}").json()["block_count"]
        return len(sessions), len(self.project.get(turns).json()["turns"]), blocks


@pytest.fixture
def agent(shared_project: httpx.Client) -> Agent:
    return Agent(shared_project)


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_repetition_is_answered_as_the_first_time(agent: Agent, key: str, number: int) -> None:
    first = agent.send(number, key)
    assert first.is_success
    counts = agent.counts()
    agent.project.patch(agent.requests[1][0] + f"/{agent.turn}", json={"status": "cancelled"})
    if number == 1:
        made = agent.requests[1][0] + f"/{first.json()['id']}"
        agent.project.post(f"{made}/blocks", json={"blocks": [{"type": "text", "content": ""}]})
        agent.project.patch(made, json={"status": "completed"})
    for spelled in (key, f'"{key}"'):
        again = agent.send(number, spelled)
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert agent.counts() == counts
    another = uuid.uuid4().hex
    if number < 2:
        assert agent.send(number, another).json()["id"] != first.json()["id"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_key_of_another_request_is_refused(agent: Agent, key: str, number: int) -> None:
    assert agent.send(number, key).is_success
    counts = agent.counts()
    others = [agent.send(other, key) for other in range(3) if other != number]
    changed = ({"title": "2"}, {"prompt": "2"}, {"first_index": 0})[number]
    for answer in (*others, agent.send(number, key, **changed)):
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert agent.counts() == counts


@pytest.mark.parametrize("number", [0, 1, 2])
def test_of_many_at_once_one_is_done_and_all_are_answered_alike(agent: Agent, key: str, number: int) -> None:
    before = agent.counts()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: agent.send(number, key), range(32)))
    assert {(answer.status_code, answer.content) for answer in answers} == {
        (answers[0].status_code, answers[0].content)
    }
    assert answers[0].is_success
    added = [after - known for after, known in zip(agent.counts(), before, strict=True)]
    assert added == [[1, 0, 0], [0, 1, 0], [0, 0, 2]][number]


def test_a_request_that_was_refused_may_be_sent_again_with_its_key(agent: Agent, key: str) -> None:
    assert agent.send(2, key, first_index=7).status_code == 409
    assert agent.send(2, key).is_success


@pytest.mark.parametrize("bad", ["", '""', "a b", "x" * 256, "ä"])
def test_what_is_no_key_is_refused(agent: Agent, bad: str) -> None:
    before = agent.counts()
    for path, body in agent.requests:
        answer = agent.project.post(path, json=body, headers={b"Idempotency-Key": bad.encode()})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
    assert agent.counts() == before


def test_a_write_that_does_not_know_the_key_is_refused(agent: Agent, key: str) -> None:
    output = agent.requests[1][0] + f"/{agent.turn}/output"
    answer = agent.project.post(output, content=b"{}\n", headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


def test_a_repetition_after_a_crash_is_answered_as_the_first_time(gateway: GatewayProcess, key: str) -> None:
    with gateway.client() as project:
        agent = Agent(project)
        first = [agent.send(number, key + str(number)) for number in range(3)]
        counts = agent.counts()
    gateway.kill()
    gateway.start()
    with gateway.client() as project:
        agent.project = project
        again = [agent.send(number, key + str(number)) for number in range(3)]
        assert [(answer.status_code, answer.content) for answer in again] == [
            (answer.status_code, answer.content) for answer in first
        ]
        assert agent.counts() == counts
