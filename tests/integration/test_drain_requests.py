"""What a stop does to requests, one behaviour of client, application or worker at a time, on the real server."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
import yaml
from rig import (
    APPS,
    Background,
    RunningServer,
    alive,
    children,
    config_for,
    free_port,
    running,
    serving,
    until,
)

APP = "drain_app:app"


def ask(server: RunningServer, path: str, extra: str = "") -> socket.socket:
    """A raw connection with a request on it."""
    connection = socket.create_connection(("127.0.0.1", server.port), 10)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode())
    return connection


def read_all(connection: socket.socket, seconds: float = 30.0) -> tuple[bytes, float]:
    """Everything until the end, however it comes, and when that was; b"RESET" is appended for a reset."""
    connection.settimeout(seconds)
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionResetError:
        data += b"RESET"
    return data, time.monotonic()


def stopped(server: RunningServer) -> dict:
    """The report in the log."""
    return next(record for record in server.records() if record.get("event") == "stopped")


def in_flight(server: RunningServer, count: int) -> None:
    """Wait until the server has *count* requests in flight."""

    def there() -> bool:
        _, _, body = server.status("/health", {"Accept": "application/health+json"})
        return f'"http:inFlight":[{{"observedValue":{count},'.encode() in body

    until(there, 10, 0.02, f"there were never {count} in flight")


# ---------------------------------------------------------------------------------- late requests


def test_a_late_request_is_served_unless_told_otherwise_and_then_refused_in_words(tmp_path):
    with serving(tmp_path, APP, drain={"late_reject_after": "1s"}, endure={"grace_period": "8s"}) as server:
        kept = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=10) for _ in range(2)]
        for connection in kept:
            connection.request("GET", "/hello")
            assert connection.getresponse().read() == b"hello"
        holding = ask(server, "/slow")
        in_flight(server, 1)
        begun = server.signal()
        kept[0].request("GET", "/hello")
        answer = kept[0].getresponse()
        assert (answer.status, answer.getheader("connection"), answer.read()) == (200, "close", b"hello")
        time.sleep(max(0.0, begun + 1.5 - time.monotonic()))
        kept[1].request("GET", "/hello")
        answer = kept[1].getresponse()
        assert (answer.status, answer.getheader("connection")) == (503, "close")
        assert answer.getheader("retry-after") == "1"
        holding.close()
        assert server.wait(8) == 0
        report = stopped(server)
        assert (report["refused"], report["finished"], report["lost"]) == (1, 1, 1)


def test_answers_carry_close_from_goaway_start_on_and_envoys_header_where_asked(tmp_path):
    drain = {"goaway_start": "1s", "envoy_immediate_fail": True, "announce": {"min": "2s", "max": "2s"}}
    with serving(tmp_path, APP, drain=drain, endure={"grace_period": "10s"}) as server:
        holding = ask(server, "/slow")
        in_flight(server, 1)
        begun = server.signal()
        assert server.status("/ready")[0] == 503
        _, headers, _ = server.get("/hello")
        assert "connection" not in headers and "x-envoy-immediate-health-check-fail" not in headers
        time.sleep(max(0.0, begun + 1.3 - time.monotonic()))
        _, headers, _ = server.get("/hello")
        assert headers["connection"] == "close"
        assert headers["x-envoy-immediate-health-check-fail"] == "true"
        holding.close()
        server.wait(8)


# ----------------------------------------------------------------------------------- long answers


def test_an_endless_stream_is_asked_to_end_and_ends_with_its_last_chunk(tmp_path):
    with serving(tmp_path, APP, drain={"stream_grace": "1s"}, endure={"grace_period": "10s"}) as server:
        with closing(ask(server, "/polite")) as client:
            in_flight(server, 1)
            begun = server.signal()
            data, ended = read_all(client)
        assert data.endswith(b"0\r\n\r\n") and b"data: 0" in data
        assert 0.8 < ended - begun < 3
        assert server.wait(5) == 0
        assert (stopped(server)["finished"], stopped(server)["cut"]) == (1, 0)


def test_one_that_listens_to_nobody_is_cut_at_the_deadline_and_counted(tmp_path):
    with serving(tmp_path, APP, drain={"stream_grace": "500ms"}, endure={"grace_period": "4s"}) as server:
        with closing(ask(server, "/stubborn")) as client:
            in_flight(server, 1)
            begun = server.signal()
            data, ended = read_all(client)
        assert not data.endswith(b"0\r\n\r\n"), "an answer that was cut must not look complete"
        assert 1.5 < ended - begun < 4.5
        assert server.wait(5) == 3
        assert (stopped(server)["cut"], stopped(server)["cut_by"]) == (1, {"deadline": 1})


def test_a_stream_of_wsgi_is_closed_and_ends_with_its_last_chunk(tmp_path):
    options = {"drain": {"stream_grace": "1s"}, "endure": {"grace_period": "10s"}}
    with serving(tmp_path, "drain_app:wsgi_events", sdk=("--interface", "wsgi"), **options) as server:
        with closing(ask(server, "/events")) as client:
            in_flight(server, 1)
            begun = server.signal()
            data, ended = read_all(client)
        assert data.endswith(b"0\r\n\r\n") and 0.8 < ended - begun < 3
        assert server.wait(5) == 0
        until(lambda: "stream closed" in server.log(), 10, why="the generator was not closed")


def test_a_download_is_not_ended_early_though_it_listens_for_its_client(tmp_path):
    with serving(tmp_path, APP, drain={"stream_grace": "300ms"}, endure={"grace_period": "10s"}) as server:
        call = Background(server.get, "/export")
        in_flight(server, 1)
        server.signal()
        assert call.result()[2].endswith(b"19\nend\n")
        assert server.wait(5) == 0


def test_a_long_poll_is_told_at_once_and_how_long_it_has(tmp_path):
    with serving(tmp_path, APP, endure={"grace_period": "10s"}) as server:
        call = Background(server.get, "/told")
        in_flight(server, 1)
        server.signal()
        status, _, body = call.result(5)
        assert status == 200 and 4 < float(body) <= 10
        assert server.wait(5) == 0


# --------------------------------------------------------------------------- slow and silent clients


def test_a_slow_reader_is_served_until_the_deadline_and_holds_nobody_else(tmp_path):
    with serving(tmp_path, endure={"grace_period": "5s"}) as server:
        slow = ask(server, "/big?size=50000000")
        slow.recv(1000)
        in_flight(server, 1)
        kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        kept.request("GET", "/hello")
        kept.getresponse().read()
        begun = server.signal()
        for _ in range(10):
            assert slow.recv(1) != b""
            time.sleep(0.05)
        kept.request("GET", "/big?size=1000000")
        assert len(kept.getresponse().read()) == 1_000_000
        assert server.wait(7) == 3
        assert 2.5 < time.monotonic() - begun < 6
        assert stopped(server)["cut_by"] == {"deadline": 1}
        slow.close()


def test_a_client_that_vanished_holds_the_stop_no_longer_than_the_deadline(tmp_path):
    """As a peer without FIN looks from here: nothing is read, nothing is acknowledged beyond the buffers."""
    with serving(tmp_path, endure={"grace_period": "4s"}) as server:
        vanished = ask(server, "/big?size=100000000")
        in_flight(server, 1)
        begun = server.signal()
        assert server.wait(6) == 3
        assert time.monotonic() - begun < 5
        vanished.close()


def test_a_half_sent_head_holds_the_stop_two_seconds_at_most(tmp_path):
    with serving(tmp_path) as server:
        with closing(socket.create_connection(("127.0.0.1", server.port), 10)) as client:
            client.sendall(b"GET /hello HTTP/1.1\r\nHost")
            time.sleep(0.3)
            begun = server.signal()
            data, ended = read_all(client)
            assert data == b"" and ended - begun < 3.5
        assert server.wait(5) == 0


def test_a_slow_body_is_waited_for_until_the_deadline_and_answered_503(tmp_path):
    with serving(tmp_path, endure={"grace_period": "4s"}) as server:
        client = socket.create_connection(("127.0.0.1", server.port), 10)
        client.sendall(b"POST /digest HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        in_flight(server, 1)
        server.signal()
        for _ in range(5):
            client.sendall(b"x")
            time.sleep(0.2)
        data, _ = read_all(client)
        assert data.startswith(b"HTTP/1.1 503 ") and b"retry-after" in data.lower()
        assert server.wait(5) == 3
        client.close()


def test_a_silent_connection_is_closed_soon_after_the_listener_and_counts_for_nothing(tmp_path):
    with serving(tmp_path, APP, endure={"grace_period": "12s"}) as server:
        silent = socket.create_connection(("127.0.0.1", server.port), 10)
        holding = ask(server, "/slow")
        in_flight(server, 1)
        time.sleep(1.2)
        begun = server.signal()
        data, ended = read_all(silent)
        assert data == b"" and ended - begun < 2.5
        holding.close()
        server.wait(8)


# ------------------------------------------------------------------------------------------ workers


def test_no_worker_is_recycled_in_a_drain_and_none_started_for_nobody(tmp_path):
    with serving(tmp_path, APP, workers=2, http={"pool": {"num_workers": 2, "max_jobs": 5}}) as server:
        kept = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=10) for _ in range(30)]
        for connection in kept:
            connection.connect()
        holding = ask(server, "/slow")
        in_flight(server, 1)
        before = set(server.workers())
        server.signal()
        until(lambda: server.status("/ready")[0] == 503)
        for connection in kept:
            connection.request("GET", "/hello")
        for connection in kept:
            assert connection.getresponse().read() == b"hello"
        assert set(server.workers()) <= before
        victim = server.workers()[-1]
        os.kill(victim, signal.SIGKILL)
        until(lambda: not alive(victim), 10)
        time.sleep(0.3)
        assert set(server.workers()) <= before
        holding.close()
        server.wait(10)


def test_when_no_worker_can_be_had_requests_are_refused_at_once_and_the_exit_is_early(tmp_path):
    program = tmp_path / "worker.sh"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -m twisted_rr.worker {APP}\n")
    program.chmod(0o755)
    with serving(tmp_path, APP, workers=1, server={"command": [str(program)]}) as server:
        assert server.get("/hello")[0] == 200
        kept = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=10) for _ in range(3)]
        for connection in kept:
            connection.connect()
        holding = ask(server, "/slow")
        in_flight(server, 1)
        program.unlink()
        begun = server.signal()
        until(lambda: server.status("/ready")[0] == 503)
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        assert read_all(holding)[0].startswith(b"HTTP/1.1 502 ")
        for connection in kept:
            try:
                connection.request("GET", "/hello")
                answer = connection.getresponse()
            except (ConnectionError, http.client.RemoteDisconnected):
                continue  # nothing was in flight any more: it was closed before the request came
            assert (answer.status, answer.getheader("retry-after")) == (503, "1")
        code = server.wait(10)
        assert time.monotonic() - begun < 5, "it waited for its deadline"
        assert code in (0, 5)


def test_a_request_that_waits_for_a_worker_that_cannot_be_had_gives_exit_code_5(tmp_path):
    program = tmp_path / "worker.sh"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -m twisted_rr.worker --no-mux {APP}\n")
    program.chmod(0o755)
    with serving(tmp_path, APP, workers=1, server={"command": [str(program)]}) as server:
        assert server.get("/hello")[0] == 200
        holding = ask(server, "/slow")
        in_flight(server, 1)
        queued = ask(server, "/hello")
        in_flight(server, 2)
        program.unlink()
        begun = server.signal()
        until(lambda: server.status("/ready")[0] == 503)
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        data, ended = read_all(queued)
        assert data.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in data.lower()
        assert ended - begun < 2
        holding.close()
        assert server.wait(5) == 5
        assert stopped(server)["refused"] == 1


# --------------------------------------------------------------------------------- a blocked reactor


@pytest.mark.parametrize("first", ["block", "signal"])
def test_a_blocked_reactor_does_not_keep_the_process_beyond_its_budget(tmp_path, first):
    port, status_port = free_port(), free_port()
    config = config_for(APP, port=port, status_port=status_port, endure={"grace_period": "3s"})
    log = (tmp_path / "server.log").open("wb")
    (tmp_path / "rr.yaml").write_text(yaml.safe_dump(config))
    process = subprocess.Popen(
        [sys.executable, str(APPS / "blocked_server.py"), str(tmp_path / "rr.yaml")],
        stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=APPS, env={**os.environ, "PYTHONPATH": str(APPS)},
    )  # fmt: skip
    try:
        told = tmp_path / "server.log"
        until(lambda: b'"serving"' in told.read_bytes(), 20, why="it did not start")
        workers = children(process.pid)
        holding = socket.create_connection(("127.0.0.1", port), 5)
        holding.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.3)
        if first == "signal":
            process.send_signal(signal.SIGTERM)
            until(lambda: b"draining:" in told.read_bytes())
        begun = time.monotonic()
        process.stdin.write(b"now\n")
        process.stdin.flush()
        until(lambda: b"blocked" in told.read_bytes())
        if first == "block":
            process.send_signal(signal.SIGTERM)
        assert process.wait(8) == 3
        assert time.monotonic() - begun < 5
        until(lambda: not any(alive(pid) for pid in workers), 10, why="workers outlived the server")
        assert b"the reactor is blocked" in told.read_bytes()
        holding.close()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(5)
        log.close()


# ------------------------------------------------------------------------------------ user checks


def test_checks_of_each_kind_run_in_the_background_and_keep_traffic_away(tmp_path):
    good, bad = socket.create_server(("127.0.0.1", 0)), free_port()
    flag = tmp_path / "flag"
    flag.write_text("")
    often = {"interval": "200ms"}
    checks = {
        "open": {"tcp": f"127.0.0.1:{good.getsockname()[1]}", **often},
        "disk": {"exec": ["test", "-e", str(flag)], **often},
        "closed": {"tcp": f"127.0.0.1:{bad}", **often},
    }
    port, status_port = free_port(), free_port()
    config = config_for(APP, port=port, status_port=status_port, status={"checks": checks})
    expected = {"open": (200, ""), "disk": (200, ""), "closed": (503, "it fails")}
    with closing(good):
        server = RunningServer(tmp_path, config, port=port, status_port=status_port)

        def told() -> dict:
            lines = json.loads(server.status("/ready")[2] or b"[]")
            told = {each["plugin_name"]: (each["status_code"], each["error_message"]) for each in lines}
            return {name: told.get(name) for name in checks}

        try:
            until(lambda: told() == expected, 15, why="the checks did not get their turns")
            code, _, body = server.status("/ready")
        finally:
            server.kill()
    assert code == 503
    assert str(bad).encode() not in body and "refused" in server.log()


def test_a_check_that_hangs_or_fails_never_slows_an_answer_and_leaves_no_process(tmp_path):
    flag = tmp_path / "flag"
    flag.write_text("")
    app_port = free_port()
    checks = {
        "flag": {"exec": f"test -e {flag}", "interval": "200ms"},
        "hangs": {
            "exec": "sleep 77.7",
            "interval": "100ms",
            "timeout": "300ms",
            "needed": "health",
            "failures": 99,
        },
        "web": {"http": f"http://127.0.0.1:{app_port}/hello", "interval": "200ms"},
    }
    port, status_port = app_port, free_port()
    config = config_for(APP, port=port, status_port=status_port, status={"checks": checks})
    server = RunningServer(tmp_path, config, port=port, status_port=status_port)
    try:

        def lines() -> dict:
            return {each["plugin_name"]: each["error_message"] for each in json.loads(
                server.status("/ready")[2] or b"[]")}  # fmt: skip

        until(
            lambda: lines().get("web") == "" and lines().get("flag") == "", 15, why="checks did not succeed"
        )
        flag.unlink()
        until(lambda: lines()["flag"] == "it fails", 10)
        flag.write_text("")
        until(lambda: lines()["flag"] == "", 10)
        times = []
        for _ in range(50):
            at = time.monotonic()
            assert server.status("/health")[0] == 200
            times.append(time.monotonic() - at)
        assert sorted(times)[44] < 0.1
        server.signal()
        assert server.wait(8) == 0
        assert not running("sleep 77.7")
    finally:
        server.kill()


# ------------------------------------------------------------------------------ the closing listener


def test_closing_a_busy_listener_resets_at_most_one_connect_in_a_thousand(tmp_path):
    """Twenty-five closes under connect load: each connect is served or refused; a stray reset is the kernel's."""
    script = APPS / "closing_ports.py"
    process = subprocess.Popen(
        [sys.executable, str(script), "25"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    totals = {"served": 0, "refused": 0, "reset": 0, "hung": 0}
    try:
        for _ in range(25):
            port = int(process.stdout.readline())
            ending = threading.Event()
            clients = [Background(connect_until, port, ending) for _ in range(6)]
            assert process.stdout.readline() == "closed\n"
            ending.set()
            for client in clients:
                for outcome, count in client.result(20).items():
                    totals[outcome] += count
            process.stdin.write("next\n")
            process.stdin.flush()
    finally:
        process.kill()
        process.wait(5)
        process.stdin.close()
        process.stdout.close()
    connects = totals["served"] + totals["reset"] + totals["hung"]
    assert totals["hung"] == 0 and totals["refused"] > 0
    print(totals)
    assert connects > 1000, totals
    assert totals["reset"] <= max(1, connects // 1000), totals


def connect_until(port: int, ending: threading.Event) -> dict:
    """Connect again and again; what became of each, until one is refused."""
    seen = {"served": 0, "refused": 0, "reset": 0, "hung": 0}
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 3) as connection:
                connection.settimeout(3)
                connection.sendall(b"?")
                seen["served" if connection.recv(1) == b"x" else "reset"] += 1
        except ConnectionRefusedError:
            seen["refused"] += 1
            return seen
        except TimeoutError:
            seen["hung"] += 1
            return seen
        except ConnectionError:
            seen["reset"] += 1
        if ending.is_set() and seen["refused"]:
            return seen
