"""The description of the API is made once, beside the event loop."""

import asyncio
import threading
from typing import Any

import httpx

from gateway.api.routes.system import SystemRoutes


def test_the_description_is_made_in_another_thread() -> None:
    threads = list[int]()

    def made() -> bytes:
        threads.append(threading.get_ident())
        return b"{}"

    unused: Any = None
    routes = SystemRoutes(unused, unused, (), unused, made)
    response = asyncio.run(routes.openapi(unused))
    assert response.body == b"{}"
    assert threading.get_ident() not in threads


def test_the_description_stays_the_same(shared_gateway: Any) -> None:
    first, second = (httpx.get(f"{shared_gateway.url}/openapi.json") for _ in range(2))
    assert first.content == second.content
    assert first.json()["info"]["title"] == "yjs-gateway"
