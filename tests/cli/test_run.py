"""What a start tells: where it serves, how many workers there are, how long a stop may take."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from twisted_rr.cli.run import start_facts, url_of
from twisted_rr.lifecycle.budget import Budget


def pool(name: str, *limits: int) -> Any:
    return SimpleNamespace(name=name, workers=lambda: [SimpleNamespace(limit=limit) for limit in limits])


def front(name: str, address: str) -> Any:
    return SimpleNamespace(name=name, address=address)


HTTP = (front("http", "0.0.0.0:8000"), front("http", "unix:///run/x.sock"))


def server(*pools: Any, fronts: tuple[Any, ...] = HTTP) -> Any:
    phases = {"FRONT": list(fronts), "STATUS": [front("status", "127.0.0.1:2114"), object()]}
    return SimpleNamespace(
        phase=phases.__getitem__,
        fronts=lambda: list(fronts),
        pools=lambda: list(pools),
        drain=SimpleNamespace(budget=Budget()),
    )


def test_it_tells_where_and_how_long() -> None:
    facts = start_facts(server())
    assert facts["serving"] == "http://127.0.0.1:8000, unix:///run/x.sock"
    assert facts["status"] == "http://127.0.0.1:2114"
    assert facts["stop"].startswith("within 30s")
    assert "workers" not in facts


def test_a_grpc_front_is_no_page_for_a_browser() -> None:
    fronts = (HTTP[0], front("grpc", "0.0.0.0:9001"), front("grpc", "unix:///run/g.sock"))
    told = "http://127.0.0.1:8000, grpc 127.0.0.1:9001, unix:///run/g.sock"
    assert start_facts(server(fronts=fronts))["serving"] == told


def test_a_server_without_a_front_does_not_claim_to_serve() -> None:
    assert start_facts(server(fronts=()))["serving"] == "nothing"


@pytest.mark.parametrize(
    ("pools", "said"),
    [
        ([pool("http", 1000, 1000)], "2 x 1000 calls at once"),
        ([pool("http", 1)], "1 x 1 call at once"),
        ([pool("http", 8, 8), pool("grpc", 1)], "http 2 x 8 calls at once, grpc 1 x 1 call at once"),
        # A pool in debug mode has one for each call, and none before.
        ([pool("http")], "none"),
    ],
)
def test_every_pool_is_named(pools: list[Any], said: str) -> None:
    assert start_facts(server(*pools))["workers"] == said


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1:80", "http://127.0.0.1:80"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "http://127.0.0.1:80"),
        ("[::1]:80", "http://[::1]:80"),
        (":80", "http://127.0.0.1:80"),
        ("unix:///x", "unix:///x"),
    ],
)
def test_an_address_is_shown_as_one_would_type_it(address: str, url: str) -> None:
    assert url_of(address) == url
