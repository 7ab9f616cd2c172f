"""Clients that are not grpcio's: Go's own interoperability client, grpcurl and the probe that Kubernetes' users run.

`scripts/grpc-clients` builds them into .grpc-clients where Go is found; those on PATH do as well. What is not there did not
run, and says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc_rig import GRPC_APPS, grpc_server
from rig import RunningServer, until

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]

#: Those of the well-known cases that need no cloud.
CASES = (
    "empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
    "timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "status_code_and_message",
    "special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service",
)  # fmt: skip


def client(name: str) -> str:
    """The program, or the test is skipped."""
    path = os.pathsep.join((str(ROOT / ".grpc-clients"), os.environ.get("PATH", "")))
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} did not run: it is not here")
    return found


def run(*command: Any, seconds: float = 30) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=seconds)


@pytest.fixture(scope="module")
def server(tmp_path_factory: Any) -> Iterator[RunningServer]:
    folder: Path = tmp_path_factory.mktemp("clients")
    with grpc_server(folder, worker="testservice.py", proto=[str(GRPC_APPS / "testing.proto")]) as running:
        yield running


@pytest.mark.parametrize("case", CASES)
def test_the_case_of_the_client_of_go_passes(server: RunningServer, case: str) -> None:
    done = run(
        client("grpc-interop-client"),
        "-server_host=127.0.0.1",
        f"-server_port={server.port}",
        f"-test_case={case}",
    )
    assert done.returncode == 0, done.stderr


def test_grpcurl_lists_describes_and_calls(server: RunningServer) -> None:
    def grpcurl(*words: str) -> str:
        done = run(client("grpcurl"), "-plaintext", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    address = f"127.0.0.1:{server.port}"
    assert "grpc.testing.TestService" in grpcurl(address, "list").split()
    assert "FullDuplexCall" in grpcurl(address, "list", "grpc.testing.TestService")
    method = grpcurl(address, "describe", "grpc.testing.TestService.StreamingOutputCall")
    assert "returns ( stream .grpc.testing.StreamingOutputCallResponse )" in method
    assert ".grpc.testing.EchoStatus response_status = 7;" in grpcurl(
        address, "describe", ".grpc.testing.SimpleRequest"
    )
    assert '"body": "AAAA"' in grpcurl(
        "-d", '{"response_size": 3}', address, "grpc.testing.TestService/UnaryCall"
    )


@pytest.mark.parametrize(
    ("service", "code"),
    [
        ("", 0),
        ("readiness", 0),
        ("liveness", 0),
        ("startup", 0),
        ("grpc.testing.TestService", 0),
        ("no.such", 3),
    ],
)
def test_the_probe_reads_health(server: RunningServer, service: str, code: int) -> None:
    done = run(client("grpc-health-probe"), "-addr", f"127.0.0.1:{server.port}", "-service", service)
    assert done.returncode == code, done.stderr


def test_a_drain_under_the_clients_of_go(tmp_path: Path) -> None:
    """Health flips, reflection goes on, and no call of a client that comes again and again is lost."""
    ghz, probe, grpcurl = client("ghz"), client("grpc-health-probe"), client("grpcurl")
    drain = {"announce": {"min": "3s", "max": "3s"}}
    proto = [str(GRPC_APPS / "testing.proto")]
    with grpc_server(tmp_path, worker="testservice.py", proto=proto, drain=drain) as server:
        address = f"127.0.0.1:{server.port}"
        load = subprocess.Popen(
            [ghz, "--insecure", "--call", "grpc.testing.TestService/UnaryCall", "-d", '{"response_size": 100}',
             "-n", "400", "-r", "200", "-c", "10", "--connections", "3", "-O", "json", address],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert load.stdout is not None
        until(lambda: server.status("/health")[0] == 200)
        server.signal()
        until(lambda: server.status("/ready")[0] == 503)
        for service, code in (("", 4), ("readiness", 4), ("liveness", 0), ("startup", 0)):
            assert run(probe, "-addr", address, "-service", service).returncode == code
        assert "grpc.testing.TestService" in run(grpcurl, "-plaintext", address, "list").stdout
        counted = json.loads(load.communicate(timeout=30)[0])["statusCodeDistribution"]
        assert counted == {"OK": 400}
        assert server.wait() == 0
