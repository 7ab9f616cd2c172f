"""gRPC with workers of one call at a time, as they are under RoadRunner: on bare frames, and in PHP."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc_rig import GRPC_APPS, Client, grpc_server, run
from rig import RunningServer, until

pytestmark = pytest.mark.integration

PATH = "/rr.test.Raw/Do"


@pytest.fixture(scope="module")
def server(tmp_path_factory: Any) -> Iterator[RunningServer]:
    folder: Path = tmp_path_factory.mktemp("raw")
    command = [sys.executable, str(GRPC_APPS / "raw_grpc.py")]
    with grpc_server(folder, command=command) as running:
        yield running


def raw(server: RunningServer, text: str, path: str = PATH) -> dict[str, Any]:
    found: dict[str, Any] = run(server, f"raw:{path},{text}")["raw"]
    return found


def test_the_context_is_roadrunners(server: RunningServer) -> None:
    found = json.loads(raw(server, "context")["answer"])
    assert (found["service"], found["method"]) == ("rr.test.Raw", "Do")
    context = found["context"]
    assert context["x-one"] == ["1", "2"]
    assert context[":authority"] == [f"127.0.0.1:{server.port}"]
    assert context[":peer.address"][0].startswith("127.0.0.1:")
    assert context["content-type"] == ["application/grpc"]
    assert context["user-agent"][0].startswith("grpc-python")
    assert not {"te", "grpc-timeout", ":path", ":method"} & set(context)


def test_metadata_comes_back(server: RunningServer) -> None:
    found = raw(server, "metadata")
    assert found["answer"] == "ok"
    assert ["x-head", "1"] in found["initial"]
    assert ["x-trail", "2"] in found["trailing"]
    assert "skipped" not in dict(found["initial"])


def test_statuses_in_both_forms(server: RunningServer) -> None:
    found = raw(server, "status")
    assert (found["code"], found["details"]) == ("NOT_FOUND", "gone")
    assert bytes.fromhex(found["rich"]) == b"\x08\x05\x12\x04gone\x1a\x03\x0a\x01x"
    found = raw(server, "error 3|:|bad|:|\n\x01x")
    assert (found["code"], found["details"]) == ("INVALID_ARGUMENT", "bad")
    found = raw(server, "error boom")
    assert (found["code"], found["details"]) == ("INTERNAL", "sync_worker_receive_frame: SoftJobError: boom")


def test_a_stream_is_refused_and_the_worker_goes_on(server: RunningServer) -> None:
    before = server.workers()
    found = raw(server, "stream")
    assert (found["code"], found["details"]) == ("UNKNOWN", "streaming is not supported")
    assert raw(server, "hello")["answer"] == "hello"
    assert server.workers() == before


def test_large_answers_pass(server: RunningServer) -> None:
    assert len(raw(server, "big 5000000")["answer"]) == 5000000


def test_a_call_under_way_is_answered_in_the_stop(tmp_path: Path) -> None:
    command = [sys.executable, str(GRPC_APPS / "raw_grpc.py")]
    events = tmp_path / "events"
    events.touch()
    with grpc_server(tmp_path, command=command, env={"EVENTS": str(events)}) as server:
        client = Client(server.port, f"raw:{PATH},sleep 3")
        until(events.read_text, why="the call did not begin")
        server.signal()
        assert "in_flight=1" in server.status("/health")[2].decode()
        assert client.results()["raw"]["answer"] == "slept"
        assert server.wait(10) == 0


@pytest.mark.skipif(shutil.which("php") is None, reason="needs PHP")
def test_a_php_worker_serves(tmp_path: Path) -> None:
    command = ["php", "-d", "display_errors=stderr", str(GRPC_APPS / "worker.php")]
    with grpc_server(tmp_path, command=command, env={}, workers=1) as server:
        found = raw(server, "hello", "/rr.test.Php/Do")
        assert found["answer"] == "rr.test.Php/Do hello"
        assert ["x-mode", "grpc"] in found["initial"]
        found = raw(server, "fail")
        assert (found["code"], found["details"]) == ("NOT_FOUND", "not in PHP")
