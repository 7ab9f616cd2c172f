"""Addresses as a config has them."""

import pytest

from twisted_rr.errors import ListenError
from twisted_rr.net.address import TCPAddress, UnixAddress, parse_address, plain_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8080", TCPAddress("127.0.0.1", 8080)),
        (":8080", TCPAddress("", 8080)),
        ("0.0.0.0:80", TCPAddress("0.0.0.0", 80)),
        ("[::1]:80", TCPAddress("::1", 80)),
        ("[::]:80", TCPAddress("::", 80)),
        ("localhost:0", TCPAddress("localhost", 0)),
        ("tcp://127.0.0.1:6001", TCPAddress("127.0.0.1", 6001)),
        ("tcp://:6001", TCPAddress("", 6001)),
        ("  :1 ", TCPAddress("", 1)),
        ("unix:///run/rr.sock", UnixAddress("/run/rr.sock")),
        ("unix://rr.sock", UnixAddress("rr.sock")),
        ("unix:/run/rr.sock", UnixAddress("/run/rr.sock")),
        ("unix://@name", UnixAddress("@name")),
    ],
)
def test_every_way_to_write_an_address_is_read(text, expected):
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("8080", "expected host:port"),
        ("", "expected host:port"),
        ("localhost", "expected host:port"),
        ("::1:80", "brackets"),
        ("[::1]", "brackets"),
        ("[127.0.0.1]:80", "only an IPv6"),
        (":http", "not a number"),
        (":-1", "not a number"),
        (":65536", "not a number"),
        (":٣", "not a number"),
        (":", "not a number"),
        ("http://x:1", "expected tcp:// or unix://"),
        ("unix://", "path"),
        ("unix://@", "path"),
        ("unix://a\0b", "path"),
    ],
)
def test_what_is_no_address_is_refused_with_what_was_expected(text, part):
    with pytest.raises(ListenError) as caught:
        parse_address(text)
    assert part in caught.value.reason
    assert caught.value.address == text


def test_an_address_is_written_as_it_is_read():
    for text in ("127.0.0.1:80", ":80", "[::1]:80", "unix:///a", "unix://@b"):
        assert str(parse_address(text)) == text


def test_an_abstract_name_starts_with_nul_for_the_kernel():
    assert UnixAddress("@x").name == "\0x"
    assert UnixAddress("/x").name == "/x"


def test_an_ipv4_peer_of_a_dual_stack_socket_is_ipv4():
    assert plain_name(("::ffff:10.1.2.3", 5, 0, 0)) == ("10.1.2.3", 5)


def test_other_names_stay():
    assert plain_name(("::1", 5, 0, 0)) == ("::1", 5, 0, 0)
    assert plain_name(("10.0.0.1", 5)) == ("10.0.0.1", 5)
