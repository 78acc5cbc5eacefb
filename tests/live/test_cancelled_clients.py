"""Clients that are cancelled, all at once, in whatever they do: the gateway holds nothing of them afterwards."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from gateway.yjs.messages import sync_step_1, sync_update
from tests.live.clients import EVENTS, put, wait_for_figure
from tests.live.editors import WEBSOCKET, Typewriter
from tests.support.server import PATIENCE_S, GatewayProcess

_OF_EACH = 40
_Client = Callable[[GatewayProcess, httpx.AsyncClient], Coroutine[Any, Any, None]]


async def _poll(gateway: GatewayProcess, client: httpx.AsyncClient) -> None:
    cursor = (await client.get("/files")).json()["cursor"]
    while True:
        cursor = (await client.get("/changes", params={"since": cursor, "wait": 60})).json()["cursor"]


async def _ask_status(gateway: GatewayProcess, client: httpx.AsyncClient) -> None:
    cursor = (await client.get("/files")).json()["cursor"]
    while True:
        question = {"since": cursor, "wait": 60, "paths": ["none.md"]}
        cursor = (await client.post("/files/status", json=question)).json()["cursor"]


async def _stream(gateway: GatewayProcess, client: httpx.AsyncClient) -> None:
    async with client.stream("GET", "/changes", headers=EVENTS) as response:
        async for _ in response.aiter_lines():
            pass


async def _listen(gateway: GatewayProcess, client: httpx.AsyncClient) -> None:
    async with connect(f"{gateway.project().replace('http', 'ws', 1)}/ws/a.md", **WEBSOCKET) as room:
        await room.send(sync_step_1(b"\0"))
        async for _ in room:
            pass


async def _type(gateway: GatewayProcess, client: httpx.AsyncClient) -> None:
    typewriter = Typewriter()
    async with connect(f"{gateway.project().replace('http', 'ws', 1)}/ws/a.md", **WEBSOCKET) as room:
        while True:  # each keystroke is waited for: it, or what another one typed
            await room.send(sync_update(typewriter.type("x")))
            await room.recv()


_IN_A_ROOM = (_listen, _type)
_WAITING = (_poll, _ask_status, _stream)


@pytest.mark.parametrize("shared", [False, True], ids=["a pool each", "one pool"])
def test_two_hundred_clients_that_are_cancelled_at_once_are_forgotten(gateway: GatewayProcess, shared: bool) -> None:
    with gateway.client() as project:
        put(project, "a.md", "text")
    asyncio.run(_come_and_be_cancelled(gateway, shared=shared))
    wait_for_figure(gateway, "gateway_waiters", 0)
    wait_for_figure(gateway, "gateway_room_connections", 0)
    wait_for_figure(gateway, "gateway_rooms", 0)
    wait_for_figure(gateway, "gateway_connections", 1)  # that of the question itself


async def _come_and_be_cancelled(gateway: GatewayProcess, *, shared: bool) -> None:
    wait = partial(asyncio.to_thread, wait_for_figure, gateway)
    async with contextlib.AsyncExitStack() as stack:
        pools = [
            await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=gateway.project(),
                    timeout=PATIENCE_S,
                    verify=False,
                    limits=httpx.Limits(max_connections=None),
                )
            )
            for _ in range(1 if shared else _OF_EACH)
        ]
        tasks = [
            asyncio.create_task(do(gateway, pools[number % len(pools)]))
            for number in range(_OF_EACH)
            for do in (*_WAITING, *_IN_A_ROOM)
        ]
        await wait("gateway_room_connections", len(_IN_A_ROOM) * _OF_EACH)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended
        await wait("gateway_waiters", 0)  # while the pools keep what connections they like
        await wait("gateway_room_connections", 0)
