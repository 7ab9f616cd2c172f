"""Who may speak for the client, and what is believed of it."""

from __future__ import annotations

import pytest

from twisted_rr.plugins.http.forwarded import Forwarding

PROXIES = ("127.0.0.0/8", "10.0.0.0/8", "::1")


def origin(
    *headers: tuple[str, str], subnets: tuple[str, ...] = PROXIES, names: tuple[str, ...] | None = None
):  # type: ignore[no-untyped-def]
    rules = Forwarding(subnets) if names is None else Forwarding(subnets, names)
    return rules.origin([(name.lower().encode(), value.encode("latin-1")) for name, value in headers])


# ---------------------------------------------------------------------------------- trust


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True), (None, True)]
    + [("10.0.0.1", False), ("::2", False), ("fe80::1%eth0", False), ("nonsense", False)],
)
def test_loopback_and_unix_peers_are_trusted_by_default(peer: str | None, trusted: bool) -> None:
    assert Forwarding().trusts(peer) is trusted


def test_an_empty_list_trusts_nobody() -> None:
    assert not Forwarding(()).trusts("127.0.0.1")
    assert not Forwarding(()).trusts(None)


def test_a_star_trusts_everybody() -> None:
    assert Forwarding(["*"]).trusts("203.0.113.9")


def test_a_network_may_have_host_bits_and_nonsense_is_refused() -> None:
    assert Forwarding(["10.1.2.3/8"]).trusts("10.200.0.1")
    with pytest.raises(ValueError, match=r"10\.0\.0"):
        Forwarding(["10.0.0/99"])


# -------------------------------------------------------------------------------- clients


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("203.0.113.7", ("203.0.113.7", 0)),
        ("203.0.113.7:1234", ("203.0.113.7", 1234)),
        ("1.1.1.1, 203.0.113.7", ("203.0.113.7", 0)),
        ("203.0.113.7, 10.0.0.1, 10.0.0.2", ("203.0.113.7", 0)),
        ("spoofed, 203.0.113.7", ("203.0.113.7", 0)),
        ("garbage, 10.0.0.1", ("10.0.0.1", 0)),
        ("10.0.0.3, 10.0.0.4", ("10.0.0.3", 0)),
        ("2001:db8::1", ("2001:db8::1", 0)),
        ("[2001:db8::1]:443", ("2001:db8::1", 443)),
        ("::ffff:203.0.113.7", ("203.0.113.7", 0)),
        ("203.0.113.7:99999999", ("203.0.113.7", 0)),
    ],
)
def test_x_forwarded_for_is_read_from_the_right(value: str, client: tuple[str, int]) -> None:
    assert origin(("X-Forwarded-For", value)).client == client


@pytest.mark.parametrize(
    "value", ["", "unknown", "203.0.113.7, ", "1.2.3.4.5", "[::1", "[::1]x", "_hidden", "1.1.1.1 2.2.2.2"]
)
def test_what_makes_no_sense_says_nothing(value: str) -> None:
    assert origin(("X-Forwarded-For", value)).client is None


def test_several_lines_are_one_list() -> None:
    found = origin(("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-For", "10.0.0.1"))
    assert found.client == ("203.0.113.7", 0)


@pytest.mark.parametrize(
    ("value", "client", "scheme", "host"),
    [
        ("for=203.0.113.7", ("203.0.113.7", 0), None, None),
        ('for="[2001:db8::1]:80";proto=https;host=example.org', ("2001:db8::1", 80), "https", b"example.org"),
        ("FOR=203.0.113.7 ; Proto=HTTP", ("203.0.113.7", 0), "http", None),
        (
            "for=1.1.1.1;proto=http, for=203.0.113.7;proto=https, for=10.0.0.1;proto=http",
            ("203.0.113.7", 0),
            "https",
            None,
        ),
        ('for=203.0.113.7;host="a\\"b"', ("203.0.113.7", 0), None, None),
        ("for=203.0.113.7;proto=gopher", ("203.0.113.7", 0), None, None),
    ],
)
def test_forwarded_is_read_from_the_right(
    value: str, client: tuple[str, int], scheme: str | None, host: bytes | None
) -> None:
    found = origin(("Forwarded", value))
    assert (found.client, found.scheme, found.host) == (client, scheme, host)


@pytest.mark.parametrize(
    "value",
    [
        "for",
        "for=",
        "for=1.1.1.1;for=2.2.2.2",
        "for=1.1.1.1, x",
        'for="1.1.1.1',
        "for=_x",
        "=x",
        "for=unknown",
    ],
)
def test_malformed_forwarded_says_nothing(value: str) -> None:
    assert origin(("Forwarded", value)).client is None


def test_the_first_header_that_makes_sense_wins() -> None:
    headers = (("X-Real-IP", "192.0.2.1"), ("Forwarded", "for=192.0.2.2"), ("X-Forwarded-For", "192.0.2.3"))
    assert origin(*headers).client == ("192.0.2.3", 0)
    assert origin(*headers, names=("Forwarded", "X-Real-IP")).client == ("192.0.2.2", 0)
    assert origin(("X-Forwarded-For", "?"), ("X-Real-IP", "192.0.2.1")).client == ("192.0.2.1", 0)
    assert origin(("Cf-Connecting-Ip", "192.0.2.9"), names=("CF-Connecting-IP",)).client == ("192.0.2.9", 0)
    assert origin(("Cf-Connecting-Ip", "192.0.2.9")).client is None


# -------------------------------------------------------------------------- scheme and host


def test_scheme_and_host_come_without_a_client_too() -> None:
    found = origin(("X-Forwarded-Proto", "HTTPS"), ("X-Forwarded-Host", "example.org:8443"))
    assert (found.client, found.scheme, found.host) == (None, "https", b"example.org:8443")


def test_scheme_and_host_are_those_of_the_clients_hop() -> None:
    found = origin(
        ("X-Forwarded-For", "1.1.1.1, 203.0.113.7, 10.0.0.1"),
        ("X-Forwarded-Proto", "http, https, http"),
        ("X-Forwarded-Host", "evil.example, good.example"),
    )
    assert (found.scheme, found.host) == ("https", b"good.example")


@pytest.mark.parametrize("host", ["a b", "a/b", "user@host", "x" * 256, "[::1", "a:b"])
def test_a_host_that_is_none_is_ignored(host: str) -> None:
    assert origin(("X-Forwarded-Host", host)).host is None


@pytest.mark.parametrize(
    "before", ['for="', "for", "for=a;for=b", 'by="x', "\x7f", 'for=";,for="', "=,;" * 50, 'host="a,b", "']
)
@pytest.mark.parametrize("added", ["for=203.0.113.7", 'for=203.0.113.7;host="a.example";by="10.0.0.1, x"'])
def test_a_client_cannot_hide_by_spoiling_the_forwarded_that_its_proxy_adds_to(
    before: str, added: str
) -> None:
    assert origin(("Forwarded", f"{before}, {added}")).client == ("203.0.113.7", 0)
    assert origin(("Forwarded", before), ("Forwarded", added)).client == ("203.0.113.7", 0)


@pytest.mark.parametrize(
    "value", ["for=203.0.113.7;", ";for=203.0.113.7", ", for=203.0.113.7, ,for=10.0.0.1 ,"]
)
def test_empty_elements_and_pairs_of_forwarded_are_passed_over(value: str) -> None:
    assert origin(("Forwarded", value)).client == ("203.0.113.7", 0)


def test_neither_a_zone_nor_a_port_that_cannot_be_is_taken() -> None:
    assert origin(("X-Forwarded-For", "[2001:db8::1%any text]:70000")).client == ("2001:db8::1", 0)
