"""A pod's life as its owner sees it: kubelet-like probes, a call of half a minute, and what may not happen to it.

Times are a tenth of the real ones, unless `RR_REAL_TIMES=1`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
from rig import APPS, Background, RunningServer, config_for, free_port, serving, until

proves = pytest.mark.proves

REAL = os.environ.get("RR_REAL_TIMES") == "1"
SCALE = 1.0 if REAL else 0.1


class Kubelet(threading.Thread):
    """Probes /health and /ready every 2 s with a time-out of 1 s, and kills at its deadline.

    One failed liveness probe is one too many (failureThreshold 1).
    """

    def __init__(self, server: RunningServer, kill_after: float) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.kill_after = kill_after
        self.health: list[tuple[float, int]] = []
        self.ready: list[tuple[float, int]] = []
        self.signalled: float | None = None
        self.killed = False
        self._ended = threading.Event()
        self.start()

    def terminate(self) -> None:
        self.signalled = self.server.signal(signal.SIGTERM)

    def run(self) -> None:
        while not self._ended.is_set() and self.server.process.poll() is None:
            for path, seen in (("/health", self.health), ("/ready", self.ready)):
                at = time.monotonic()
                code = self.server.status(path)[0]
                seen.append((at, code if time.monotonic() - at < 1.0 else -1))
            if self.signalled is not None and time.monotonic() - self.signalled > self.kill_after:
                self.killed = True
                self.server.kill()
                return
            self._ended.wait(2.0 * SCALE)

    def end(self) -> None:
        self._ended.set()
        self.join(10)

    def failures(self) -> list[tuple[float, int]]:
        """Liveness probes that failed while the process was there; a refusal at its very end is none."""
        over = time.monotonic()
        return [(at, code) for at, code in self.health if code != 200 and not (code == 0 and over - at < 1.0)]


def probed_call(server: RunningServer, seconds: float) -> tuple[Kubelet, Background]:
    kubelet = Kubelet(server, 60.0 * SCALE)
    call = Background(server.get, f"/wait?seconds={seconds}", timeout=120)
    time.sleep(0.3)
    return kubelet, call


@pytest.mark.slow
@proves("I1", "I4", "I7", "I11", "I28")
def test_a_call_of_half_a_minute_survives_the_pod_s_deletion(tmp_path):
    with serving(tmp_path, endure={"grace_period": f"{55 * SCALE}s"}) as server:
        kubelet, call = probed_call(server, 30 * SCALE)
        kubelet.terminate()
        until(lambda: server.status("/ready")[0] == 503, 0.5, why="/ready did not fail at once")
        status, headers, _ = call.result(90)
        assert (status, headers["connection"]) == (200, "close")
        assert server.wait(10) == 0
        kubelet.end()
        assert not kubelet.killed and not kubelet.failures()
        assert len(kubelet.health) > 8
        report = stopped(server)
        assert (report["outcome"], report["finished"], report["cut"]) == ("drained", 1, 0)


@pytest.mark.slow
@proves("I4", "I7", "I11", "I28")
def test_with_nothing_configured_it_is_cut_and_the_report_says_what_to_set(tmp_path):
    """The default budget is real: 30 s, whatever the scale of the others."""
    with serving(tmp_path) as server:
        kubelet = Kubelet(server, 60.0)
        call = Background(server.get, "/wait?seconds=40", timeout=120)
        time.sleep(0.3)
        kubelet.terminate()
        assert call.result(90)[0] == 503
        assert server.wait(10) == 3
        kubelet.end()
        assert not kubelet.killed and not kubelet.failures()
        report = stopped(server)
        assert (report["outcome"], report["cut"]) == ("cut", 1)
        advice = " ".join(report["advice"])
        assert "endure.grace_period" in advice and "terminationGracePeriodSeconds" in advice
        blocker = report["blockers"][0]
        assert blocker["path"] == "/wait" and blocker["age"] > 20


def stopped(server: RunningServer) -> dict:
    (report,) = [record for record in server.records() if record.get("event") == "stopped"]
    return report


# ---------------------------------------------------------------------------- waiting is not stuck


def waiting_server(tmp_path: Path, kind: str):
    """A server whose workers wait in one of three ways; its path for a call of some seconds."""
    sections = {"endure": {"grace_period": f"{55 * SCALE}s"}, "status": {"stuck_after": f"{10 * SCALE}s"}}
    if kind == "php":
        if shutil.which("php") is None:
            pytest.skip("needs php")
        command = ["php", str(APPS / "sleeper.php")]
        return serving_command(tmp_path, command, **sections), "/?seconds={}"
    if kind == "wsgi":
        return serving(tmp_path, "blocked_app:app", **sections), "/?seconds={}"
    return serving(tmp_path, "fault_app:app", **sections), "/spin?seconds={}"


class serving_command:  # noqa: N801
    """As `rig.serving`, for workers that are no Python."""

    def __init__(self, tmp_path: Path, command: list[str], **sections) -> None:
        port, status_port = free_port(), free_port()
        config = config_for("", port=port, status_port=status_port, **sections)
        config["server"]["command"] = command
        self.server = RunningServer(tmp_path, config, port=port, status_port=status_port)

    def __enter__(self) -> RunningServer:
        return self.server.wait_ready()

    def __exit__(self, *error: object) -> None:
        try:
            if error[0] is None:
                self.server.stop()
        finally:
            self.server.kill()


def in_flight(server) -> int:
    """The requests in flight, as /health tells them."""
    document = json.loads(server.status("/health", {"Accept": "application/health+json"})[2] or b"{}")
    return document.get("checks", {}).get("http:inFlight", [{"observedValue": 0}])[0]["observedValue"]


@pytest.mark.parametrize("signalled", [True, False], ids=["stopping", "running"])
@pytest.mark.parametrize("kind", ["php", "wsgi", "cpu"])
@proves("I7")
def test_waiting_is_not_stuck(tmp_path, kind, signalled):
    """(i) a sleeping one-call worker, (ii) a thread on a silent socket, (iii) a loop held by computation, (iv) no signal."""
    seconds = (30 if signalled else 60) * SCALE
    server_of, path = waiting_server(tmp_path, kind)
    with server_of as server:
        kubelet = Kubelet(server, 60.0 * SCALE)
        calls = []
        for number in (1, 2):
            target = path.format(seconds if kind != "cpu" else seconds * 0.9)
            calls.append(Background(server.get, target, timeout=200))
            # One after the other: two that come in the same reactor turn may share a worker, and two that
            # compute there take twice as long, which is more than the budget of this test.
            until(lambda number=number: in_flight(server) == number, why="the call did not begin")
        if signalled:
            kubelet.terminate()
        assert {call.result(180)[0] for call in calls} == {200}
        if signalled:
            assert server.wait(10) == 0
        kubelet.end()
        assert not kubelet.failures() and len(kubelet.health) > 8


@proves("I8", "F5:running")
def test_all_workers_stopped_is_told_in_time(tmp_path):
    stuck_after = 10 * SCALE
    with serving(
        tmp_path, status={"stuck_after": f"{stuck_after}s"}, endure={"grace_period": "5s"}
    ) as server:
        calls = [Background(server.get, "/wait?seconds=1") for _ in range(6)]
        time.sleep(0.4)
        workers = server.workers()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        stopped_at = time.monotonic()
        try:
            until(lambda: server.status("/health")[0] == 503, stuck_after + 5, why="/health did not notice")
            assert time.monotonic() - stopped_at < stuck_after + 1.0
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
        until(lambda: server.status("/health")[0] == 200, 5, why="/health did not recover")
        assert {call.result()[0] for call in calls} == {200}
