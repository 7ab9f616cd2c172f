"""What the system lets a worker have: how it is written, whose word counts, and what cannot be."""

from __future__ import annotations

import resource

import pytest

from twisted_rr.pool.confine import System, confined, parse_rlimit, problems
from twisted_rr.pool.settings import PoolSettings, ServerSettings

POOR = System(capabilities=0, cpus=frozenset({0, 1}), nice=5, lowest=5, oom_score_adj=0)
RICH = System(capabilities=-1, cpus=frozenset({0, 1}), nice=5, lowest=5, oom_score_adj=0)


@pytest.mark.parametrize(
    "text, meant",
    [
        ("4096", "4096:4096"),
        ("64M", "67108864:67108864"),
        ("1024:4096", "1024:4096"),
        ("2g:infinity", "2147483648:-1"),
        ("infinity", "-1:-1"),
        ("unlimited", "-1:-1"),
        ("-1", "-1:-1"),
        ("0", "0:0"),
    ],
)
def test_limits_are_written_as_in_systemd(text, meant):
    assert parse_rlimit(text) == meant


@pytest.mark.parametrize("text", ["", "many", "4096:1024", "infinity:5", "-5", "1.5M", "5MM", "k"])
def test_what_is_no_limit_is_refused(text):
    with pytest.raises(ValueError):
        parse_rlimit(text)


def test_what_a_pool_says_counts_instead_of_what_the_server_says_limit_by_limit():
    server = ServerSettings(
        nice=3, oom_score_adj=100, affinity=(0,), rlimits={"nofile": "9:9", "core": "0:0"}
    )
    both = confined(server, PoolSettings(oom_score_adj=0, rlimits={"nofile": "64:64"}))
    assert (both.nice, both.oom_score_adj, both.affinity) == (3, 0, (0,))
    assert both.rlimits == {"nofile": "64:64", "core": "0:0"}
    assert confined(server, PoolSettings()) is server


@pytest.mark.parametrize(
    "pool, told",
    [
        ({"nice": -6}, "http.pool.nice: -6 would make it -1; below 5 needs CAP_SYS_NICE"),
        ({"oom_score_adj": -100}, "http.pool.oom_score_adj: -100 is below the server's own 0"),
        ({"affinity": (1, 7)}, "http.pool.affinity: there is no CPU 7; online are 0, 1"),
    ],
)
def test_what_cannot_be_is_told_with_its_key_and_the_figures(pool, told):
    [problem] = problems(ServerSettings(), PoolSettings(**pool), "http.pool", POOR)
    assert str(problem).startswith(told)


def test_with_the_capability_it_can():
    asked = PoolSettings(nice=-10, oom_score_adj=-500)
    assert problems(ServerSettings(), asked, "http.pool", RICH) == []


def test_a_limit_above_the_servers_own_is_told_where_it_stands(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1024, 4096))
    [problem] = problems(ServerSettings(rlimits={"nofile": "8192:8192"}), PoolSettings(), "http.pool", POOR)
    assert str(problem).startswith("server.rlimits.nofile: 8192 is above the server's own hard limit of 4096")
    [problem] = problems(ServerSettings(), PoolSettings(rlimits={"core": "0:-1"}), "http.pool", POOR)
    assert str(problem).startswith("http.pool.rlimits.core: infinity is above")
    assert not problems(ServerSettings(rlimits={"nofile": "8192:8192"}), PoolSettings(), "http.pool", RICH)


def test_this_system_is_read():
    here = System.here()
    assert here.cpus and -20 <= here.nice <= 19 and here.lowest <= here.nice
