"""Which network addresses a stranger's catalogue may send us to, checked on the very socket that connects.

A check of the host's name would come too early: its server may answer the next question with another address (DNS
rebinding), and a redirect may lead anywhere.
"""

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


class ForbiddenAddress(OSError):
    """A connection to an address that is not public; none was made."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet's, and not of this machine, its network or a group."""
    ip = ip_address(address.partition("%")[0])
    inner = _inner(ip)
    if inner is not None:
        return is_public(str(inner))
    local = ip.is_loopback or ip.is_link_local or ip.is_unspecified or getattr(ip, "is_site_local", False)
    return ip.is_global and not (local or ip.is_multicast or ip.is_reserved)


def checked_socket(allowed: Callable[[str], bool]) -> Callable[[tuple], socket.socket]:
    """What makes the socket for one resolved address; raises ForbiddenAddress for one that is not `allowed`."""

    def make(address_info: tuple) -> socket.socket:
        family, kind, protocol, _, (address, *_) = address_info
        if not allowed(address):
            raise ForbiddenAddress("not a public address")
        return socket.socket(family, kind, protocol)

    return make


def _inner(ip: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for, where it does."""
    if isinstance(ip, IPv4Address):
        return None
    return ip.ipv4_mapped or ip.sixtofour or (IPv4Address(int(ip) & 0xFFFFFFFF) if ip in NAT64 else None)
