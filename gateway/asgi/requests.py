"""What is read of a request: its headers by name, whether its path was UTF-8, and a message that is received twice."""

from urllib.parse import unquote_to_bytes

from starlette.types import Message, Receive, Scope

NAMED_HEADERS = "gateway.headers"
"""The scope key of the cached headers by name, set on first use. Do not keep them while a request waits."""


def named_headers(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers of a request by lower-case name; lines of the same name are joined by commas."""
    named: dict[bytes, bytes] | None = scope.get(NAMED_HEADERS)
    if named is None:
        lines: list[tuple[bytes, bytes]] = scope["headers"]
        named = dict(lines)
        if len(named) != len(lines):
            named.clear()
            for name, line in lines:
                named[name] = named[name] + b", " + line if name in named else line
        scope[NAMED_HEADERS] = named
    return named


class Replay:
    """An ASGI `receive` that first replays a message that was already received."""

    __slots__ = ("_message", "_receive")

    def __init__(self, message: Message, receive: Receive) -> None:
        self._message: Message | None = message
        self._receive = receive

    async def __call__(self) -> Message:
        message, self._message = self._message, None
        return message if message is not None else await self._receive()


def encoding_fault(scope: Scope, path: str) -> str | None:
    """Return the fault of a path that is not UTF-8. The server decodes invalid bytes to U+FFFD, which is also allowed
    in a path itself, so the raw path decides."""
    if "\ufffd" not in path:
        return None
    try:
        unquote_to_bytes(scope.get("raw_path", b"")).decode()
    except UnicodeDecodeError:
        return "it is not UTF-8"
    return None
