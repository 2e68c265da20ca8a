"""Clients' IP addresses as they come from a socket."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address


def parsed(address: str) -> IPv4Address | IPv6Address | None:
    """An address without its zone, which says something on one machine only, and a mapped IPv4 one as what it is; None
    for what is no address."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def household(address: str) -> str:
    """As whom a client is counted: an IPv6 client has a network of addresses to itself, so as its /64 (RFC 4291
    §2.5.4)."""
    found = parsed(address)
    if isinstance(found, IPv6Address):
        return str(IPv6Address(int(found) >> 64 << 64))
    return address if found is None else str(found)
