"""Servicers that grpcio-tools generates: registered by generated code, with grpcio's own codes and exceptions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rpc_rig import GrpcRelay
from worker_rig import Process

Start = Callable[..., Process]

ROOT = Path(__file__).resolve().parents[2]


def message(text: str) -> bytes:
    """echo.Message, its text shorter than 128 bytes."""
    data = text.encode()
    return b"\n" + bytes([len(data)]) + data if data else b""


@pytest.fixture
def begin(start: Start) -> Callable[[str], GrpcRelay]:
    def started(kind: str) -> GrpcRelay:
        script = str(Path(__file__).with_name("grpc_servicer.py"))
        folder = ROOT / "examples" / "grpc"
        return GrpcRelay(start(kind, module=[script], cwd=folder, env={"PYTHONPATH": str(folder)}))

    return started


@pytest.fixture(params=("sync", "async", "serve", "generic"))
def relay(request: pytest.FixtureRequest, begin: Callable[[str], GrpcRelay]) -> GrpcRelay:
    return begin(request.param)


def test_all_four_kinds(relay: GrpcRelay) -> None:
    assert relay.rpc("echo.Echo/Say", message("hi")).wait().messages == [message("hi")]
    assert relay.rpc("echo.Echo/Count", message("3")).wait().messages == [message(word) for word in "012"]
    assert relay.rpc("echo.Echo/Join", message("a"), message("b")).wait().messages == [message("a b")]
    assert relay.rpc("echo.Echo/Chat", message("a"), message("b")).wait().messages == [
        message("A"),
        message("B"),
    ]


def test_grpcs_status_codes(relay: GrpcRelay) -> None:
    assert relay.rpc("echo.Echo/Say", message("abort")).wait().status == (5, "not there")
    assert relay.rpc("echo.Echo/Say", message("code")).wait().status == (15, "lost")


def test_context_passes_for_grpcs(relay: GrpcRelay) -> None:
    assert relay.rpc("echo.Echo/Say", message("isinstance")).wait().messages == [message("True")]


def test_message_that_does_not_parse_is_internal(relay: GrpcRelay) -> None:
    assert relay.rpc("echo.Echo/Say", b"\xff").wait().status == (13, "Exception deserializing request!")
    assert relay.rpc("echo.Echo/Join", message("a"), b"\xff").wait().status == (
        13,
        "Exception deserializing request!",
    )
    assert "DecodeError" in relay.process.stderr


def test_method_of_another_service_is_unimplemented(relay: GrpcRelay) -> None:
    assert relay.rpc("echo.Other/Say", b"").wait().status == (12, "Method not found!")


def test_exceptions_are_of_grpcs_classes(begin: Callable[[str], GrpcRelay]) -> None:
    relay = begin("sync")
    relay.rpc("echo.Echo/Say", message("abort")).wait()
    assert "an AbortError, as in grpcio: Aborted" in relay.process.stderr
    rpc = relay.begin("echo.Echo/Join").send(message("a"), more=True)
    relay.step(0.05)
    rpc.call.cancel("client")
    relay.until(lambda: "an RpcError, as in grpcio: CallOver" in relay.process.stderr)


def test_status_object_of_grpc(begin: Callable[[str], GrpcRelay]) -> None:
    assert begin("sync").rpc("echo.Echo/Say", message("rich")).wait().status == (11, "too far")


def test_generic_handler_is_asked_about_each_call(begin: Callable[[str], GrpcRelay]) -> None:
    relay = begin("generic")
    assert relay.rpc("echo.Generic/Say", b"abc").wait().messages == [b"cba"]
    assert relay.rpc("echo.Generic/No", b"abc").wait().status == (12, "Method not found!")


def test_worker_serves_on_a_loop_that_is_there(begin: Callable[[str], GrpcRelay]) -> None:
    relay = begin("serve")
    assert relay.accepted.streams == 7 and relay.accepted.services == ("echo.Echo",)
    assert relay.process.stop() == 0


def test_the_example_serves(start: Start) -> None:
    folder = ROOT / "examples" / "grpc"
    relay = GrpcRelay(start(module=["worker.py"], cwd=folder))
    rpc = relay.rpc("echo.Echo/Say", message("hello")).wait()
    assert rpc.messages == [message("hello")] and rpc.trailers == [("length", "5")]
    assert relay.rpc("echo.Echo/Say", b"").wait().status == (3, "there is nothing to say")
    assert relay.rpc("echo.Echo/Count", message("2")).wait().messages == [message("0"), message("1")]
    assert relay.rpc("echo.Echo/Join", message("a"), message("b")).wait().messages == [message("a b")]
    assert relay.rpc("echo.Echo/Chat", message("a")).wait().messages == [message("a, ipv4:192.0.2.7:4711")]


def test_grpcio_is_not_loaded_for_handlers_of_bytes() -> None:
    code = (
        "import sys, twisted_rr.worker.grpc.serving;"
        "print([name for name in ('grpc', 'google.protobuf', 'twisted', 'zope', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_worker_without_grpc_does_not_load_it() -> None:
    code = (
        "import sys, twisted_rr.worker, twisted_rr.worker.command;"
        "print([name for name in sys.modules if name.startswith('twisted_rr.worker.grpc')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
