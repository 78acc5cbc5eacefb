"""kill -9 in the middle of a turn: of the gateway, of the command that feeds it, of both."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.agent_stream import SUCCESS, assistant, line, text
from tests.support.pipe import PipeProcess
from tests.support.server import GatewayProcess

NDJSON = {"Content-Type": "application/x-ndjson"}
LINES = [line(assistant(text(f"блок {number} {'·' * (number % 50)}"))) for number in range(3000)]
STREAM = b"".join(LINES) + line(SUCCESS)
KILLS = 3


@pytest.fixture
def short_lease(tmp_path: Path) -> Iterator[GatewayProcess]:
    """Its lease is short from its second start on: until then a turn may take as long as the test does."""
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_TURN_LEASE=3600) as process:
        process.settings["GATEWAY_TURN_LEASE"] = "0.5"
        yield process


def new_turn(api: httpx.Client) -> str:
    session = f"/sessions/{api.post('/sessions', json={}).json()['id']}"
    return f"{session}/turns/{api.post(f'{session}/turns', json={'prompt': ''}).json()['id']}"


def texts(api: httpx.Client, turn: str) -> list[Any]:
    return [block["content"] for block in api.get(turn).json()["blocks"]]


def wait_until(api: httpx.Client, turn: str, *, blocks: int = 0, finished: bool = False) -> dict[str, Any]:
    headers: dict[str, str] = {}
    while True:
        answer = api.get(f"{turn}/status", params={"wait": 50}, headers=headers)
        if answer.status_code == 200:
            headers = {"If-None-Match": answer.headers["ETag"]}
            state: dict[str, Any] = answer.json()
            if state["block_count"] >= blocks and (not finished or state["status"] in ("completed", "failed")):
                return state


EXPECTED: list[Any] = [f"блок {number} {'·' * (number % 50)}" for number in range(3000)] + [SUCCESS]


def test_the_gateway_killed_in_the_middle_of_a_pipe_loses_and_repeats_nothing(gateway: GatewayProcess) -> None:
    with PipeProcess(gateway.url, "demo") as pipe:
        turn, _ = pipe.created()
        passed: list[bytes] = []
        reader = threading.Thread(target=lambda: passed.append(pipe.read(len(STREAM))))
        reader.start()
        for round_ in range(KILLS):
            end = len(LINES) * (round_ + 1) // KILLS
            pipe.write(b"".join(LINES[len(LINES) * round_ // KILLS : end]))
            with gateway.client() as api:
                wait_until(api, turn, blocks=end - len(LINES) // KILLS // 2)
            gateway.kill()
            gateway.start()
        pipe.write(line(SUCCESS))
        assert pipe.end() == 0
        reader.join()
    assert passed == [STREAM]
    with gateway.client() as api:
        assert texts(api, turn) == EXPECTED
        assert api.get(turn).json()["status"] == "completed"


def test_what_a_writer_was_told_is_stored_is_there_after_a_kill(gateway: GatewayProcess) -> None:
    with gateway.client() as api:
        turn = new_turn(api)
        sent = told = 0
        for round_ in range(KILLS):
            goal = len(STREAM) * (round_ + 1) // (KILLS + 1)
            while sent < goal:
                answer = api.post(
                    f"{turn}/output", params={"offset": sent}, content=STREAM[sent : sent + 4000], headers=NDJSON
                ).json()
                sent, told = answer["offset"], answer["block_count"]
            killer = threading.Timer(0.01, gateway.kill)
            killer.start()
            most = goal + len(STREAM) // (KILLS + 2)  # the kill may come late, and the stream is not to end
            try:
                while True:
                    part = STREAM[sent : min(sent + 4000, most)]
                    answer = api.post(f"{turn}/output", params={"offset": sent}, content=part, headers=NDJSON).json()
                    sent, told = answer["offset"], answer["block_count"]
            except httpx.TransportError:
                killer.join()
            gateway.start()
            stored = texts(api, turn)
            assert len(stored) >= told
            assert stored == EXPECTED[: len(stored)]
        answer = api.post(
            f"{turn}/output", params={"offset": sent, "final": "true"}, content=STREAM[sent:], headers=NDJSON
        ).json()
        assert answer["status"] == "completed"
        assert texts(api, turn) == EXPECTED


def test_batches_of_blocks_survive_a_kill_and_their_retry_repeats_nothing(gateway: GatewayProcess) -> None:
    with gateway.client() as api:
        turn = new_turn(api)
        for number in range(200):
            batch = {"blocks": [{"type": "text", "content": [number, part]} for part in range(2)]}
            batch["first_index"] = number * 2  # type: ignore[assignment]
            if number % 67 == 40:
                killer = threading.Timer(0.0, gateway.kill)
                killer.start()
                with contextlib.suppress(httpx.TransportError):
                    api.post(f"{turn}/blocks", json=batch)
                killer.join()
                gateway.start()
            assert api.post(f"{turn}/blocks", json=batch).status_code == 200
        assert texts(api, turn) == [[number, part] for number in range(200) for part in range(2)]


def test_a_pipe_killed_in_the_middle_leaves_a_turn_that_fails_by_its_lease(short_lease: GatewayProcess) -> None:
    with short_lease.client() as api:
        with PipeProcess(short_lease.url, "demo") as pipe:
            turn, _ = pipe.created()
            pipe.write(b"".join(LINES[:50]) + LINES[50][:20])
            wait_until(api, turn, blocks=50)
            pipe.process.kill()
            pipe.process.wait()
        short_lease.stop()
        short_lease.start()
        state = wait_until(api, turn, finished=True)
        assert (state["status"], state["block_count"]) == ("failed", 50)
        assert api.get(turn).json()["error"] == "lease expired"
        assert texts(api, turn) == EXPECTED[:50]


def test_gateway_and_pipe_killed_together_leave_a_turn_that_fails_once(short_lease: GatewayProcess) -> None:
    with short_lease.client() as api:
        with PipeProcess(short_lease.url, "demo") as pipe:
            turn, _ = pipe.created()
            pipe.write(b"".join(LINES[:50]))
            wait_until(api, turn, blocks=50)
            pipe.process.kill()
            short_lease.kill()
            pipe.process.wait()
        short_lease.start()
        state = wait_until(api, turn, finished=True)
        assert (state["status"], state["block_count"]) == ("failed", 50)
        assert texts(api, turn) == EXPECTED[:50]
        tag = api.get(turn).headers["ETag"]
        short_lease.kill()
        short_lease.start()
        running = new_turn(api)
        api.patch(running, json={"status": "running"})
        wait_until(api, running, finished=True)  # one lease later, nothing has ended a second time
        assert api.get(turn).headers["ETag"] == tag


def test_a_running_turn_of_a_gateway_that_was_away_has_a_whole_lease_from_its_start(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway.db", GATEWAY_TURN_LEASE=60) as gateway, gateway.client() as api:
        turn = new_turn(api)
        api.patch(turn, json={"status": "running"})
        gateway.kill()
        gateway.start()
        answer = api.post(f"{turn}/output", content=LINES[0], headers=NDJSON)
        assert answer.json()["status"] == "running"


def test_a_block_that_grows_survives_kills_and_grows_on(gateway: GatewayProcess) -> None:
    """Killed while deltas stream in; the sender goes on from the offset that it is told."""
    words = [f"слово {number} " for number in range(600)]
    stream = b"".join(
        line({"type": "stream_event", "event": event})
        for event in (
            {"type": "message_start"},
            *(
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
                for word in words
            ),
        )
    )
    whole = "".join(words)
    end = line(assistant(text(whole))) + line(SUCCESS)
    with gateway.client() as api:
        turn = new_turn(api)
    for round_ in range(1, KILLS + 1):
        with gateway.client() as api:
            told = api.post(f"{turn}/output", headers=NDJSON, params={"final": "false"}).json()["offset"]
            stop = len(stream) * round_ // (KILLS + 1)
            stored = threading.Event()

            def pieces(start: int = told, stop: int = stop, stored: threading.Event = stored) -> Iterator[bytes]:
                yield from (stream[place : min(place + 1000, stop)] for place in range(start, stop, 1000))
                stored.wait()  # the request stays open until the gateway is killed

            def send(start: int = told, pieces: Any = pieces) -> None:
                asked: dict[str, str | int] = {"final": "false", "offset": start}
                with gateway.client() as client, contextlib.suppress(httpx.HTTPError):
                    client.post(f"{turn}/output", headers=NDJSON, params=asked, content=pieces())

            sender = threading.Thread(target=send)
            sender.start()
            last = stream[:stop].count(b"\n") - 1  # deltas in whole lines
            headers: dict[str, str] = {}
            while True:
                answer = api.get(f"{turn}/status", params={"wait": 50}, headers=headers)
                headers = {"If-None-Match": answer.headers["ETag"]}
                if (known := texts(api, turn)) and known[0] == "".join(words[:last]):
                    break
        gateway.kill()
        stored.set()
        sender.join()
        gateway.start()
        with gateway.client() as api:
            assert texts(api, turn) == ["".join(words[:last])]
    with gateway.client() as api:
        told = api.post(f"{turn}/output", headers=NDJSON, params={"final": "false"}).json()["offset"]
        rest = (stream + end)[told:]
        api.post(f"{turn}/output", headers=NDJSON, params={"final": "true", "offset": told}, content=rest)
        state = api.get(turn).json()
        assert state["status"] == "completed"
        assert [block["content"] for block in state["blocks"]] == [whole, SUCCESS]
