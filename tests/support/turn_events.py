"""What a client makes of the events of a turn: the events out of the bytes, and the blocks out of the events."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class Event(NamedTuple):
    id: str | None
    kind: str
    data: Any


def events_in(lines: Iterable[str]) -> Iterator[Event]:
    """The events that have data, as a client of server-sent events reads them; `[DONE]` as it is."""
    last_id, kind, data = None, "message", []
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                text = "\n".join(data)
                yield Event(last_id, kind, text if text == "[DONE]" else json.loads(text))
            kind, data = "message", []
        elif name == "id":
            last_id = value
        elif name == "event":
            kind = value
        elif name == "data":
            data.append(value)


class BlocksView:
    """A client of the gateway's own format."""

    def __init__(self) -> None:
        self.blocks: dict[int, dict[str, Any]] = {}
        self.status = ""
        self.last_id: str | None = None
        self.deltas = 0

    def take(self, event: Event) -> None:
        self.last_id = event.id if event.id is not None else self.last_id
        if event.kind == "reset":
            self.blocks.clear()
        elif event.kind == "status":
            self.status = event.data["status"]
        elif event.kind == "block":
            assert event.data["index"] <= len(self.blocks), "a block was left out"
            self.blocks[event.data["index"]] = event.data
        elif event.kind == "delta":
            self.deltas += 1
            block = self.blocks[event.data["index"]]
            self.blocks[event.data["index"]] = {**block, "content": block["content"] + event.data["delta"]}
