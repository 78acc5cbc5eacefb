"""The extra is imported at the first request, and without it the gateway says what to install."""

import subprocess
import sys

_NOT_IMPORTED = """
import sys
import gateway.app
print(sorted({name.partition(".")[0] for name in sys.modules} & {"strawberry", "graphql"}))
"""
_MISSING = """
import asyncio, sys
sys.modules["strawberry"] = None
from gateway.graphql.door import GraphQLDoor
from gateway.wire.problems import NotInstalled

async def ask(kind):
    sent = []
    async def receive():
        return {"type": "websocket.connect"}
    async def send(message):
        sent.append(message)
    try:
        await GraphQLDoor(None)({"type": kind}, receive, send)
    except NotInstalled as problem:
        return problem.detail
    return sent

print(asyncio.run(ask("http")))
print(asyncio.run(ask("websocket")))
"""


def _run(code: str) -> list[str]:
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_a_gateway_that_nobody_asks_imports_nothing_of_it() -> None:
    assert _run(_NOT_IMPORTED) == ["[]"]


def test_without_the_extra_the_answer_says_what_to_install() -> None:
    http, websocket = _run(_MISSING)
    assert "yjs-gateway[graphql]" in http
    assert websocket == "[{'type': 'websocket.close', 'code': 1011}]"
