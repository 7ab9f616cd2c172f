"""Passed sockets: claimed once, given by name or by address, the rest closed with a warning."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from twisted_rr.errors import ListenError
from twisted_rr.net import inherited
from twisted_rr.net.inherited import Inherited, Passed, claim
from twisted_rr.testing.host import RecordingLog

SECTIONS = ("http", "status", "grpc")


class Bench:
    """Makes listening sockets and passes them on; ``log`` has what was told."""

    def __init__(self, log: RecordingLog) -> None:
        self.log = log
        self.made: list[socket.socket] = []

    def tcp(self, host: str = "127.0.0.1") -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return self._keep(socket.socket(family), (host, 0))

    def unix(self, path: str) -> socket.socket:
        return self._keep(socket.socket(socket.AF_UNIX), path)

    def _keep(self, sock: socket.socket, name: object) -> socket.socket:
        sock.bind(name)  # type: ignore[arg-type]
        sock.listen()
        self.made.append(sock)
        return sock

    def passed(self, *named: tuple[str, socket.socket]) -> Inherited:
        return Inherited([Passed(os.dup(sock.fileno()), name) for name, sock in named])

    def close(self) -> None:
        for sock in self.made:
            sock.close()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    log = RecordingLog()
    monkeypatch.setattr(inherited, "log", log)
    made = Bench(log)
    yield made
    made.close()


def address_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def took(passed: Inherited, section: str, address: str, key: str = "address") -> str | None:
    """Where the socket is bound that *section* gets; None when it gets none."""
    port = passed.take(section, address, key, SECTIONS)
    if port is None:
        return None
    assert port.inherited
    port.close()
    return port.address


# ------------------------------------------------------------------------------- who gets what


@pytest.mark.parametrize("name", ["http", "http.address"])
def test_a_socket_goes_to_the_section_it_is_named_after(bench: Bench, name: str) -> None:
    sock = bench.tcp()
    passed = bench.passed((name, sock))
    assert took(passed, "status", "127.0.0.1:1") is None
    assert took(passed, "http", "127.0.0.1:1") == address_of(sock)
    assert took(passed, "http", "127.0.0.1:1") is None


def test_other_keys_of_a_section_are_named_in_full(bench: Bench) -> None:
    plain, tls = bench.tcp(), bench.tcp()
    passed = bench.passed(("http", plain), ("http.ssl.address", tls))
    assert took(passed, "http", "127.0.0.1:1", "ssl.address") == address_of(tls)
    assert took(passed, "http", "127.0.0.1:1") == address_of(plain)


@pytest.mark.parametrize("name", ["", "rr.socket", "web"])
def test_the_only_socket_is_for_http_whatever_its_unit_is_called(bench: Bench, name: str) -> None:
    sock = bench.tcp()
    passed = bench.passed((name, sock))
    assert took(passed, "status", "127.0.0.1:1") is None
    assert took(passed, "http", "127.0.0.1:1") == address_of(sock)


def test_the_only_socket_is_not_for_http_when_it_is_named_after_another(bench: Bench) -> None:
    passed = bench.passed(("status", bench.tcp()))
    assert took(passed, "http", "127.0.0.1:1") is None


def test_several_without_a_name_go_by_their_address(bench: Bench) -> None:
    first, second = bench.tcp(), bench.tcp()
    passed = bench.passed(("rr.socket", first), ("rr.socket", second))
    assert took(passed, "status", address_of(second)) == address_of(second)
    assert took(passed, "http", address_of(first)) == address_of(first)


def test_of_several_none_is_guessed(bench: Bench) -> None:
    passed = bench.passed(("", bench.tcp()), ("", bench.tcp()))
    assert took(passed, "http", "127.0.0.1:1") is None


def test_what_is_named_after_another_section_is_not_taken_by_its_address(bench: Bench) -> None:
    sock = bench.tcp()
    passed = bench.passed(("http", sock), ("http", bench.tcp()))
    assert took(passed, "status", address_of(sock)) is None


def test_of_several_with_the_same_name_the_one_with_the_address_is_taken(bench: Bench) -> None:
    first, second = bench.tcp(), bench.tcp()
    passed = bench.passed(("http", first), ("http", second))
    assert took(passed, "http", address_of(second)) == address_of(second)


@pytest.mark.parametrize(
    ("bound", "configured"),
    [("127.0.0.1", "localhost"), ("0.0.0.0", ""), ("::", ""), ("::", "0.0.0.0"), ("::1", "[::1]")],
)
def test_addresses_that_mean_the_same_are_the_same(bench: Bench, bound: str, configured: str) -> None:
    sock = bench.tcp(bound)
    passed = bench.passed(("", sock), ("", bench.tcp()))
    assert took(passed, "grpc", f"{configured}:{sock.getsockname()[1]}") == address_of(sock)


def test_another_host_is_another_address(bench: Bench) -> None:
    sock = bench.tcp("127.0.0.1")
    passed = bench.passed(("", sock), ("", bench.tcp()))
    assert took(passed, "grpc", f"0.0.0.0:{sock.getsockname()[1]}") is None
    assert took(passed, "grpc", f"no.such.host.invalid:{sock.getsockname()[1]}") is None
    assert took(passed, "grpc", f"127.0.0..1:{sock.getsockname()[1]}") is None


def test_a_unix_socket_is_found_by_its_path_through_links(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    sock = bench.unix(str(tmp_path / "real" / "s"))
    passed = bench.passed(("", sock), ("", bench.tcp()))
    assert took(passed, "status", f"unix://{tmp_path}/link/s") == f"unix://{tmp_path}/real/s"
    assert (tmp_path / "real" / "s").exists()


def test_an_abstract_name_is_found_too(bench: Bench) -> None:
    name = f"twisted_rr-test-{os.getpid()}"
    sock = bench.unix("\0" + name)
    passed = bench.passed(("", sock), ("", bench.tcp()))
    assert took(passed, "status", f"unix://@{name}") == f"unix://@{name}"


# ------------------------------------------------------------------------------- what is no use


def test_what_nobody_took_is_closed_and_told(bench: Bench) -> None:
    sock = bench.tcp()
    fd = os.dup(sock.fileno())
    passed = Inherited([Passed(fd, "grcp")])
    assert passed
    passed.close_rest()
    with pytest.raises(OSError):
        os.fstat(fd)
    [line] = bench.log.lines("warn")
    assert f"fd {fd} (grcp), bound to {address_of(sock)}, was passed and is closed" in line
    assert not passed
    passed.close_rest()
    assert len(bench.log.lines("warn")) == 1


def test_a_named_descriptor_that_is_no_listening_socket_fails_the_start(bench: Bench) -> None:
    ours, theirs = socket.socketpair()
    bench.made += [ours, theirs]
    passed = bench.passed(("http", ours))
    with pytest.raises(ListenError, match="not a connection"):
        passed.take("http", "127.0.0.1:1", "address", SECTIONS)
    passed.close_rest()  # it was left there, and its number is not closed twice


def test_what_is_no_socket_at_all_is_closed_and_told(bench: Bench) -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    passed = Inherited([Passed(read_end, ""), Passed(os.dup(bench.tcp().fileno()), "")])
    assert took(passed, "status", "127.0.0.1:1") is None
    passed.close_rest()
    assert "nothing that can be served" in bench.log.lines("warn")[0]


# ------------------------------------------------------------------------------- claiming


@pytest.fixture
def fd(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """An inheritable descriptor at the number where passed ones begin."""
    number = os.dup(bench.tcp().fileno())
    os.set_inheritable(number, True)
    monkeypatch.setattr(inherited, "FIRST", number)
    yield number
    try:
        os.close(number)
    except OSError:
        pass


def environ(**changed: str) -> dict[str, str]:
    return {
        "PATH": "/bin",
        "LISTEN_PID": "42",
        "LISTEN_FDS": "1",
        "LISTEN_FDNAMES": "http",
        "LISTEN_PIDFDID": "7",
        **changed,
    }


def test_claiming_takes_the_variables_away_and_keeps_the_descriptors_from_children(fd: int) -> None:
    given = environ()
    passed = claim(given, lambda: 42)
    assert given == {"PATH": "/bin"}
    assert not os.get_inheritable(fd)
    port = passed.take("http", "127.0.0.1:1")
    assert port is not None
    port.close()
    assert not claim(given, lambda: 42)


def test_a_name_that_means_none_is_none(fd: int) -> None:
    passed = claim(environ(LISTEN_FDNAMES="unknown"), lambda: 42)
    assert str(passed._left[0]) == f"fd {fd}"


def test_descriptors_for_another_process_are_left_alone_and_told(bench: Bench, fd: int) -> None:
    given = environ()
    passed = claim(given, lambda: 43)
    assert given == {"PATH": "/bin"}
    assert passed.take("http", "127.0.0.1:1") is None
    passed.close_rest()
    os.fstat(fd)
    assert bench.log.lines("warn") == ["LISTEN_PID is 42 and this is process 43: no passed socket is used"]


@pytest.mark.parametrize("count", ["", "0"])
def test_nothing_passed_is_nothing_to_tell(bench: Bench, fd: int, count: str) -> None:
    passed = claim(environ(LISTEN_FDS=count), lambda: 42)
    assert not passed
    passed.close_rest()
    assert bench.log.events == []


def test_a_count_that_is_none_is_told(bench: Bench, fd: int) -> None:
    passed = claim(environ(LISTEN_FDS="-1"), lambda: 42)
    passed.close_rest()
    assert bench.log.lines("warn") == ["LISTEN_FDS is '-1', expected a number: no passed socket is used"]


def test_a_number_that_is_not_open_is_told(bench: Bench, fd: int) -> None:
    os.close(fd)
    assert not claim(environ(), lambda: 42)
    assert f"LISTEN_FDS counts fd {fd}, which is not open" in bench.log.lines("warn")[0]
