"""The address that a request came from, where proxies stand between."""

import functools
import ipaddress
from collections.abc import Sequence

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders

from premblyd.config.values import Address, Network

UNIX_PEER = "unix"  # a unix socket's peer, trusted because the file's mode says who may connect
MAX_ADDRESS_CHARACTERS = 64  # the longest is 53: [IPv6 with IPv4 in it]:port


def peer_ip(connection: HTTP1Connection) -> str:
    """Return the address of the connection's other side, or UNIX_PEER."""
    address = getattr(connection.context, "address", None)
    is_ip = isinstance(address, tuple) and len(address) >= 2
    return str(address[0]) if is_ip and address else UNIX_PEER


def client_ip(peer: str, headers: HTTPHeaders, trusted: Sequence[Network]) -> str:
    """Return the address of the client that `peer` speaks for.

    X-Forwarded-For is believed from trusted peers alone and walked from the right: each proxy
    appends whom it saw, so everything left of the first untrusted hop is the client's own claim.
    """
    if peer != UNIX_PEER and not is_within(peer, trusted):
        return peer
    forwarded = headers.get("X-Forwarded-For")
    if not forwarded:
        real_ip = _parse(headers.get("X-Real-Ip", ""))
        return str(real_ip) if real_ip else peer
    client = peer
    for hop in reversed(forwarded.split(",")):
        address = _parse(hop)
        if address is None:
            break
        client = str(address)
        if not is_within(client, trusted):
            break
    return client


def is_within(ip: str, networks: Sequence[Network]) -> bool:
    """Return whether `ip` lies in one of `networks`. It must be an address that `peer_ip` or
    `client_ip` returned, not a text that a sender chose: it is cached as it is."""
    address = _parse_short(ip)
    return address is not None and any(address in network for network in networks)


def sender(ip: str) -> str:
    """Return the sender that `ip` belongs to, where senders share the bounds: the address, or its
    /64 with IPv6, since a subscriber has a whole one (RFC 6177)."""
    return ip if ":" not in ip else _network_64(ip)


@functools.lru_cache(maxsize=4096)
def _network_64(ip: str) -> str:
    address = _parse(ip)
    return ip if address is None else str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


def _parse(text: str) -> Address | None:
    """Return the address in `text`, or None. A stranger may have chosen the text, so the cache gets
    none that is too long to be an address."""
    text = text.strip()
    return _parse_short(text) if len(text) <= MAX_ADDRESS_CHARACTERS else None


@functools.lru_cache(maxsize=4096)
def _parse_short(text: str) -> Address | None:
    if text.startswith("["):  # [2001:db8::1]:443
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # 192.0.2.1:443
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return address.ipv4_mapped or ipaddress.IPv6Address(int(address))  # a zone may be any text
