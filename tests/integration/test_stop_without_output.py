"""I26: a full disk, closed standard streams and a log that nobody reads neither block nor spoil a stop."""

import os
import resource
import subprocess
import time
from pathlib import Path

import pytest
from admin_rig import runtime
from rig import APPS, BIN, Background, config_for, free_port, until


class Bare:
    """A server with standard streams of the test's making, hence without the rig's log."""

    def __init__(self, folder: Path, shell: str = "", prepare=None, stdout=None, **sections) -> None:
        import yaml

        self.port, self.status_port = free_port(), free_port()
        self.file = folder / "rr.yaml"
        config = config_for("asgi_app:app", port=self.port, status_port=self.status_port, **sections)
        self.file.write_text(yaml.safe_dump(config))
        serve = f"exec {BIN / 'twisted-rr'} serve -w {APPS} -c {self.file} {shell}"
        self.process = subprocess.Popen(
            ["sh", "-c", serve],
            stdin=subprocess.DEVNULL,
            stdout=stdout or subprocess.DEVNULL,
            stderr=stdout or subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(APPS), **runtime(folder)},
            preexec_fn=prepare,
            start_new_session=True,
        )

    def get(self, path: str, port: int | None = None) -> int:
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=20)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except OSError:
            return 0
        finally:
            connection.close()

    def ready(self) -> bool:
        assert self.process.poll() is None, "it ended"
        return self.get("/ready", self.status_port) == 200

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


def stops_well(server: Bare) -> None:
    """A call in flight is finished, the stop is quick, the exit code 0."""
    try:
        until(server.ready, 30, 0.05, "it did not get ready")
        call = Background(server.get, "/wait?seconds=2")
        time.sleep(0.7)
        server.process.terminate()
        until(lambda: server.get("/ready", server.status_port) == 503, 1.5, why="/ready says yes")
        assert server.get("/health", server.status_port) == 200
        assert call.result(20) == 200
        ended = time.monotonic()
        assert server.process.wait(5) == 0
        assert time.monotonic() - ended < 2
    finally:
        server.kill()


@pytest.mark.parametrize("shell", [">&- 2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_closed_and_full_standard_streams(tmp_path, shell: str):
    stops_well(Bare(tmp_path, shell))


def test_a_log_file_on_a_full_disk(tmp_path):
    stops_well(Bare(tmp_path, logs={"output": "/dev/full"}))


def test_no_file_can_be_written_at_all(tmp_path):
    # Every write to a file fails with EFBIG from here on, the state file's too.
    def no_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    stops_well(Bare(tmp_path, prepare=no_files, logs={"output": str(tmp_path / "log")}))


def test_a_pipe_whose_reader_is_gone(tmp_path):
    reading, writing = os.pipe()
    server = Bare(tmp_path, stdout=writing)
    os.close(writing)
    os.close(reading)
    stops_well(server)


def test_a_pipe_that_nobody_reads(tmp_path):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    try:
        stops_well(Bare(tmp_path, stdout=writing))
    finally:
        os.close(writing)
        os.close(reading)
