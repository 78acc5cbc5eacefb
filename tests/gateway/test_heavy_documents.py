"""Documents so large that the work on them goes to a worker process."""

import base64
from concurrent.futures import ThreadPoolExecutor

import pycrdt

from tests.live.clients import wait_for_figure
from tests.support.server import GatewayProcess

_OCTETS = {"Content-Type": "application/octet-stream"}


def test_a_document_of_more_than_a_megabyte_that_is_not_open_is_diffed_and_written(gateway: GatewayProcess) -> None:
    document = pycrdt.Doc[object]()
    text = document.get("content", type=pycrdt.Text)
    text += "words and words " * 75_000
    behind = document.get_state()
    first = document.get_update()
    text += "and some more"
    second = document.get_update(behind)
    with gateway.client() as project:
        for update in (first, second):
            project.patch("/files/large.md", content=update, headers=_OCTETS).raise_for_status()
    gateway.stop()
    gateway.start()

    with gateway.client() as project:
        vector = base64.urlsafe_b64encode(behind).decode().rstrip("=")
        difference = project.get("/files/large.md", params={"state_vector": vector})
        assert difference.status_code == 200, difference.text
        assert difference.content == second

        seen = document.get_state()
        text += ", the last"
        written = project.patch("/files/large.md", content=document.get_update(seen), headers=_OCTETS)
        assert written.status_code == 200, written.text
        assert project.get("/files/large.md", params={"format": "text"}).text == str(text)


def test_who_waited_for_a_large_document_is_answered_and_everybody_else_too(gateway: GatewayProcess) -> None:
    """What is sent to whoever waited is made in a worker process, which listens whether the client leaves."""
    document = pycrdt.Doc[object]()
    text = document.get("content", type=pycrdt.Text)
    text += "words and words " * 75_000
    with gateway.client() as project, ThreadPoolExecutor() as clients:
        project.patch("/files/large.md", content=document.get_update(), headers=_OCTETS).raise_for_status()
        waiting = clients.submit(
            project.get, "/files/large.md", params={"format": "text", "from_version": 1, "wait": 55}
        )
        wait_for_figure(gateway, "gateway_waiters", 1)
        text += "and some more"
        project.patch("/files/large.md", content=document.get_update(), headers=_OCTETS).raise_for_status()
        assert project.get("/files").status_code == 200
        assert waiting.result().text == str(text)
