"""Whose address a request has, when proxies stand between."""

import ipaddress

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders

from premblyd.config.values import network
from premblyd.receive.connection import UNIX_PEER, _read_address, client_ip, is_within
from tests.support.rows import for_each

PROXY = "10.0.0.1"
TRUSTED = [network("10.0.0.0/8"), network("::1"), network("2001:db8:ffff::/48")]


@for_each(
    ("forwarded", "client"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("192.0.2.1, 198.51.100.7", "198.51.100.7"),  # the left part is the client's own claim
        ("192.0.2.1,198.51.100.7 , 10.9.9.9,10.8.8.8", "198.51.100.7"),
        ("10.9.9.9, 10.8.8.8", "10.9.9.9"),
        ("198.51.100.7, unknown", PROXY),
        ("198.51.100.7, unknown, 10.9.9.9", "10.9.9.9"),
        ("198.51.100.7,", PROXY),
        ("198.51.100.7:443", "198.51.100.7"),
        ("[2001:DB8::7]:443", "2001:db8::7"),
        ("2001:db8::7, 2001:db8:ffff::1", "2001:db8::7"),
        ("192.0.2.1, ::ffff:10.9.9.9", "192.0.2.1"),
        ("fe80::7%22123456789", "fe80::7"),  # a zone is any text at all, and no address
        ("198.51.100.07", PROXY),
        ("3325256704", PROXY),
        ("198.51.100.7/32", PROXY),
        (" ", PROXY),
    ],
)
def test_the_client_is_the_first_untrusted_hop_from_the_right(forwarded: str, client: str) -> None:
    headers = HTTPHeaders({"X-Forwarded-For": forwarded})
    assert client_ip(PROXY, headers, TRUSTED) == client
    assert client_ip("192.0.2.9", headers, TRUSTED) == "192.0.2.9"


def test_x_real_ip_counts_where_there_is_no_x_forwarded_for() -> None:
    for real_ip, forwarded, client in (
        ("198.51.100.7", "", "198.51.100.7"),
        ("198.51.100.7", "192.0.2.1", "192.0.2.1"),
        ("198.51.100.7, 192.0.2.1", "", PROXY),
        ("", "", PROXY),
    ):
        headers = HTTPHeaders({"X-Real-Ip": real_ip, "X-Forwarded-For": forwarded})
        assert client_ip(PROXY, headers, TRUSTED) == client
    assert client_ip(PROXY, HTTPHeaders(), TRUSTED) == PROXY


def test_lines_of_x_forwarded_for_are_one_list() -> None:
    headers = HTTPHeaders()
    for line in ("192.0.2.1", "198.51.100.7, 10.1.1.1", "10.2.2.2"):
        headers.add("x-forwarded-for", line)
    assert client_ip(PROXY, headers, TRUSTED) == "198.51.100.7"


def test_who_may_open_the_unix_socket_is_believed() -> None:
    assert client_ip(UNIX_PEER, HTTPHeaders({"X-Forwarded-For": "192.0.2.1"}), []) == "192.0.2.1"
    assert client_ip(UNIX_PEER, HTTPHeaders({"X-Real-Ip": "192.0.2.1"}), []) == "192.0.2.1"
    assert client_ip(UNIX_PEER, HTTPHeaders(), TRUSTED) == UNIX_PEER


def test_an_address_lies_in_a_network_or_not() -> None:
    for ip in ("10.255.255.255", "::ffff:10.1.1.1", "::1", "2001:db8:ffff:1::"):
        assert is_within(ip, TRUSTED)
        assert not is_within(ip, [])
    assert not any(is_within(ip, TRUSTED) for ip in ("11.0.0.0", "2001:db8::", UNIX_PEER, ""))


hops = st.ip_addresses().map(str) | st.text(max_size=12) | st.sampled_from([PROXY, "[", "::%", ":"])


@settings(max_examples=20)
@given(st.lists(hops, max_size=6).map(",".join), hops, st.sampled_from([PROXY, UNIX_PEER, "::1"]))
@example("\0,[,]:,%,::1%\x1b[31m,\udcff,\u0661.1.1.1", "1.1.1.1%", PROXY)
def test_no_header_raises_or_makes_anything_but_an_address(
    forwarded: str, real_ip: str, peer: str
) -> None:
    headers = HTTPHeaders()
    headers["X-Forwarded-For"], headers["X-Real-Ip"] = forwarded, real_ip
    client = client_ip(peer, headers, TRUSTED)
    if client != UNIX_PEER:
        assert str(ipaddress.ip_address(client)) == client
        assert "%" not in client
    assert client_ip("192.0.2.9", headers, TRUSTED) == "192.0.2.9"


def test_what_a_stranger_calls_an_address_is_not_remembered_when_it_is_long() -> None:
    _read_address.cache_clear()
    for number in range(300):
        claim = f"{number:05}" + "1" * 30_000
        for name in ("X-Forwarded-For", "X-Real-Ip"):
            assert client_ip(PROXY, HTTPHeaders({name: claim}), TRUSTED) == PROXY
    assert _read_address.cache_info().currsize == 1  # the proxy's own
    for number in range(300):
        client_ip(PROXY, HTTPHeaders({"X-Forwarded-For": f"fe80::7%{number}"}), TRUSTED)
    assert _read_address.cache_info().currsize <= 256
