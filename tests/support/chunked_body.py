"""Reads the body of an answer from a socket."""

import h11


class ChunkedBody:
    """Takes the bytes of one answer as they arrive. An event may come in several chunks."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT)
        self._http.send(h11.Request(method="GET", target="/", headers=[("Host", "localhost")]))
        self._http.send(h11.EndOfMessage())

    def take(self, received: bytes) -> bytes:
        """Return what the body has in these bytes."""
        self._http.receive_data(received)
        body = b""
        while isinstance(event := self._http.next_event(), h11.Response | h11.Data):
            if isinstance(event, h11.Data):
                body += event.data
        return body
