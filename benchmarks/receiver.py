"""What stands at the other end of webhooks: a receiver, and the smallest sender.

`python -m benchmarks.receiver` counts the POSTs that it gets and answers 204; a GET of `/N` is answered when there were
N, with the seconds from the first to the last. `python -m benchmarks.receiver PORT N BYTES` sends it N messages, as
many at once as the gateway sends to one host, with the same client library and signature: nothing is stored or read.
"""

import asyncio
import sys
import time

import httpcore

from gateway.readers.webhooks import new_secret, signature

_AT_ONCE = 8


class Receiver:
    """Counts requests."""

    def __init__(self) -> None:
        self._count = 0
        self._first = self._newest = 0.0
        self._more = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET /"):
                    answer = await self._await_count(int(head.split(b" ", 2)[1][1:]))
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer))
                    continue
                at = head.lower().index(b"content-length:") + len(b"content-length:")
                await reader.readexactly(int(head[at : head.index(b"\r\n", at)]))
                self._newest = time.perf_counter()
                self._first = self._newest if self._count == 0 else self._first
                self._count += 1
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                async with self._more:
                    self._more.notify_all()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _await_count(self, count: int) -> bytes:
        async with self._more:
            await self._more.wait_for(lambda: self._count >= count)
        self._count = 0
        return f"{self._newest - self._first:.6f}".encode()


async def receive() -> None:
    server = await asyncio.start_server(Receiver().serve, "127.0.0.1", 0)
    print(f"Listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


async def send(port: int, count: int, size: int) -> None:
    secret, body, url = new_secret(), b"x" * size, f"http://127.0.0.1:{port}/"
    numbers = iter(range(count))

    async with httpcore.AsyncConnectionPool(max_connections=_AT_ONCE) as pool:

        async def sender() -> None:
            for number in numbers:
                name, now = f"msg_{number}", int(time.time())
                headers = [
                    ("content-type", "application/json"),
                    ("webhook-id", name),
                    ("webhook-timestamp", str(now)),
                    ("webhook-signature", signature(secret, name, now, body)),
                ]
                async with pool.stream("POST", url, headers=headers, content=body):
                    pass

        await asyncio.gather(*(sender() for _ in range(_AT_ONCE)))
    print("Sent", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(send(*map(int, sys.argv[1:])))
    else:
        asyncio.run(receive())
