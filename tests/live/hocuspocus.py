"""People who edit with the stock provider of Hocuspocus, and a client that says byte by byte what it wants."""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from websockets.sync.client import ClientConnection, connect

from gateway.yjs.hocuspocus import addressed
from gateway.yjs.lib0 import Reader
from tests.live.editors import WEBSOCKET, Editor, EditorHost
from tests.support.server import PATIENCE_S, GatewayProcess


def url_of(gateway: GatewayProcess, project: str) -> str:
    return f"{gateway.project(project)}/hocuspocus".replace("http", "ws", 1)


class Provider(Editor):
    """One person: a document behind the stock provider. Those with one `socket` share it."""

    def __init__(
        self, host: EditorHost, gateway: GatewayProcess, project: str, path: str, *, socket: str, **options: Any
    ) -> None:
        self._host = host
        self.left = False
        self.name = f"provider-{next(self._names)}"
        self._do("open", server=url_of(gateway, project), room=path, socket=socket, **options)

    def until_saved(self) -> None:
        """Until `hasUnsyncedChanges` is false."""
        self._do("until_saved")

    @property
    def unsaved(self) -> int:
        count: int = self._do("unsaved")
        return count

    def keep_typing(self, text: str) -> None:
        """Type a key of `text` whenever all is saved, over and over."""
        self._do("keep_typing", text=text)

    @property
    def saved(self) -> str:
        """Its text when all was saved last."""
        text: str = self._do("saved")
        return text

    def until_saved_length(self, length: int) -> None:
        self._do("until_saved_length", length=length)

    def stop_typing(self) -> None:
        self._do("stop_typing")

    def until_scope(self, scope: str) -> None:
        self._do("until_scope", scope=scope)

    def until_told(self) -> tuple[str, str]:
        """`denied` or `closed`, and the reason."""
        what, reason = self._do("until_told")
        return what, reason

    def until_renewed(self, times: int) -> None:
        """Until it was asked for its token so often after the first time."""
        self._do("until_renewed", times=times)

    def send_token(self, token: str) -> None:
        self._do("send_token", token=token)

    def next_token(self, token: str) -> None:
        """What it shows when it is asked the next time."""
        self._do("next_token", token=token)

    def attach_again(self) -> None:
        self._do("attach_again")

    def send_stateless(self, payload: str) -> None:
        self._do("send_stateless", payload=payload)

    def until_stateless(self) -> str:
        payload: str = self._do("until_stateless")
        return payload

    def force_sync(self) -> None:
        self._do("force_sync")

    def cut(self) -> None:
        self._do("cut_socket")


Open = Callable[..., Provider]


@contextlib.contextmanager
def providers(host: EditorHost) -> Iterator[Open]:
    """Opens providers, each on a socket of its own unless it is named one, and closes all."""
    opened: list[Provider] = []

    def open_one(gateway: GatewayProcess, project: str, path: str, **options: Any) -> Provider:
        opened.append(Provider(host, gateway, project, path, **{"socket": uuid.uuid4().hex, **options}))
        return opened[-1]

    yield open_one
    for provider in opened:
        if not provider.left:
            provider.leave()
    host.ask(do="close_sockets").result(PATIENCE_S)


class RawHocuspocus:
    """A WebSocket that sends what it is told to send."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    def send(self, name: str, message: bytes) -> None:
        self.socket.send(addressed(name) + message)

    def receive(self) -> tuple[str, bytes]:
        """The next message, and the name that it is for."""
        frame = self.socket.recv(PATIENCE_S)
        assert isinstance(frame, bytes)
        reader = Reader(frame)
        return reader.text(), frame[reader.position :]

    def until(self, name: str, message: bytes) -> list[bytes]:
        """Read on until a message for a name comes; returns those for it that came before."""
        before = []
        while (came := self.receive()) != (name, message):
            if came[0] == name:
                before.append(came[1])
        return before


@contextlib.contextmanager
def raw_hocuspocus(gateway: GatewayProcess, project: str, query: str = "", **options: Any) -> Iterator[RawHocuspocus]:
    url = url_of(gateway, project) + query
    with connect(url, **WEBSOCKET, **options, max_size=None) as socket:
        yield RawHocuspocus(socket)
