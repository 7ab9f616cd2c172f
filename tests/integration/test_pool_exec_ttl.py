"""``supervisor.exec_ttl`` with real workers: what the log has before a call, or its worker, is given up."""

from __future__ import annotations

import subprocess
import sys

import pytest
from rig import serving, until

from twisted_rr.pool import stacks
from twisted_rr.worker import stacks as worker_stacks

POOL = {"num_workers": 1, "supervisor": {"exec_ttl": "600ms"}}


def cut(server, path):
    """Send a request that hangs; what the log has when its worker has told its stacks."""
    http = server.get(f"{path}?password=secret", headers={"X-Request-Id": "id-4711"})
    assert http[0] == 504
    told = [record for record in server.records() if record.get("event") == "call_cut"]
    assert len(told) == 1
    assert f"GET {path} (id-4711)" in told[0]["msg"]
    assert told[0]["age"] >= 0.6
    return told[0]["pid"], lambda: server.log()


def test_a_call_that_awaits_shows_its_task_and_its_worker_goes_on(tmp_path):
    with serving(tmp_path, "hanging_app:asgi", http={"pool": POOL}) as server:
        pid, log = cut(server, "/await")
        until(lambda: "in waits_in_vain" in log(), why="the task's stack is not told")
        assert "Task" in log() and "secret" not in log()
        assert server.get("/")[2] == b"fine"
        assert server.workers() == [pid]


def test_a_call_that_blocks_the_loop_shows_its_thread(tmp_path):
    with serving(tmp_path, "hanging_app:asgi", http={"pool": POOL}) as server:
        pid, log = cut(server, "/block")
        until(lambda: "in holds_the_loop" in log(), why="the thread's stack is not told")
        assert f"worker {pid}: Current thread" in log() or f"worker {pid}: Thread" in log()


def test_a_worker_of_one_call_is_killed_after_it_has_shown_its_stacks(tmp_path):
    with serving(tmp_path, "hanging_app:wsgi", sdk=("--no-mux",), http={"pool": POOL}) as server:
        pid, log = cut(server, "/block")
        until(lambda: f"worker {pid} ended" in log(), why="it goes on")
        assert log().index("in holds_the_loop") < log().index(f"worker {pid} ended: exec_ttl")
        until(lambda: server.get("/")[2] == b"fine")


def test_a_forked_worker_shows_its_stacks_in_its_own_lines(tmp_path):
    with serving(tmp_path, "hanging_app:asgi", sdk=("--preload",), http={"pool": POOL}) as server:
        pid, log = cut(server, "/await")
        until(lambda: "in waits_in_vain" in log())
        assert f"worker {pid}: Task" in log()


def test_a_program_that_does_not_catch_the_signal_is_not_sent_it():
    with subprocess.Popen(["sleep", "30"]) as process:
        assert not stacks.ask(process.pid, 0)
        assert not stacks.ask(process.pid, 1), "a pid of another group is not the worker's"
        assert process.poll() is None
        process.kill()


def test_both_sides_mean_the_same_signal():
    assert stacks.SIGNAL == worker_stacks.SIGNAL


def test_a_program_that_catches_it_tells_its_threads():
    program = (
        "from twisted_rr.worker import stacks; import sys, time; stacks.install()\n"
        "def here(): print(flush=True); time.sleep(30)\n"
        "here()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        assert stacks.ask(process.pid, process.pid)
        assert any(" in here" in process.stderr.readline() for _ in range(3))
        process.kill()


@pytest.mark.slow
def test_a_worker_that_does_not_end_a_cancelled_call_is_replaced(tmp_path):
    with serving(tmp_path, "hanging_app:asgi", http={"pool": POOL}) as server:
        pid, _ = cut(server, "/block")
        assert pid in server.workers(), "it gets its time"
        until(lambda: any(record.get("event") == "worker_disobeys" for record in server.records()), 20)
        [told] = [record for record in server.records() if record.get("event") == "worker_disobeys"]
        assert "GET /block after 1" in told["calls"], "some ten seconds"
        until(lambda: pid not in server.workers(), 10, why="it goes on")
        until(lambda: server.get("/")[2] == b"fine")
        shown = [record for record in server.records() if "in holds_the_loop" in record.get("line", "")]
        assert len(shown) == 2, "its stacks are shown again"
