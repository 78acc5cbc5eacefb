"""Hosts that clients name: which of them a request may go to, and what may come of it."""

import ipaddress

from msgspec import Struct

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Refused(Exception):
    """Nothing is sent to the URL; the message says why."""


class Unreachable(Exception):
    """There was no answer; the message says why."""


class Answer(Struct, frozen=True):
    status: int
    retry_after: float | None = None
    """Seconds."""


class Hosts(Struct, frozen=True):
    """Host names; `*.example.org` matches every name below a domain, `*` every name."""

    names: tuple[str, ...]

    def __contains__(self, host: str) -> bool:
        return any(
            name in (host, "*") or (name.startswith("*.") and host.endswith(name[1:]))
            for name in map(str.lower, self.names)
        )


def is_public(address: Address) -> bool:
    """Whether an address is of the public internet, and does not embed one that is not."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_local(host: str) -> bool:
    """Whether a host is an IP address or this machine, not a name that its owner can point anywhere."""
    return host == "localhost" or literal(host) is not None


def literal(host: str) -> Address | None:
    """Return the address that a host is; None if it is a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
