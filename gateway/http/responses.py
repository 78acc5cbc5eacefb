"""Headers that responses have in common; sending a problem as an answer from middleware."""

from starlette.types import Send

from gateway.wire.headers import CACHE_HEADERS, SAFETY_HEADERS
from gateway.wire.problems import Problem

CACHE_CONTROL, VARY = ((name.lower().encode(), value.encode()) for name, value in CACHE_HEADERS.items())
SAFETY = [(name.lower().encode(), value.encode()) for name, value in SAFETY_HEADERS.items()]
COMMON = [CACHE_CONTROL, VARY, *SAFETY]
"""The headers that every response has."""
JSON_HEADERS = [(b"content-type", b"application/json"), *COMMON]
"""The headers of a JSON response, without its length."""


async def send_problem(problem: Problem, send: Send, prefix: str = "http.response") -> None:
    """Answer with a problem. `prefix` is that of the ASGI message types, which differ for a WebSocket handshake."""
    body = problem.body()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        *COMMON,
        *((name.lower().encode(), value.encode("latin-1")) for name, value in problem.headers.items()),
    ]
    await send({"type": f"{prefix}.start", "status": problem.status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": body})
