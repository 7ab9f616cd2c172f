"""What must hold between sections, as ``config check`` tells it; and where an address came from."""

import pytest

from twisted_rr.build import read_config
from twisted_rr.discovery import discover
from twisted_rr.errors import ConfigError

HTTP = 'http: {address: "127.0.0.1:0"%s}\n'


def read(text):
    return read_config('version: "3"\n' + text, environ={}, plugins=discover())


def problems(text):
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("server", ("", "server: {}\n", "server: {user: nobody}\n"))
def test_workers_need_a_command(server):
    line = 2 + server.count("\n")
    assert problems(server + HTTP % "") == [
        f"<text>:{line}:1: server.command: is required: the command that runs http's workers"
    ]


def test_a_pool_may_have_its_own():
    assert read(HTTP % ", pool: {command: php w.php}").settings("http").pool.command


def test_a_named_pool_that_is_used_needs_one_as_well():
    text = (
        HTTP % ", pool: {command: a}, routes: [{path: /x, pool: slow}]" + "pools: {slow: {num_workers: 1}}\n"
    )
    assert "server.command: is required" in problems(text)[0]
    assert read(text.replace("num_workers: 1", "command: b"))


def test_a_file_that_serves_nothing_is_told_so():
    [warning] = read("server: {command: php w.php}\nstatus: {address: '127.0.0.1:0'}\n").warnings
    assert str(warning).startswith("<text>:2:1: nothing is served: there is no section ")
    assert not read("server: {command: a}\n" + HTTP % "").warnings


@pytest.mark.parametrize("rest", ("", "x-mine: {a: 1}\n"))
def test_so_is_one_that_has_no_section_at_all(rest):
    [warning] = read(rest).warnings
    assert str(warning).startswith("nothing is served: there is no section ")


@pytest.mark.parametrize(
    ("written", "bound"),
    [("127.0.0.1:81", "127.0.0.1:81"), (":81", "0.0.0.0:81"), ("tcp://127.0.0.1:81", "127.0.0.1:81")],
)
def test_an_address_leads_back_to_its_key(written, bound):
    config = read(f"server: {{command: a}}\nstatus: {{address: '{written}'}}\n" + HTTP % "")
    assert config.key_of(bound) == "status.address"
    assert config.key_of("127.0.0.1:82") == ""
