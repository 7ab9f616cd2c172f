"""Sockets that a service manager holds: taken by name, left to it, and no connection lost over restarts."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from activation import Client, Holder, listening
from rig import BIN, children, config_for, free_port, until

QUICK_ANNOUNCE = {"announce": {"min": "300ms", "max": "1s", "quiet": "1s"}}


def config_of(port: int, **sections) -> dict:
    config = config_for("asgi_app:app", port=port, status_port=free_port(), **sections)
    del config["status"]
    return config


@pytest.fixture
def hold(tmp_path):
    made = []

    def make(named, **sections):
        config = sections.pop("config", None) or config_of(1, **sections)
        made.append(Holder(tmp_path, config, named))
        return made[-1]

    yield make
    for holder in made:
        holder.close()


def ask(sock: socket.socket, path: str = "/hello") -> bytes:
    with socket.socket(sock.family) as client:
        client.settimeout(30)
        client.connect(sock.getsockname())
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := client.recv(65536):
            answer += data
        return answer


def inodes_of(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(entry))
        except OSError:
            continue
    return found


def test_restarts_under_load_lose_nothing(hold):
    """Connects that come between two servers wait in the queue, which belongs to the parent."""
    sock = listening()
    holder = hold({"http": sock}, drain=QUICK_ANNOUNCE)
    holder.start().wait_for("listening on")
    clients = [Client(sock.getsockname()[1], keep=number % 2 == 0) for number in range(6)]
    for client in clients:
        client.start()
    restarts = 6
    for number in range(1, restarts + 1):
        time.sleep(0.3)
        assert holder.stop() == 0, holder.log()[-4000:]
        time.sleep(0.1)  # nobody accepts now
        holder.start().wait_for("listening on", number + 1)
    time.sleep(0.3)
    seen: Counter = Counter()
    for client in clients:
        seen += client.end().seen
    troubles = [trouble for client in clients for trouble in client.troubles]
    assert troubles == []
    assert set(seen) == {"connects", 200}
    assert seen[200] > 100 * restarts
    assert all(client.seen["connects"] > restarts for client in clients)
    assert holder.stop() == 0


def test_who_connects_while_nobody_serves_is_served_by_the_next_server(hold):
    sock = listening()
    holder = hold({"http": sock})
    holder.start().wait_for("listening on")
    assert holder.stop() == 0
    with socket.create_connection(sock.getsockname(), timeout=30) as early:
        early.sendall(b"GET /hello HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        holder.start()
        assert early.recv(100).startswith(b"HTTP/1.1 200")


def test_sockets_go_by_name_and_one_of_nobodys_is_closed_with_a_warning(hold):
    web, status, other = listening(), listening(), listening()
    config = {**config_of(1), "status": {"address": "127.0.0.1:1"}}
    holder = hold({"status": status, "grcp": other, "http.address": web}, config=config)
    holder.start().wait_for("listening on")
    assert ask(web).startswith(b"HTTP/1.1 200")
    assert ask(status, "/ready").startswith(b"HTTP/1.1 200")
    holder.wait_for("fd 4 (grcp), bound to ")
    assert holder.stop() == 0


def test_the_only_socket_is_https_whatever_the_unit_is_called(hold):
    sock = listening()
    holder = hold({"rr.socket": sock})
    holder.start().wait_for("listening on")
    assert ask(sock).startswith(b"HTTP/1.1 200")
    assert holder.stop() == 0


def test_a_passed_unix_socket_keeps_its_file_and_its_mode(hold, tmp_path):
    path = tmp_path / "web.sock"
    sock = listening(socket.AF_UNIX, str(path))
    os.chmod(path, 0o660)
    before = path.stat()
    holder = hold({"": sock}, config=config_of(1, http={"address": f"unix://{path}"}))
    holder.start().wait_for("listening on")
    assert ask(sock).startswith(b"HTTP/1.1 200")
    assert holder.stop() == 0
    after = path.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    sock.getsockname()


def test_workers_get_neither_the_socket_nor_the_variables(hold, tmp_path):
    script = tmp_path / "init.py"
    script.write_text("import os; print('init', [name for name in os.environ if name.startswith('LISTEN_')])")
    sock = listening()
    holder = hold({"http": sock}, server={"on_init": {"command": [sys.executable, str(script)]}})
    holder.start().wait_for("listening on")
    inode = f"socket:[{os.fstat(sock.fileno()).st_ino}]"
    assert inode in inodes_of(holder.pid)
    workers = children(holder.pid)
    assert len(workers) == 2
    for pid in workers:
        assert inode not in inodes_of(pid)
        assert b"LISTEN_" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert "init []" in holder.log()
    assert holder.stop() == 0


def test_under_twistd_too(hold, tmp_path):
    sock = listening()
    holder = hold({"http": sock})
    command = [str(BIN / "twistd"), "-n", f"--pidfile={tmp_path / 'pid'}", "rr", "-c", str(holder.file)]
    holder.start(*command).wait_for("listening on")
    assert ask(sock).startswith(b"HTTP/1.1 200")
    assert holder.stop() == 0
    with socket.create_connection(sock.getsockname(), timeout=5):
        pass  # the queue is still there


def test_a_twistd_daemon_keeps_what_was_passed_before_it_forked(hold, tmp_path):
    sock = listening()
    holder = hold({"http": sock})
    pidfile, log = tmp_path / "twistd.pid", tmp_path / "twistd.log"
    holder.start(
        str(BIN / "twistd"), f"--pidfile={pidfile}", f"--logfile={log}", "rr", "-c", str(holder.file)
    )
    assert holder.process.wait(30) == 0, holder.log()
    pid = int(pidfile.read_text())
    try:
        until(lambda: "listening on" in log.read_text(), 30)
        assert ask(sock).startswith(b"HTTP/1.1 200")
    finally:
        os.kill(pid, 15)
    until(lambda: not pidfile.exists(), 30, why="the daemon did not end")


def test_a_connection_instead_of_a_socket_fails_the_start_in_words(hold):
    ours, theirs = socket.socketpair()
    holder = hold({"http": ours})
    holder.start()
    assert holder.process.wait(30) == 1
    assert "expected a listening socket, not a connection (Accept=yes)" in holder.log()
    theirs.close()
