"""Who serves, with which command. Our pools and RoadRunner's have two workers; the others are one process, as they are run."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks import compiled, roadrunner
from benchmarks.contender import BIN, ROOT, Contender, free_port, greets

HERE = Path(__file__).resolve().parent
PROTO = ROOT / "examples" / "grpc" / "echo.proto"
STREAMS = 16
"""max_concurrent_streams: as many as the cells use at most."""

ONE_ANSWER = ("rr-one-call", "roadrunner")
"""Whose worker cannot answer with more than one message."""


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


def rr_config(python: str, worker: list[str], port: int) -> str:
    """Our configuration; *python* runs the workers."""
    return json.dumps(
        {
            "version": "3",
            # RoadRunner's worker gets pipes from RoadRunner too; a command that is no PHP does not show what it is.
            "server": {"command": [python, *worker], "relay_pipes": str(roadrunner.WORKER) in worker},
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


def contenders(folder: Path, program: Path | None = None, built: Path | None = None) -> list[Contender]:
    """All of them, with the classes that `generate` wrote to *folder*.

    Go RoadRunner where its *program* is, our compiled build where *built*, its programs, are.
    """
    found = [
        *ours(folder, BIN),
        *(ours(folder, built, compiled.SUFFIX) if built is not None else []),
        _peer(folder, "grpcio-sync", "sync"),
        _peer(folder, "grpcio-aio", "aio"),
        _peer(folder, "grpclib", "grpclib"),
    ]
    if program is not None:
        command = [str(program), "{folder}/{name}.yaml"]
        found.append(Contender("roadrunner", command, HERE, config=go_config, ready=greets))
    return found


def ours(folder: Path, programs: Path, suffix: str = "") -> list[Contender]:
    """The three of ours, server and workers from the environment with these *programs*."""

    def one(name: str, *worker: str) -> Contender:
        command = [str(programs / "twisted-rr"), "serve", "-c", "{folder}/{name}.yaml"]
        config = partial(rr_config, str(programs / "python"), list(worker))
        return Contender(name + suffix, command, HERE, config=config, ready=greets, path=(str(folder),))

    return [
        one("rr-servicer", str(HERE / "worker.py"), "servicer"),
        one("rr-bytes", str(HERE / "worker.py"), "bytes"),
        one("rr-one-call", str(roadrunner.WORKER), "grpc"),
    ]


def _peer(folder: Path, name: str, kind: str) -> Contender:
    command = [sys.executable, str(HERE / "peers.py"), kind, "{port}"]
    return Contender(name, command, HERE, ready=greets, path=(str(folder),))
