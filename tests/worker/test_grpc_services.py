"""What is registered, how it is told apart, and what grpcio's names stand for; without a worker process."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import pytest

from twisted_rr.worker.grpc import Services
from twisted_rr.worker.grpc.context import as_uri
from twisted_rr.worker.grpc.services import Method, is_async
from twisted_rr.worker.grpc.status import number, outgoing, text_of, without_rich


def sync(request: Any, context: Any) -> bytes:
    return b""


async def coroutine(request: Any, context: Any) -> bytes:
    return b""


async def generator(request: Any, context: Any) -> Any:
    yield b""


class Called:
    async def __call__(self, request: Any, context: Any) -> bytes:
        return b""


def handler(
    behavior: Any = sync, streams: tuple[bool, bool] = (False, False), **more: Any
) -> SimpleNamespace:
    """A grpc.RpcMethodHandler by duck type."""
    kinds = dict.fromkeys(("unary_unary", "unary_stream", "stream_unary", "stream_stream"))
    kind = ("stream" if streams[0] else "unary") + "_" + ("stream" if streams[1] else "unary")
    kinds[kind] = behavior
    return SimpleNamespace(
        request_streaming=streams[0], response_streaming=streams[1],
        request_deserializer=None, response_serializer=None, **{**kinds, **more},
    )  # fmt: skip


@pytest.mark.parametrize("streams", [(False, False), (False, True), (True, False), (True, True)])
def test_method_takes_the_behavior_of_its_kind(streams: tuple[bool, bool]) -> None:
    method = Method.of("/s/m", handler(coroutine, streams))
    assert method.behavior is coroutine and method.asynchronous
    assert (method.request_streaming, method.response_streaming) == streams


def test_coroutines_are_told_from_functions() -> None:
    assert [is_async(one) for one in (coroutine, generator, Called(), functools.partial(coroutine, 1))] == [
        True
    ] * 4
    assert [is_async(one) for one in (sync, lambda r, c: r, functools.partial(sync, 1), len)] == [False] * 4


def test_registered_methods_win_over_generic_ones() -> None:
    services = Services()
    generic = SimpleNamespace(service=lambda details: handler(coroutine))
    services.add_generic_rpc_handlers((generic,))
    services.add_registered_method_handlers("p.S", {"M": handler(sync)})
    found = services.find("p.S", "M", [])
    assert found is not None and found.behavior is sync and found.path == "/p.S/M"
    other = services.find("p.S", "N", [])
    assert other is not None and other.behavior is coroutine


def test_generic_handlers_are_asked_with_method_and_metadata() -> None:
    asked: list[Any] = []
    services = Services()
    services.add_generic_rpc_handlers((SimpleNamespace(service=asked.append),))
    assert services.find("p.S", "M", [("k", "v")]) is None
    assert asked[0].method == "/p.S/M"
    assert [(pair.key, pair.value) for pair in asked[0].invocation_metadata] == [("k", "v")]


def test_generic_handler_of_a_dictionary_needs_no_loop() -> None:
    services = Services()
    services.add_generic_rpc_handlers((SimpleNamespace(_method_handlers={"/p.S/M": handler(sync)}),))
    assert services.names() == ["p.S"] and not services.needs_loop()
    assert services.find("p.S", "M", []) is not None


def test_a_loop_is_needed_for_coroutines_and_for_what_is_not_known() -> None:
    services = Services()
    services.method("p.S/M", sync)
    assert not services.needs_loop()
    services.method("p.S/N", coroutine)
    assert services.needs_loop()
    services = Services()
    services.add_generic_rpc_handlers(
        (SimpleNamespace(service=lambda details: None, service_name=lambda: "p.G"),)
    )
    assert services.needs_loop() and services.names() == ["p.G"]


def test_nothing_registered_is_nothing() -> None:
    services = Services()
    assert not services
    services.method("p.S/M", sync)
    assert services


def test_method_is_a_decorator_too_and_gives_the_handler_back() -> None:
    services = Services()
    assert services.method("/p.S/M")(sync) is sync
    assert services.method("p.S/N", sync, kind="stream_stream") is sync
    found = services.find("p.S", "N", [])
    assert found is not None and found.request_streaming and found.response_streaming


@pytest.mark.parametrize("path", ["", "p.S", "p.S/", "/M", "p.S/M/N"])
def test_path_without_service_or_method_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="no path"):
        Services().method(path, sync)


def test_kind_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="unary_unary"):
        Services().method("p.S/M", sync, kind="unary")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (5, 5),
        (SimpleNamespace(value=(7, "x")), 7),
        (SimpleNamespace(value=3), 3),
        ("NOT_FOUND", 2),
        (True, 2),
        (-1, 2),
        (None, 2),
    ],
)
def test_number_of_a_code(code: Any, expected: int) -> None:
    assert number(code) == expected


def test_text_of_details() -> None:
    assert [text_of(one) for one in ("a", b"\xc3\xa9", None, 5)] == ["a", "é", "", "5"]


def test_metadata_out_is_checked() -> None:
    assert outgoing(None) == [] == outgoing(())
    assert outgoing([(b"k", b"v"), ("b-bin", bytearray(b"\0"))]) == [("k", "v"), ("b-bin", b"\0")]
    for bad in [("K", "v"), ("k v", "v"), (":k", "v"), ("", "v"), (5, "v"), ("k", "a\nb"), ("k", "é")]:
        with pytest.raises(ValueError):
            outgoing([bad])
    for mistyped in [("k", 5), ("k-bin", "text")]:
        with pytest.raises(TypeError):
            outgoing([mistyped])


def test_rich_status_is_taken_out_of_metadata() -> None:
    assert without_rich([("a", "1")]) == (None, [("a", "1")])
    assert without_rich([("a", "1"), ("grpc-status-details-bin", b"x")]) == (b"x", [("a", "1")])


@pytest.mark.parametrize(
    ("peer", "uri"),
    [
        ("192.0.2.1:5", "ipv4:192.0.2.1:5"), ("[::1]:5", "ipv6:[::1]:5"), ("::1", "ipv6:::1"), ("unix:", "unix:"),
        ("/run/x", "unix:/run/x"), ("ipv4:1.2.3.4:5", "ipv4:1.2.3.4:5"), ("", ""),
    ],
)  # fmt: skip
def test_peer_is_written_as_grpc_does(peer: str, uri: str) -> None:
    assert as_uri(peer) == uri
