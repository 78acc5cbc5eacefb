"""Structs of the answers about the gateway itself."""

from typing import Literal

from msgspec import Struct


class Health(Struct, frozen=True, gc=False, omit_defaults=True):
    """Health of the gateway. `degraded`: requests are answered, but something in the background does not work."""

    status: Literal["ok", "degraded"]
    checks: dict[str, str] = {}
    """By check: "ok" or a description of the fault."""
