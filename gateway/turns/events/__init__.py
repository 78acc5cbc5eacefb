"""A turn as server-sent events: blocks go in as they are stored, events come out, in one of three formats; pure.

`blocks` is the gateway's own format; `ai-sdk` and `ag-ui` are the stream protocols of the two chat toolkits.

May import: wire, storage.
Names for others: `TurnEvents`, `BlockEvents`, `AiSdkEvents`, `AgUiEvents`, `EventFormat`, `end_cursor`, `position_of`.
"""

from typing import Literal

from gateway.turns.events.ag_ui import AgUiEvents
from gateway.turns.events.ai_sdk import AiSdkEvents
from gateway.turns.events.base import TurnEvents
from gateway.turns.events.blocks import BlockEvents, end_cursor, position_of

EventFormat = Literal["blocks", "ai-sdk", "ag-ui"]

__all__ = ["AgUiEvents", "AiSdkEvents", "BlockEvents", "EventFormat", "TurnEvents", "end_cursor", "position_of"]
