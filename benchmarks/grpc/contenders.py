"""Who serves, with which command. Our pools and RoadRunner's have two workers; the others are one process, as they are run."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks import roadrunner
from benchmarks.contender import BIN, ROOT, Contender, free_port, greets

HERE = Path(__file__).resolve().parent
PROTO = ROOT / "examples" / "grpc" / "echo.proto"
STREAMS = 16
"""max_concurrent_streams: as many as the cells use at most."""

STREAMING = ("rr-servicer", "rr-bytes", "grpcio-sync", "grpcio-aio", "grpclib")
"""Who can answer with more than one message."""


def generate(folder: Path) -> None:
    """echo_pb2 and echo_pb2_grpc in *folder*."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO.parent}"]
    outputs = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    subprocess.run([*command, *outputs, str(PROTO)], check=True, timeout=60)


def _grpc(port: int) -> dict:
    return {
        "listen": f"tcp://127.0.0.1:{port}",
        "proto": [str(PROTO)],
        "max_concurrent_streams": STREAMS,
        "pool": {"num_workers": 2},
    }


def rr_config(worker: list[str], port: int) -> str:
    """Our configuration."""
    return json.dumps(
        {
            "version": "3",
            "server": {"command": [sys.executable, *worker]},
            "grpc": _grpc(port),
            "status": {"address": f"127.0.0.1:{free_port()}"},
            "logs": {"level": "warn"},
        }
    )


def go_config(port: int) -> str:
    """RoadRunner's, with the one-call worker."""
    return json.dumps(
        {
            "version": "3",
            "rpc": {"listen": f"tcp://127.0.0.1:{free_port()}"},
            "server": {"command": [sys.executable, str(roadrunner.WORKER), "grpc"]},
            "grpc": _grpc(port),
            "status": {"address": f"127.0.0.1:{free_port()}"},
            # A round's end cancels what is open, which RoadRunner logs as errors.
            "logs": {"mode": "none"},
        }
    )


def contenders(folder: Path, program: Path | None = None) -> list[Contender]:
    """All of them, with the classes that `generate` wrote to *folder*; Go RoadRunner where its *program* is."""
    found = [
        _rr(folder, "rr-servicer", [str(HERE / "worker.py"), "servicer"]),
        _rr(folder, "rr-bytes", [str(HERE / "worker.py"), "bytes"]),
        _rr(folder, "rr-one-call", [str(roadrunner.WORKER), "grpc"]),
        _peer(folder, "grpcio-sync", "sync"),
        _peer(folder, "grpcio-aio", "aio"),
        _peer(folder, "grpclib", "grpclib"),
    ]
    if program is not None:
        command = [str(program), "{folder}/{name}.yaml"]
        found.append(Contender("roadrunner", command, HERE, config=go_config, ready=greets))
    return found


def _rr(folder: Path, name: str, worker: list[str]) -> Contender:
    command = [str(BIN / "twisted-rr"), "serve", "-c", "{folder}/{name}.yaml"]
    return Contender(
        name, command, HERE, config=partial(rr_config, worker), ready=greets, path=(str(folder), str(ROOT))
    )


def _peer(folder: Path, name: str, kind: str) -> Contender:
    command = [sys.executable, str(HERE / "peers.py"), kind, "{port}"]
    return Contender(name, command, HERE, ready=greets, path=(str(folder),))
