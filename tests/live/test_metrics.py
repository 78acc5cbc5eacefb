"""Figures for operators: problems by code, closes of WebSockets by reason, the times of commits."""

from gateway.rooms.close_codes import FILE_DELETED
from tests.live.clients import figure, put, wait_for_figure
from tests.live.test_rooms import Edit
from tests.support.server import GatewayProcess


def test_problems_are_counted_by_code(gateway: GatewayProcess) -> None:
    with gateway.client() as client:
        put(client, "a.md", "x")
        for _ in range(2):
            assert client.get("/files/b.md").status_code == 404
        assert client.get("/files/a.md", params={"wait": "x"}).status_code == 400
        assert client.get("/files/a.md", headers={"Host": "evil.example"}).status_code == 421
    for code, count in (("file_not_found", 2), ("invalid_parameter", 1), ("host_not_allowed", 1)):
        wait_for_figure(gateway, f'gateway_problems_total{{code="{code}"}}', count)
    assert figure(gateway, "gateway_problems_total") == 4


def test_websockets_are_counted_by_why_they_ended(gateway: GatewayProcess, open_editor: Edit) -> None:
    stays, leaves = open_editor(gateway, "demo", "a.md"), open_editor(gateway, "demo", "a.md")
    stays.synced()
    leaves.synced()
    leaves.leave()
    wait_for_figure(gateway, 'gateway_room_closes_total{reason="client"}', 1)
    with gateway.client() as client:
        put(client, "a.md", "x")
        client.delete("/files/a.md").raise_for_status()
    assert stays.until_ended() == FILE_DELETED
    wait_for_figure(gateway, 'gateway_room_closes_total{reason="file_deleted"}', 1)


def test_commits_and_their_flushes_are_timed(gateway: GatewayProcess) -> None:
    with gateway.client() as client:
        for number in range(3):
            put(client, f"{number}.md", "x")
    commits = figure(gateway, "gateway_commits_total")
    assert figure(gateway, "gateway_commit_seconds_count") == commits == 3
    assert figure(gateway, "gateway_flush_seconds_count") >= commits
    assert figure(gateway, "gateway_commit_seconds_sum") > 0
