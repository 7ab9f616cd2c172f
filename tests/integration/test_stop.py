"""The way out, on the real server: readiness at once, in-flight work finished, no process left."""

import http.client
import json
import os
import pty
import select
import signal
import socket
import time

import pytest
from rig import APPS, BIN, Background, RunningServer, alive, children, config_for, free_port, serving, until


class Poller:
    """Asks one status path over and over until the server is gone; remembers when each answer came."""

    def __init__(self, server: RunningServer, path: str) -> None:
        self.seen: list[tuple[float, int]] = []
        self._thread = Background(self._poll, server, path)

    def _poll(self, server: RunningServer, path: str) -> None:
        while True:
            code = server.status(path)[0]
            self.seen.append((time.monotonic(), code))
            if code == 0:
                return
            time.sleep(0.005)

    def codes(self, seconds: float = 30.0) -> list[int]:
        self._thread.result(seconds)
        return [code for _, code in self.seen]


@pytest.mark.proves("I1", "I4", "I7", "I12")
def test_a_request_in_flight_completes_and_the_status_tells_the_truth(tmp_path):
    with serving(tmp_path) as server:
        workers = server.workers()
        call = Background(server.get, "/wait?seconds=5")
        until(lambda: server.status("/health")[1].get("x-rr-lifecycle") == "running")
        time.sleep(0.5)
        ready, health = Poller(server, "/ready"), Poller(server, "/health")
        started = server.signal()
        status, headers, body = call.result()
        finished = time.monotonic()
        assert status == 200 and body.endswith(b"/wait")
        assert headers["connection"] == "close"
        code = server.wait(5)
        gone = time.monotonic()
        assert code == 0
        assert finished - started > 3, "the request was over before the signal: the test says nothing"
        assert gone - finished < 1.0
        assert not [pid for pid in workers if alive(pid)]
        after = [code for at, code in ready.seen if at > started + 0.1 and code]
        assert ready.codes()[-1] == 0 and set(after) == {503}
        assert set(health.codes()[:-1]) == {200}


@pytest.mark.proves("I10")
def test_the_status_listener_closes_last(tmp_path):
    with serving(tmp_path) as server:
        call = Background(server.get, "/wait?seconds=1.5")
        time.sleep(0.3)
        poller = Poller(server, "/health")
        server.signal()
        call.result()
        server.wait(5)
        gone = time.monotonic()
        poller.codes()
        last_answer = max(at for at, code in poller.seen if code)
        assert gone - last_answer < 0.3


@pytest.mark.proves("I12", "I16")
def test_idle_stop_is_quick_and_leaves_nobody(tmp_path):
    with serving(tmp_path, workers=3) as server:
        workers = server.workers()
        assert len(workers) == 3
        started = server.signal()
        assert server.wait(5) == 0
        assert time.monotonic() - started < 1.5
        assert not [pid for pid in workers if alive(pid)]


@pytest.mark.proves("I17", "F15:finish")
def test_a_keep_alive_connection_gets_its_next_answer_with_close(tmp_path):
    with serving(tmp_path) as server:
        idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        idle.request("GET", "/hello")
        assert idle.getresponse().read() == b"hello"
        call = Background(server.get, "/wait?seconds=2")
        time.sleep(0.3)
        server.signal()
        time.sleep(0.3)
        idle.request("POST", "/digest", b"abc")
        answer = idle.getresponse()
        assert answer.status == 200 and answer.read().startswith(b"3 ")
        assert answer.getheader("connection") == "close"
        assert call.result()[0] == 200
        assert server.wait(5) == 0


@pytest.mark.proves("I6")
def test_new_connections_are_refused_once_the_listener_is_closed(tmp_path):
    with serving(tmp_path) as server:
        call = Background(server.get, "/wait?seconds=2")
        time.sleep(0.3)
        server.signal()

        def refused() -> bool:
            try:
                socket.create_connection(("127.0.0.1", server.port), 1).close()
            except ConnectionRefusedError:
                return True
            return False

        until(refused, 1.5, 0.02, "the listener stayed open")
        assert call.result()[0] == 200


@pytest.mark.proves("I4", "I11", "F19:running")
def test_work_beyond_the_deadline_is_cut_counted_and_told_by_the_exit_code(tmp_path):
    with serving(tmp_path, endure={"grace_period": "3s"}) as server:
        call = Background(server.get, "/wait?seconds=30")
        time.sleep(0.3)
        started = server.signal()
        assert server.wait(6) == 3
        assert time.monotonic() - started < 3.5
        status, headers, _ = call.result()
        assert status == 503 and "retry-after" in headers


@pytest.mark.proves("I13", "F29:finish")
def test_int_after_term_forces(tmp_path):
    with serving(tmp_path) as server:
        workers = server.workers()
        call = Background(server.get, "/wait?seconds=30")
        time.sleep(0.3)
        server.signal(signal.SIGTERM)
        time.sleep(0.3)
        forced = server.signal(signal.SIGINT)
        assert server.wait(5) == 4
        assert time.monotonic() - forced < 1.0
        assert not [pid for pid in workers if alive(pid)]
        assert call.result()[0] == 503


@pytest.mark.proves("I15", "F29:announce", "F29:finish")
def test_term_again_is_the_same_stop(tmp_path):
    with serving(tmp_path) as server:
        call = Background(server.get, "/wait?seconds=2")
        time.sleep(0.3)
        for _ in range(20):
            server.signal(signal.SIGTERM)
            time.sleep(0.02)
        assert call.result()[0] == 200
        assert server.wait(5) == 0


@pytest.mark.proves("I12", "F32:running")
def test_a_killed_server_takes_its_workers_along(tmp_path):
    with serving(tmp_path, workers=3) as server:
        workers = server.workers()
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait(5)
        until(lambda: not [pid for pid in workers if alive(pid)], 10, why="workers outlived the server")


@pytest.mark.proves("I14", "F28:start-up")
def test_term_at_any_instant_of_the_start_ends_without_orphans(tmp_path):
    for step in range(12):
        port, status_port = free_port(), free_port()
        server = RunningServer(
            tmp_path,
            config_for("asgi_app:app", port=port, status_port=status_port),
            port=port,
            status_port=status_port,
        )
        try:
            time.sleep(0.08 * step)
            family = children(server.pid)
            server.signal(signal.SIGTERM)
            code = server.wait(10)
            assert code in (0, -signal.SIGTERM), (step, code, server.log()[-2000:])
            until(
                lambda family=family: not [pid for pid in family if alive(pid)],
                2.0,
                why=f"orphans at step {step}",
            )
        finally:
            server.kill()


class Terminal:
    """The server on a pseudo-terminal, as a person starts it."""

    def __init__(self, tmp_path, *, extra=()):
        self.port, self.status_port = free_port(), free_port()
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.chdir(APPS)
            os.execv(
                str(BIN / "twisted-rr"),
                [
                    "twisted-rr",
                    "serve",
                    "asgi_app:app",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    str(self.port),
                    "--status",
                    f"127.0.0.1:{self.status_port}",
                    "--workers",
                    "2",
                    *extra,
                ],
            )
        self.text = b""
        self.closing = False
        self._reader = Background(self._read)
        until(lambda: self._ready(), 20, 0.05, "the server on the terminal did not get ready")

    def _read(self):
        # Never blocked in read(): a read under way would keep the terminal open behind our close().
        while not self.closing:
            try:
                if select.select([self.master], [], [], 0.05)[0]:
                    self.text += os.read(self.master, 65536)
            except OSError:
                return

    def close(self):
        """What closing the window does."""
        self.closing = True
        self._reader.result()
        os.close(self.master)

    def _ready(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.status_port, timeout=2)
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def press(self, key: bytes = b"\x03") -> float:
        os.write(self.master, key)
        return time.monotonic()

    def wait(self, seconds: float) -> float:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
                return time.monotonic()
            time.sleep(0.005)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(
            f"still running after {seconds} s:\n{self.text[-3000:].decode(errors='replace')}"
        )


def test_ctrl_c_when_idle_gives_the_prompt_back_at_once(tmp_path):
    terminal = Terminal(tmp_path)
    pressed = terminal.press()
    assert terminal.wait(5) - pressed < 1.0
    assert terminal.code == 0
    assert f"http://127.0.0.1:{terminal.port}".encode() in terminal.text


def test_ctrl_c_ends_a_stream_and_an_idle_connection_soon(tmp_path):
    terminal = Terminal(tmp_path)
    stream = socket.create_connection(("127.0.0.1", terminal.port))
    stream.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
    assert stream.recv(100)
    idle = http.client.HTTPConnection("127.0.0.1", terminal.port)
    idle.request("GET", "/hello")
    idle.getresponse().read()
    pressed = terminal.press()
    assert terminal.wait(6) - pressed < 3.0


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    terminal = Terminal(tmp_path)
    stream = socket.create_connection(("127.0.0.1", terminal.port))
    stream.sendall(b"GET /wait?seconds=20 HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.3)
    terminal.press()
    time.sleep(0.2)
    pressed = terminal.press()
    assert terminal.wait(5) - pressed < 1.0
    assert terminal.code == 4


def test_a_closed_terminal_leaves_no_process(tmp_path):
    terminal = Terminal(tmp_path)
    family = [terminal.pid, *children(terminal.pid)]
    assert len(family) >= 3
    terminal.close()
    terminal.wait(6)
    until(lambda: not [pid for pid in family if alive(pid)], 10, why="a process outlived the terminal")


@pytest.mark.parametrize("report", ["finished", "cut"])
@pytest.mark.proves("I28")
def test_the_last_line_of_the_log_reports_the_drain(tmp_path, report):
    with serving(tmp_path, endure={"grace_period": "3s"}) as server:
        call = Background(server.get, f"/wait?seconds={1 if report == 'finished' else 20}")
        time.sleep(0.3)
        server.signal()
        server.wait(8)
        call.result()
        text = json.dumps(server.records()[-3:])
        assert report in text, text
