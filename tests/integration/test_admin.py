"""The admin socket and its verbs on the real server: drain and back under load, hooks that race signals, reports."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from admin_rig import administered, ask, in_flight, report_of, runtime, socket_of, start, verb
from rig import APPS, BIN, Background, RunningServer, alive, config_for, free_port, until


class Load:
    """Clients that ask over and over, each on a connection of its own, and keep what went wrong."""

    def __init__(self, server: RunningServer, clients: int = 4) -> None:
        self.done = 0
        self.failed: list[object] = []
        self._ended = threading.Event()
        self._threads = [Background(self._ask, server) for _ in range(clients)]

    def _ask(self, server: RunningServer) -> None:
        while not self._ended.is_set():
            try:
                status, _, body = server.get("/hello", timeout=10)
            except OSError as error:
                self.failed.append(error)
                continue
            if (status, body) != (200, b"hello"):
                self.failed.append((status, body))
            self.done += 1

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.result(20)


# ------------------------------------------------------------------------------ drain and back


def test_a_drained_server_is_not_ready_and_serves_and_comes_back(tmp_path):
    with administered(tmp_path) as server:
        told = verb(server, "drain")
        assert told.returncode == 0, told.stderr
        assert told.stdout.startswith("drained: not ready, nothing in flight")
        code, headers, _ = server.status("/ready")
        assert (code, headers["x-rr-lifecycle"]) == (503, "drained")
        assert server.status("/health")[0] == server.status("/startup")[0] == 200
        status, headers, body = server.get("/hello")
        assert (status, headers["connection"], body) == (200, "close", b"hello")
        assert verb(server, "drain").returncode == 0, "once more is the same drain"
        assert verb(server, "undrain").returncode == 0
        assert server.status("/ready")[0] == 200
        assert "connection" not in server.get("/hello")[1]
        assert verb(server, "undrain").returncode == 0


def test_a_hundred_drains_and_undrains_under_load_fail_nobody(tmp_path):
    with administered(tmp_path) as server:
        load = Load(server)
        for _ in range(100):
            status, told = ask(server, "POST", "/drain")
            assert (status, told["state"]) == (200, "drained")
            assert server.status("/ready")[0] == 503
            status, told = ask(server, "POST", "/undrain")
            assert (status, told["state"]) == (200, "running")
            assert server.status("/ready")[0] == 200
        load.end()
        assert load.failed == []
        assert load.done > 100


def test_waiting_ends_when_nothing_is_in_flight(tmp_path):
    with administered(tmp_path) as server:
        call = Background(server.get, "/wait?seconds=2")
        in_flight(server, 1)
        before = time.monotonic()
        told = verb(server, "drain", "--wait")
        assert told.returncode == 0, told.stderr
        assert 0.5 < time.monotonic() - before < 6
        assert call.result()[0] == 200
        assert server.status("/ready")[0] == 503


def test_a_deadline_that_passes_tells_what_is_left_and_leaves_it_alone(tmp_path):
    with administered(tmp_path) as server:
        call = Background(server.get, "/wait?seconds=4&secret=1")
        in_flight(server, 1)
        status, told = ask(server, "GET", "/drain")
        assert (status, told["state"], told["in_flight"]) == (200, "running", 1)
        (left,) = told["calls"]
        assert (left["protocol"], left["method"], left["path"]) == ("http", "GET", "/wait")
        assert left["pid"] in server.workers() and left["age"] > 0
        told = verb(server, "drain", "--deadline", "500ms")
        assert told.returncode == 1
        assert "the deadline passed; drained: 1 in flight" in told.stderr
        assert "http GET /wait (" in told.stderr and "secret" not in told.stderr
        assert verb(server, "undrain").returncode == 0
        assert call.result()[0] == 200


def test_who_waits_hears_that_the_drain_was_taken_back(tmp_path):
    with administered(tmp_path) as server:
        call = Background(server.get, "/wait?seconds=3")
        in_flight(server, 1)
        waiting = Background(verb, server, "drain", "--wait")
        until(lambda: ask(server, "GET", "/drain")[1]["waiting"] == 1)
        assert verb(server, "undrain").returncode == 0
        told = waiting.result()
        assert told.returncode == 1 and "the drain was taken back" in told.stderr
        assert call.result()[0] == 200


def test_quiet_waits_for_requests_that_come_and_go(tmp_path):
    with administered(tmp_path) as server:
        load = Load(server, clients=1)
        until(lambda: load.done > 5)
        assert verb(server, "drain", "--deadline", "1500ms", "--quiet", "800ms").returncode == 1
        load.end()
        assert verb(server, "drain", "--deadline", "10s", "--quiet", "800ms").returncode == 0
        assert load.failed == []


# --------------------------------------------------------------------------------- with signals


def test_a_prestop_drain_that_waits_while_term_arrives_is_one_drain_and_ends_with_0(tmp_path):
    with administered(tmp_path) as server:
        call = Background(server.get, "/wait?seconds=3")
        in_flight(server, 1)
        hook = Background(verb, server, "drain", "--wait", "--deadline", "30s")
        until(lambda: server.status("/ready")[1].get("x-rr-lifecycle") == "drained")
        server.signal()
        assert call.result()[0] == 200
        assert server.wait(10) == 0
        told = hook.result()
        assert told.returncode == 0, told.stderr
        assert "stopped by SIGTERM" in told.stdout and "drained; finished=1 cut=0" in told.stdout
        assert report_of(server)["finished"] == 1


def test_a_prestop_drain_whose_work_is_cut_ends_with_1_and_the_report(tmp_path):
    with administered(tmp_path, endure={"grace_period": "4s"}) as server:
        call = Background(server.get, "/wait?seconds=30")
        in_flight(server, 1)
        pid = ask(server, "GET", "/drain")[1]["calls"][0]["pid"]
        hook = Background(verb, server, "drain", "--wait")
        until(lambda: server.status("/ready")[1].get("x-rr-lifecycle") == "drained")
        server.signal()
        told = hook.result()
        assert server.wait(10) == 3
        assert told.returncode == 1
        assert "cut; finished=0 cut=1" in told.stderr
        assert "endure.grace_period was 4s, the longest cut call was" in told.stderr
        assert "http GET /wait (" in told.stderr and f"worker {pid}" in told.stderr
        assert call.result()[0] == 503


def test_ten_drains_at_once_are_one_drain(tmp_path):
    with administered(tmp_path) as server:
        call = Background(server.get, "/wait?seconds=2")
        in_flight(server, 1)
        hooks = [Background(verb, server, "drain", "--wait") for _ in range(10)]
        assert [hook.result().returncode for hook in hooks] == [0] * 10
        assert call.result()[0] == 200
        assert len([one for one in server.records() if one.get("state") == "drained"]) == 1


def test_drain_undrain_and_term_at_once_end_in_one_clean_stop(tmp_path):
    with administered(tmp_path) as server:
        call = Background(server.get, "/wait?seconds=2")
        in_flight(server, 1)
        verbs = [Background(verb, server, name) for name in ("drain", "undrain") * 3]
        server.signal()
        assert {one.result().returncode for one in verbs} <= {0, 1, 3}
        assert call.result()[0] == 200
        assert server.wait(10) == 0
        assert report_of(server)["cut"] == 0


def test_after_a_signal_there_is_no_way_back_and_no_reset(tmp_path):
    with administered(tmp_path) as server:
        call = Background(server.get, "/wait?seconds=3")
        in_flight(server, 1)
        server.signal()
        until(lambda: ask(server, "GET", "/drain")[1]["state"] == "draining:finish")
        for path in ("/undrain", "/reset"):
            status, told = ask(server, "POST", path)
            assert (status, told["state"]) == (409, "draining:finish"), told
        told = verb(server, "undrain")
        assert told.returncode == 1 and "undrain is not possible while draining:finish" in told.stderr
        told = verb(server, "drain")
        assert told.returncode == 0 and told.stdout.startswith("draining:finish: not ready, 1 in flight")
        assert call.result()[0] == 200
        assert server.wait(10) == 0


def test_a_verb_that_comes_too_early_is_409(tmp_path):
    server = start(tmp_path, sdk=("--interface", "asgi"))
    try:
        until(lambda: "operators are served" in server.log(), 20)
        status, told = ask(server, "POST", "/drain")
        # The socket answers before any worker has started; a quick machine may be past that.
        assert (status, told["state"]) in ((409, "starting"), (200, "drained"))
        server.wait_ready() if status == 409 else None
    finally:
        server.stop()
        server.kill()


# ------------------------------------------------------------------------------------------ stop


def test_stop_is_the_stop_of_a_signal_and_waits_for_the_end_of_the_process(tmp_path):
    with administered(tmp_path) as server:
        workers = server.workers()
        call = Background(server.get, "/wait?seconds=2")
        in_flight(server, 1)
        told = verb(server, "stop", "--wait")
        ended = time.monotonic()
        assert server.wait(5) == 0
        assert time.monotonic() - ended < 0.5
        assert told.returncode == 0 and "stopped by admin" in told.stdout
        assert call.result()[0] == 200
        assert not [pid for pid in workers if alive(pid)]


def test_stop_without_waiting_returns_at_once(tmp_path):
    with administered(tmp_path) as server:
        call = Background(server.get, "/wait?seconds=3")
        in_flight(server, 1)
        before = time.monotonic()
        told = verb(server, "stop")
        assert told.returncode == 0 and "1 in flight" in told.stdout
        assert time.monotonic() - before < 2.5
        assert call.result()[0] == 200
        assert server.wait(10) == 0


def test_stop_force_cuts_and_is_quick_also_in_a_stop_that_is_under_way(tmp_path):
    with administered(tmp_path) as server:
        workers = server.workers()
        call = Background(server.get, "/wait?seconds=30")
        in_flight(server, 1)
        server.signal()
        until(lambda: ask(server, "GET", "/drain")[1]["state"] == "draining:finish")
        before = time.monotonic()
        told = verb(server, "stop", "--force", "--wait")
        assert told.returncode == 0, told.stderr
        assert server.wait(5) == 4
        assert time.monotonic() - before < 3
        assert call.result()[0] == 503
        assert not [pid for pid in workers if alive(pid)]
        report = report_of(server)
        assert (report["outcome"], report["cut_by"]) == ("forced", {"forced": 1})


def test_reset_replaces_the_workers_and_waits_for_it(tmp_path):
    with administered(tmp_path) as server:
        before = set(server.workers())
        status, told = ask(server, "POST", "/reset?wait=1")
        assert (status, told["done"]) == (200, True)
        (pool,) = told["pools"]
        assert pool["name"] == "http"
        assert not before & {worker["pid"] for worker in pool["workers"]}
        assert not [pid for pid in before if alive(pid)]
        assert ask(server, "POST", "/reset?pool=jobs")[0] == 400
        assert ask(server, "POST", "/reset")[0] == 202


# ---------------------------------------------------------------------------------------- report


def test_the_report_equals_what_the_clients_saw(tmp_path):
    with administered(tmp_path, endure={"grace_period": "5s"}) as server:
        calls = [Background(server.get, "/wait?seconds=2") for _ in range(5)]
        calls += [Background(server.get, "/wait?seconds=30") for _ in range(3)]
        in_flight(server, 8)
        server.signal()
        assert server.wait(10) == 3
        codes = [call.result()[0] for call in calls]
        assert codes == [200] * 5 + [503] * 3
        report = report_of(server)
        assert (report["cause"], report["outcome"], report["code"]) == ("SIGTERM", "cut", 3)
        assert (report["finished"], report["cut"], report["cut_by"]) == (5, 3, {"deadline": 3})
        assert (report["lost"], report["refused"]) == (0, 0)
        blockers = report["blockers"]
        assert [(one["method"], one["path"]) for one in blockers] == [("GET", "/wait")] * 3
        assert all(one["pid"] and one["age"] > 3 for one in blockers)
        assert "set endure.grace_period: " in report["advice"][0]
        half = [one for one in server.records() if "after half of the time" in one["msg"]]
        assert [one["in_flight"] for one in half] in ([3], [8])


# ------------------------------------------------------------------------------------ where it is


def test_probes_answer_by_exit_code_in_every_state(tmp_path):
    with administered(tmp_path) as server:
        for probe in ("ready", "health", "startup"):
            told = verb(server, "status", "--probe", probe)
            assert (told.returncode, told.stdout) == (0, f"{probe}: yes\n")
        verb(server, "drain")
        told = verb(server, "status", "--probe", "ready")
        assert (told.returncode, "drained" in told.stdout) == (1, True)
        assert verb(server, "status", "--probe", "health").returncode == 0
        told = json.loads(verb(server, "status", "--json").stdout)
        assert (told["pid"], told["drain"]["state"], told["ready"], told["health"]) == (
            server.pid,
            "drained",
            503,
            200,
        )
        verb(server, "undrain")
    told = verb(server, "status", "--probe", "health")
    assert told.returncode == 1 and told.stdout == ""
    assert verb(server, "status").returncode == verb(server, "drain").returncode == 3


def test_probes_use_the_status_address_where_the_socket_is_not_to_be_found(tmp_path):
    with administered(tmp_path) as server:
        elsewhere = {"RUNTIME_DIRECTORY": "", "TMPDIR": "/nowhere"}
        assert verb(server, "status", "--probe", "ready", env=elsewhere).returncode == 0
        assert verb(server, "drain", env=elsewhere).returncode == 3
        verb(server, "drain")
        assert verb(server, "status", "--probe", "ready", env=elsewhere).returncode == 1
        verb(server, "undrain")


def test_a_configured_socket_is_found_through_the_configuration_and_is_private(tmp_path):
    path = tmp_path / "own.sock"
    with administered(tmp_path, admin={"socket": "own.sock"}) as server:
        assert socket_of(server) == str(path)
        assert path.stat().st_mode & 0o777 == 0o600
        assert verb(server, "status").returncode == 0
        assert verb(server, "status", "--socket", str(path)).returncode == 0
    assert not path.exists()


def test_a_configured_socket_that_is_in_use_fails_the_start(tmp_path):
    with administered(tmp_path, admin={"socket": "own.sock"}) as server:
        other = tmp_path / "other"
        other.mkdir()
        second = start(other, admin={"socket": str(tmp_path / "own.sock")})
        try:
            assert second.wait(20) == 1
            assert "own.sock" in second.log()
        finally:
            second.kill()
        assert verb(server, "status").returncode == 0


def test_a_second_server_of_the_same_configuration_gets_a_name_with_its_pid(tmp_path):
    with administered(tmp_path) as server:
        ports = [
            "-o",
            f"http.address=127.0.0.1:{free_port()}",
            "-o",
            f"status.address=127.0.0.1:{free_port()}",
        ]
        command = [str(BIN / "twisted-rr"), "serve", "-w", str(APPS), "-c", str(server.file), *ports]
        log = (tmp_path / "second.log").open("wb")
        env = {**os.environ, "PYTHONPATH": str(APPS), **runtime(tmp_path)}
        second = subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)
        path = f"{socket_of(server).removesuffix('.sock')}.{second.pid}.sock"
        try:
            until(lambda: os.path.exists(path), 20, why="there is no second socket")
            told = verb(server, "drain")
            assert told.returncode == 1 and "several servers run" in told.stderr
            assert path in told.stderr and str(server.pid) in told.stderr
            assert server.status("/ready")[0] == 200, "nobody was drained"
            assert verb(server, "stop", "--wait", "--socket", path).returncode == 0
            assert second.wait(10) == 0
        finally:
            second.kill()
            second.wait(10)
            log.close()
        assert verb(server, "status").returncode == 0
        assert not os.path.exists(path) and not os.path.exists(path + ".state")


def test_without_any_folder_to_write_to_there_is_an_abstract_socket(tmp_path):
    nowhere = {"RUNTIME_DIRECTORY": "", "XDG_RUNTIME_DIR": "", "TMPDIR": "/proc"}
    port, status_port = free_port(), free_port()
    config = config_for("asgi_app:app", port=port, status_port=status_port)
    server = RunningServer(tmp_path, config, port=port, status_port=status_port, env=nowhere)
    try:
        server.wait_ready()
        assert socket_of(server).startswith("@twisted_rr/")
        assert verb(server, "status", "--probe", "ready", env=nowhere).returncode == 0
        assert verb(server, "stop", "--wait", env=nowhere).returncode == 0
        assert server.wait(5) == 0
    finally:
        server.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_stranger_is_not_served_even_where_no_file_protects_the_socket(tmp_path):
    name = f"@rr-stranger-{os.getpid()}"
    ask_as = (
        "import os, socket, sys; os.setuid(int(sys.argv[1])); s = socket.socket(socket.AF_UNIX)\n"
        "s.connect('\\0' + sys.argv[2][1:])\n"
        "try:\n s.sendall(b'POST /drain HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n'); print(s.recv(100))\n"
        "except OSError as error: print(error)"
    )
    with administered(tmp_path, admin={"socket": name}) as server:

        def said(uid: int) -> str:
            command = [sys.executable, "-c", ask_as, str(uid), name]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        assert "HTTP/1.1" not in said(65534)
        assert server.status("/ready")[0] == 200
        assert "user 65534 may not use the admin socket" in server.log()
        assert "HTTP/1.1 200" in said(0)
        assert verb(server, "undrain").returncode == 0


def test_a_server_of_an_application_is_found_from_its_folder(tmp_path):
    port, status = free_port(), free_port()
    env = {**os.environ, **runtime(tmp_path)}
    (tmp_path / "tiny.py").write_text((APPS / "wsgi_app.py").read_text())
    arguments = ["tiny:app", "--port", str(port), "--status", f"127.0.0.1:{status}", "--workers", "1"]
    log = (tmp_path / "log").open("wb")
    script = str(BIN / "twisted-rr")
    server = subprocess.Popen(
        [script, "serve", *arguments], cwd=tmp_path, env=env, stdout=log, stderr=log, start_new_session=True
    )

    def probe(*more: str, cwd=tmp_path) -> int:
        return subprocess.run(
            [script, "status", *more, "--probe", "ready"], cwd=cwd, env=env, capture_output=True
        ).returncode

    try:
        until(lambda: probe() == 0, 30, why="it is not found")
        assert probe("tiny:app") == 0
        assert probe("other:app") == 1
        assert probe(cwd="/") == 1
        (tmp_path / ".rr.yaml").write_text('version: "3"\n')
        assert probe() == 0, "a configuration that is not served hides nothing"
        assert subprocess.run([script, "stop", "--wait"], cwd=tmp_path, env=env).returncode == 0
        assert server.wait(5) == 0
    finally:
        server.kill()
        server.wait(10)
        log.close()


def test_under_twistd_it_is_the_same(tmp_path):
    command = [str(BIN / "twistd"), "-n", "--pidfile=", "rr", "-c", str(tmp_path / "rr.yaml")]
    server = start(tmp_path, command=command)
    try:
        server.wait_ready()
        call = Background(server.get, "/wait?seconds=1.5")
        in_flight(server, 1)
        assert verb(server, "drain", "--wait").returncode == 0
        assert call.result()[0] == 200
        assert verb(server, "stop", "--wait").returncode == 0
        assert server.wait(5) == 0
    finally:
        server.kill()


# ---------------------------------------------------------------------------------- previous exit


@pytest.mark.parametrize("draining", [False, True])
def test_a_killed_run_is_told_by_the_next_one(tmp_path, draining: bool):
    first = start(tmp_path, endure={"grace_period": "30s"})
    try:
        first.wait_ready()
        assert "x-rr-previous-exit" not in first.status("/startup")[1]
        if draining:
            Background(first.get, "/wait?seconds=30")
            in_flight(first, 1)
            first.signal()
            until(lambda: ask(first, "GET", "/drain")[1]["state"] == "draining:finish")
        os.kill(first.pid, signal.SIGKILL)
        first.wait(10)
    finally:
        first.kill()
    (tmp_path / "server.log").unlink()
    with administered(tmp_path) as second:
        warned = [one for one in second.records() if "did not end in order" in one["msg"]]
        word = "killed_draining" if draining else "killed_running"
        assert [(one["level"], one["reason"], one["pid"]) for one in warned] == [("warn", word, first.pid)]
        assert 0 <= warned[0]["ago"] < 60
        assert second.status("/startup")[1]["x-rr-previous-exit"] == word
        assert "x-rr-previous-exit" not in second.status("/ready")[1]
        assert ask(second, "GET", "/status")[1]["previous_exit"]["reason"] == word
    (tmp_path / "server.log").unlink()
    with administered(tmp_path) as third:
        assert "did not end in order" not in third.log()
        assert ask(third, "GET", "/status")[1]["previous_exit"]["reason"] == "clean"
