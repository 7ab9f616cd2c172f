"""Limits of a pool that cannot be kept, or that do nothing: refused or warned about, with their figures."""

import pytest

from twisted_rr.build import read_config
from twisted_rr.errors import ConfigError

BASE = {"version": "3", "server": {"command": "x"}}


def read(**pool):
    return read_config({**BASE, "http": {"address": "127.0.0.1:0", "pool": pool}}, environ={})


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        ({"supervisor": {"ttl": "-1s"}}, "supervisor.ttl"),
        ({"supervisor": {"exec_ttl": "-1s"}}, "supervisor.exec_ttl"),
        ({"supervisor": {"max_worker_memory": -1}}, "supervisor.max_worker_memory"),
        ({"max_queue_age": "-1s"}, "max_queue_age"),
        ({"num_workers": -1}, "num_workers"),
        ({"reset_batch": 0}, "reset_batch"),
        ({"allocate_timeout": "0s"}, "no worker can start within 0 s"),
        ({"dynamic_allocator": {"spawn_rate": 0}}, "spawn_rate"),
        ({"dynamic_allocator": {"max_workers": 4000}}, "max_workers"),
        (
            {"num_workers": 2000, "dynamic_allocator": {"max_workers": 100}},
            "2000 and dynamic_allocator.max_workers 100 are more than the 2048",
        ),
    ],
)
def test_what_cannot_be_is_refused(pool, words):
    with pytest.raises(ConfigError, match=words):
        read(**pool)


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        ({"dynamic_allocator": {"max_workers": 3, "spawn_rate": 7}}, "7 is above max_workers: at most 3"),
        ({"supervisor": {"ttl": "1s"}}, "1 s is looked at every 5 s only"),
        ({"supervisor": {"idle_ttl": "2s", "watch_tick": "3s"}}, "2 s is looked at every 3 s only"),
        ({"supervisor": {"ttl": "10s", "exec_ttl": "20s"}}, "20 s, longer than a worker's ttl of 10 s"),
        ({"max_queue_age": "70s"}, "70 s is not below allocate_timeout, 60 s"),
        ({"debug": True, "max_queue_size": 3}, "no effect with debug"),
        ({"destroy_timeout": "0s"}, "destroy_timeout: 0 cuts"),
        ({"reset_timeout": "0s"}, "reset_timeout: 0 cuts"),
    ],
)
def test_what_does_nothing_is_warned_about(pool, words):
    [warning] = read(**pool).warnings
    assert words in str(warning)


def test_defaults_and_what_belongs_together_warn_of_nothing():
    pool = {
        "max_queue_age": "1s",
        "supervisor": {"ttl": "1h", "exec_ttl": "60s", "max_worker_memory": 256},
        "dynamic_allocator": {"max_workers": 3},
    }
    assert read(**pool).warnings == ()
