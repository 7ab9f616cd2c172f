"""What differs between two configurations: keys, by their paths, never values."""

from __future__ import annotations

from typing import Any

import pytest

from twisted_rr.build import registry
from twisted_rr.config import load
from twisted_rr.config.difference import changed_keys, covers
from twisted_rr.discovery import discover
from twisted_rr.lifecycle.settings import DrainSettings

BASE: dict[str, Any] = {
    "version": "3",
    "server": {"command": ["php", "worker.php"], "env": {"TOKEN": "secret", "B": "1"}},
    "http": {"address": "127.0.0.1:8080", "pool": {"num_workers": 2}},
}
REGISTRY = registry(discover())


def read(environ: dict[str, str] | None = None, **sections: Any) -> Any:
    return load({**BASE, **sections}, REGISTRY, environ=environ)


def test_the_same_is_no_difference() -> None:
    assert changed_keys(read(), read()) == ()


def test_keys_are_told_at_any_depth() -> None:
    http = {"address": "127.0.0.1:8081", "pool": {"num_workers": 3, "supervisor": {"ttl": "1h"}}}
    assert changed_keys(read(), read(http=http)) == (
        "http.address",
        "http.pool.num_workers",
        "http.pool.supervisor",
    )


def test_what_is_written_as_its_default_is_no_difference() -> None:
    http = {**BASE["http"], "access_logs": False, "timeouts": {}}
    assert changed_keys(read(), read(http=http, logs={})) == ()


def test_a_section_that_comes_or_goes_is_told_by_its_name() -> None:
    with_status = read(status={"address": "127.0.0.1:2114"})
    assert changed_keys(read(), with_status) == ("status",)
    assert changed_keys(with_status, read()) == ("status",)


def test_general_sections_have_their_defaults_when_absent() -> None:
    assert changed_keys(read(), read(endure={"grace_period": "10s"})) == ("endure.grace_period",)
    assert changed_keys(read(logs={"level": "debug"}), read()) == ("logs.level",)


def test_what_an_absent_section_means_can_be_said() -> None:
    new = read(drain={"flush": "2s"})
    assert changed_keys(read(), new) == ("drain",)
    assert changed_keys(read(), new, {"drain": DrainSettings()}) == ("drain.flush",)
    assert changed_keys(read(drain={}), read(), {"drain": DrainSettings()}) == ()


def test_names_of_maps_are_told_and_their_values_are_not() -> None:
    server = {**BASE["server"], "env": {"TOKEN": "other", "C": "1"}}
    assert changed_keys(read(), read(server=server)) == ("server.env.B", "server.env.C", "server.env.TOKEN")


def test_inherited_variables_are_told_wherever_they_come_from() -> None:
    old = read({"A": "1", "LISTEN_FDS": "1"}, env={"B": "1"})
    new = read({"A": "2", "LISTEN_FDS": "2"}, env={"B": "2"})
    assert changed_keys(old, new, private=("LISTEN_FDS",)) == ("env.A", "env.B")


@pytest.mark.parametrize(
    ("path", "covered"),
    [
        ("http.pool", True),
        ("http.pool.num_workers", True),
        ("http.pools", False),
        ("http", False),
        ("x", True),
    ],
)
def test_a_key_covers_all_below_it(path: str, covered: bool) -> None:
    assert covers({"http.pool", "x"}, path) is covered
