"""An application that crashes as soon as it is imported, and then is mended: what is told, and how soon it serves."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest
from rig import serving, until

GOOD = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})
"""
BAD = "import os\nPID = os.getpid()\nraise ValueError(f'broken at start of {PID}')\n"


@pytest.mark.parametrize("sdk", [(), ("--preload",)], ids=["plain", "preload"])
def test_a_crash_loop_and_its_end(tmp_path, sdk):
    program = tmp_path / "looping.py"
    program.write_text(GOOD)
    config = {"server": {"directory": str(tmp_path)}}
    with serving(tmp_path, "looping:app", workers=2, sdk=sdk, **config) as server:
        assert server.get("/")[2] == b"fine"
        program.write_text(BAD)
        if sdk:
            until(lambda: kill_all(server), why="the workers do not go")
        else:
            kill_all(server)
        until(lambda: server.status("/ready")[0] == 503, why="it says that it is ready")
        # Nobody waits in vain: what comes is refused at once, as soon as the loop is known.
        until(lambda: server.get("/", timeout=20)[0] == 503, why="calls wait")
        until(lambda: refused_at_once(server))
        watched = time.monotonic() + 3
        while time.monotonic() < watched:
            assert server.status("/health")[0] == 200, "a start is scheduled, so it is not stuck"
            assert server.status("/ready")[0] == 503
            time.sleep(0.2)
        errors = [record for record in server.records() if "did not start" in record["msg"]]
        assert len(errors) >= 5
        # At most one spawn a step: the steps are 0.1, 0.2, 0.4, then 0.5 s, each shortened by a quarter at most.
        times = [record["time"] for record in errors]
        assert len(set(times)) == len(times)
        tracebacks = [
            record
            for record in server.records()
            if record.get("kind") == "worker" and record["line"].startswith("ValueError: broken at")
        ]
        assert len(tracebacks) == 1
        [tripped] = [record for record in server.records() if record.get("event") == "crash_loop"]
        assert "ValueError: broken at start of" in tripped["said"]
        assert any("raise ValueError" in line for line in tripped["stderr"])

        program.write_text(GOOD)
        mended = time.monotonic()
        until(lambda: server.get("/", timeout=20)[0] == 200, why="it does not recover")
        assert time.monotonic() - mended < 3.0  # one second on a machine that has nothing else to do
        until(lambda: server.status("/ready")[0] == 200)
        until(lambda: len(server.workers()) >= 2)


def kill_all(server) -> bool:
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)
    return True


def refused_at_once(server) -> bool:
    begun = time.monotonic()
    return server.get("/", timeout=20)[0] == 503 and time.monotonic() - begun < 0.3


def test_where_no_start_is_possible_it_is_not_healthy(tmp_path):
    program = tmp_path / "run-worker"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -m twisted_rr.worker looping:app\n")
    program.chmod(0o755)
    away = tmp_path / "away"
    (tmp_path / "looping.py").write_text(GOOD)
    config = {
        "server": {"directory": str(tmp_path), "command": [str(program)]},
        "status": {"stuck_after": "2s"},
    }
    with serving(tmp_path, "", workers=1, **config) as server:
        program.rename(away)
        kill_all(server)
        until(lambda: server.status("/ready")[0] == 503)
        assert server.status("/health")[0] == 200
        until(lambda: server.status("/health")[0] == 503, 15, why="it calls itself healthy")
        away.rename(program)
        until(lambda: server.get("/", timeout=20)[0] == 200, why="it does not recover")
        assert server.status("/health")[0] == 200
