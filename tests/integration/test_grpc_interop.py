"""grpcio's own client against the real server: the well-known interoperability cases, health and reflection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc_rig import PROTO, Client, grpc_server, run
from rig import RunningServer

pytestmark = pytest.mark.integration

CASES = (
    "empty_unary", "large_unary:271828,314159", "gzip", "client_streaming", "server_streaming", "ping_pong",
    "empty_stream", "cancel_after_begin", "cancel_after_first_response", "timeout_on_sleeping_server",
    "cancelled_unary", "status_code_and_message", "raises", "unimplemented_method", "unimplemented_service",
    "custom_metadata", "never_reads", "push", "speaks_first", "health", "reflection", "reflection_v1",
)  # fmt: skip

SERVICES = ["rr.interop.Interop", "rr.interop.Unimplemented"]

EXPECTED: dict[str, Any] = {
    "empty_unary": True,
    "large_unary": 314159,
    "gzip": 100000,
    "client_streaming": 74922,
    "server_streaming": [31415, 9, 2653, 58979],
    "ping_pong": [31415, 9, 2653, 58979],
    "empty_stream": [],
    "cancel_after_begin": "CANCELLED",
    "cancel_after_first_response": "CANCELLED",
    "cancelled_unary": "CANCELLED",
    "status_code_and_message": [True, {"code": "NOT_FOUND", "details": "gone"}],
    "unimplemented_method": {"code": "UNIMPLEMENTED", "details": "Method not implemented!"},
    "unimplemented_service": {"code": "UNIMPLEMENTED", "details": "unknown service no.such.Service"},
    "custom_metadata": ["test_initial_metadata_value", "ababab"] * 2,
    "never_reads": [True, 1999],
    "push": 50000000,
    "speaks_first": {"x-echo": "hello"},
    "health": {
        "": "SERVING",
        "rr.interop.Interop": "SERVING",
        "readiness": "SERVING",
        "liveness": "SERVING",
        "startup": "SERVING",
        "no.such": "NOT_FOUND",
        "watch": "SERVICE_UNKNOWN",
        "list": sorted(["", "liveness", "readiness", "startup", *SERVICES]),
    },
    "reflection": {
        "services": [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
            *SERVICES,
        ],
        "methods": [
            "EmptyCall",
            "UnaryCall",
            "StreamingOutputCall",
            "StreamingInputCall",
            "FullDuplexCall",
            "UnimplementedCall",
        ],
        "input": ["body", "code", "message", "size", "sizes", "sleep"],
        "health": ["Check", "List", "Watch"],
    },
    "reflection_v1": [5, 5],
}


@pytest.fixture(scope="module", params=["threads", "async"])
def results(request: Any, tmp_path_factory: Any) -> Iterator[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp(f"interop-{request.param}")
    with grpc_server(folder, request.param, proto=[PROTO]) as server:
        yield run(server, *CASES)


@pytest.mark.parametrize("case", sorted(EXPECTED))
def test_the_case_passes(results: dict[str, Any], case: str) -> None:
    assert results[case] == EXPECTED[case]


def test_a_deadline_is_kept(results: dict[str, Any]) -> None:
    assert results["timeout_on_sleeping_server"]["code"] == "DEADLINE_EXCEEDED"


def test_an_exception_is_unknown(results: dict[str, Any]) -> None:
    found = results["raises"]
    assert found["code"] == "UNKNOWN"
    assert "boom" in found["details"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: Any) -> Iterator[RunningServer]:
    folder: Path = tmp_path_factory.mktemp("grpc")
    with grpc_server(folder, proto=[PROTO], env={"EVENTS": str(folder / "events")}) as running:
        yield running


def events(server: RunningServer) -> list[str]:
    return (server.file.parent / "events").read_text().split("\n")


def test_messages_of_many_megabytes_pass_and_larger_ones_are_refused(server: RunningServer) -> None:
    assert run(server, "large_unary:20000000,20000000")["large_unary"] == 20000000
    found = run(server, "large_unary:53000000,1")["large_unary"]
    assert found["code"] == "RESOURCE_EXHAUSTED"
    assert "received message larger than max" in found["details"]
    found = run(server, "large_unary:1,53000000")["large_unary"]
    assert found["code"] == "RESOURCE_EXHAUSTED"
    assert "trying to send message larger than max" in found["details"]


def test_cancel_and_deadline_reach_the_handler(server: RunningServer) -> None:
    (server.file.parent / "events").unlink(missing_ok=True)
    run(server, "cancelled_unary")
    run(server, "timeout_on_sleeping_server")
    from rig import until

    until(lambda: events(server).count("cancelled") == 2, why="the handlers did not hear of it")
    assert "remaining 0.3" in events(server)
    assert "no deadline" in events(server)


def test_many_calls_at_once_are_answered(server: RunningServer) -> None:
    assert Client(server.port, "many:50,0.2,2").results()["many"] == {"OK": 50}
