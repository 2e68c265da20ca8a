"""IP addresses and networks: clients' as they come from a socket, and what a person writes."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class ClientNetwork:
    """A network from which a company sends. `shared`: strangers do too, so its mails have to prove themselves."""

    network: Network
    shared: bool = False


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


def loopback(host: str) -> bool:
    """Whether a host, with or without an IPv6 address's brackets, is this machine (RFC 6761 §6.3)."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
