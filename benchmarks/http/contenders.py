"""Who runs, with which command line. Two worker processes each unless the name says otherwise; access logs off."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import compiled, roadrunner
from benchmarks.contender import BIN, Contender, free_port

HERE = Path(__file__).resolve().parent


def rr_config(python: str, worker: list[str], port: int) -> str:
    """Our configuration; *python* runs the workers."""
    return json.dumps(
        {
            "version": "3",
            # RoadRunner's worker gets pipes from RoadRunner too; a command that is no PHP does not show what it is.
            "server": {"command": [python, *worker], "relay_pipes": str(roadrunner.WORKER) in worker},
            "http": {"address": f"127.0.0.1:{port}", "pool": {"num_workers": 2}},
            "status": {"address": f"127.0.0.1:{free_port()}"},
            "logs": {"level": "warn"},
        }
    )


def go_config(port: int) -> str:
    """RoadRunner's."""
    return json.dumps(
        {
            "version": "3",
            "rpc": {"listen": f"tcp://127.0.0.1:{free_port()}"},
            "server": {"command": [sys.executable, str(roadrunner.WORKER), "http"]},
            "http": {"address": f"127.0.0.1:{port}", "pool": {"num_workers": 2}},
            "status": {"address": f"127.0.0.1:{free_port()}"},
            "logs": {"mode": "production", "level": "error"},
        }
    )


def contenders(program: Path | None = None, built: Path | None = None) -> list[Contender]:
    """All of them; Go RoadRunner where its *program* is, our compiled build where *built*, its programs, are.

    rr-asgi holds many calls on a relay, rr-wsgi takes one at a time, and rr-worker runs RoadRunner's one-call worker.
    """
    uvicorn_options = ("--no-access-log", "--log-level", "warning", "apps:asgi")
    found = [
        *ours(BIN),
        *(ours(built, compiled.SUFFIX) if built is not None else []),
        _peer("gunicorn-sync", "gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "2", "apps:wsgi"),
        _peer(
            "gunicorn-gthread", "gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "2",
            "--worker-class", "gthread", "--threads", "4", "apps:wsgi",
        ),
        _peer("uvicorn-1", "uvicorn", "--port", "{port}", "--workers", "1", *uvicorn_options),
        _peer("uvicorn-2", "uvicorn", "--port", "{port}", "--workers", "2", *uvicorn_options),
        _granian("asgi"),
        _granian("wsgi"),
    ]  # fmt: skip
    if program is not None:
        command = [str(program), "{folder}/{name}.yaml"]
        found.append(Contender("roadrunner", command, HERE, config=go_config, bodies=False))
    return found


def ours(programs: Path, suffix: str = "") -> list[Contender]:
    """The three of ours, server and workers from the environment with these *programs*."""

    def one(name: str, worker: list[str], bodies: bool = True) -> Contender:
        command = [str(programs / "twisted-rr"), "serve", "-w", str(HERE), "-c", "{folder}/{name}.yaml"]
        config: Callable[[int], str] = partial(rr_config, str(programs / "python"), worker)
        return Contender(name + suffix, command, HERE, config=config, bodies=bodies)

    sdk = ["-m", "twisted_rr.worker"]
    return [
        one("rr-asgi", [*sdk, "apps:asgi"]),
        one("rr-wsgi", [*sdk, "--no-mux", "apps:wsgi"]),
        one("rr-worker", [str(roadrunner.WORKER), "http"], bodies=False),
    ]


def _peer(name: str, program: str, *options: str) -> Contender:
    return Contender(name, [str(BIN / program), *options], HERE)


def _granian(interface: str) -> Contender:
    options = ("--port", "{port}", "--workers", "2", "--no-access-log", "--log-level", "warning")
    return _peer(f"granian-{interface}", "granian", "--interface", interface, *options, f"apps:{interface}")
