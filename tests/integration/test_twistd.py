"""`twistd rr` in the foreground and as a daemon: exit codes, pid file, log, privileges, stop."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from rig import APPS, BIN, Background, RunningServer, alive, config_for, free_port, until


def write(folder: Path, config: dict) -> str:
    (folder / "rr.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return str(folder / "rr.yaml")


def twistd(folder: Path, config: str, *options: str, foreground: bool = False) -> list[str]:
    return [
        str(BIN / "twistd"),
        *(["-n"] if foreground else []),
        f"--pidfile={folder / 'twistd.pid'}",
        f"--logfile={folder / 'twistd.log'}",
        *options,
        "rr",
        "--config",
        config,
    ]


ENV = {**os.environ, "PYTHONPATH": str(APPS)}


class Daemon:
    """A daemonised server; ended by its pid file."""

    def __init__(self, folder: Path, *options: str, **sections) -> None:
        self.folder, self.port, self.status_port = folder, free_port(), free_port()
        config = write(
            folder, config_for("asgi_app:app", port=self.port, status_port=self.status_port, **sections)
        )
        self.started = subprocess.run(
            twistd(folder, config, *options), env=ENV, cwd=folder, capture_output=True, text=True, timeout=30
        )
        self.pid = 0

    def wait_ready(self) -> None:
        self.pid = int((self.folder / "twistd.pid").read_text())
        until(
            lambda: RunningServer.status(self, "/ready")[0] == 200, 20, 0.05, "the daemon did not get ready"
        )

    def kill(self) -> None:
        if self.pid and alive(self.pid):
            os.kill(self.pid, signal.SIGKILL)


def test_the_daemon_serves_and_kill_drains_it(tmp_path):
    daemon = Daemon(tmp_path)
    try:
        assert daemon.started.returncode == 0, daemon.started.stderr
        daemon.wait_ready()
        call = Background(RunningServer.request, daemon, "GET", "/wait?seconds=2")
        until(lambda: RunningServer.status(daemon, "/health")[0] == 200)
        import time

        time.sleep(0.5)
        os.kill(daemon.pid, signal.SIGTERM)
        assert call.result()[0] == 200
        until(lambda: not alive(daemon.pid), 3, why="the daemon did not end")
        until(lambda: not (tmp_path / "twistd.pid").exists(), 1, why="the pid file stayed")
        assert "asgi" in (tmp_path / "twistd.log").read_text() or (tmp_path / "twistd.log").stat().st_size
    finally:
        daemon.kill()


def test_a_bad_config_ends_with_1_and_a_line_on_the_terminal(tmp_path):
    config = write(tmp_path, {"version": "3", "http": {"adress": "127.0.0.1:1"}})
    done = subprocess.run(
        twistd(tmp_path, config), env=ENV, cwd=tmp_path, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 1
    assert "adress" in done.stdout + done.stderr and "address" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("foreground", [True, False], ids=["foreground", "daemon"])
def test_a_busy_port_ends_with_1_and_is_named(tmp_path, foreground):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = write(tmp_path, config_for("asgi_app:app", port=port, status_port=free_port()))
        done = subprocess.run(
            twistd(tmp_path, config, foreground=foreground),
            env=ENV,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
        )
        said = (
            done.stdout + done.stderr + (tmp_path / "twistd.log").read_text()
            if (tmp_path / "twistd.log").exists()
            else done.stdout + done.stderr
        )
        assert done.returncode == 1, said
        assert str(port) in said and "in use" in said


def test_a_failing_worker_ends_the_foreground_server_with_1(tmp_path):
    config = write(tmp_path, config_for("no_such_module:app", port=free_port(), status_port=free_port()))
    done = subprocess.run(
        twistd(tmp_path, config, "--logfile=-", foreground=True),
        env=ENV,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "no_such_module" in done.stdout + done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")
def test_uid_and_gid(tmp_path):
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_mode & 0o005 != 0o005 and str(parent).startswith("/tmp"):
            parent.chmod(0o755)
    (tmp_path / "run").mkdir()
    os.chown(tmp_path / "run", 65534, 65534)
    if not os.access(sys.executable, os.X_OK) or not _readable_by_others(Path(sys.executable)):
        pytest.skip("this interpreter cannot be read by other users")
    daemon = Daemon(tmp_path, "--uid=65534", "--gid=65534")
    try:
        assert daemon.started.returncode == 0, daemon.started.stderr
        daemon.wait_ready()
        assert Path(f"/proc/{daemon.pid}").stat().st_uid == 65534
        assert RunningServer.request(daemon, "GET", "/hello")[2] == b"hello"
        os.kill(daemon.pid, signal.SIGTERM)
        until(lambda: not alive(daemon.pid), 5, why="the daemon did not end")
    finally:
        daemon.kill()


def _readable_by_others(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)
