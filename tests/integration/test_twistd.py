"""`twistd rr` in the foreground and as a daemon: exit codes, pid file, log, privileges, stop."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml
from deploy_image import Image, system_python
from rig import APPS, BIN, Background, RunningServer, alive, children, config_for, free_port, until


def write(folder: Path, config: dict) -> str:
    (folder / "rr.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return str(folder / "rr.yaml")


def command_line(
    folder: Path, config: str, *options: str, foreground: bool = False, run: list[str] | None = None
) -> list[str]:
    return [
        *(run or [str(BIN / "twistd")]),
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

    def __init__(self, folder: Path, *options: str, twistd: list[str] | None = None, **sections) -> None:
        self.folder, self.port, self.status_port = folder, free_port(), free_port()
        config = write(
            folder, config_for("asgi_app:app", port=self.port, status_port=self.status_port, **sections)
        )
        self.started = subprocess.run(
            command_line(folder, config, *options, run=twistd),
            env=ENV,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=30,
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
        until(lambda: not alive(daemon.pid), 10, why="the daemon did not end")
        until(lambda: not (tmp_path / "twistd.pid").exists(), 10, why="the pid file stayed")
        assert "asgi" in (tmp_path / "twistd.log").read_text() or (tmp_path / "twistd.log").stat().st_size
    finally:
        daemon.kill()


def test_a_bad_config_ends_with_1_and_a_line_on_the_terminal(tmp_path):
    config = write(tmp_path, {"version": "3", "http": {"adress": "127.0.0.1:1"}})
    done = subprocess.run(
        command_line(tmp_path, config), env=ENV, cwd=tmp_path, capture_output=True, text=True, timeout=20
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
            command_line(tmp_path, config, foreground=foreground),
            env=ENV,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
        )

        def said() -> str:
            log = tmp_path / "twistd.log"
            return done.stdout + done.stderr + (log.read_text() if log.exists() else "")

        assert done.returncode == 1, said()
        # A daemon's parent ends before the daemon has written all of it.
        until(
            lambda: f"{port} (http.address)" in said() and "in use" in said(),
            why=f"the port is not in\n{said()}",
        )
    # In a container the next start has the same process id, and would take the file for another server's.
    assert not (tmp_path / "twistd.pid").exists()


def test_a_failing_worker_ends_the_foreground_server_with_1(tmp_path):
    config = write(tmp_path, config_for("no_such_module:app", port=free_port(), status_port=free_port()))
    done = subprocess.run(
        command_line(tmp_path, config, "--logfile=-", foreground=True),
        env=ENV,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "no_such_module" in done.stdout + done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")
@pytest.mark.skipif(system_python() is None, reason="needs an interpreter that other users can run")
def test_uid_and_gid():
    """Ports are bound as root; the server and its workers are nobody's."""
    image = Image()
    folder = Path(tempfile.mkdtemp(prefix="rr-uid-"))
    daemon = None
    try:
        folder.chmod(0o777)
        python = str(image.root / "opt/venv/bin/python")
        shutil.copy(APPS / "asgi_app.py", folder)
        run = [python, "-c", "from twisted.scripts.twistd import run; run()"]
        daemon = Daemon(
            folder,
            "--uid=65534",
            "--gid=65534",
            twistd=run,
            server={"command": [python, "-m", "twisted_rr.worker", "asgi_app:app"]},
        )
        assert daemon.started.returncode == 0, daemon.started.stderr
        daemon.wait_ready()
        for pid in [daemon.pid, *children(daemon.pid)]:
            status = Path(f"/proc/{pid}/status").read_text()
            assert (
                "Uid:\t65534\t65534\t65534\t65534" in status and "Gid:\t65534\t65534\t65534\t65534" in status
            )
        assert RunningServer.request(daemon, "GET", "/hello")[2] == b"hello"
        os.kill(daemon.pid, signal.SIGTERM)
        until(lambda: not alive(daemon.pid), 5, why="the daemon did not end")
    finally:
        if daemon is not None:
            daemon.kill()
        image.close()
        shutil.rmtree(folder)
