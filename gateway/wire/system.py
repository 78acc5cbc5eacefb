"""Shapes of answers about the gateway itself."""

from typing import Literal

from msgspec import Struct


class Health(Struct, frozen=True, gc=False, omit_defaults=True):
    """`degraded`: requests are answered, but something in the background does not work."""

    status: Literal["ok", "degraded"]
    checks: dict[str, str] = {}
    """What was looked at, and "ok" or what is wrong with it."""
