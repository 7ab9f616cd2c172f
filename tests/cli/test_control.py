"""The verbs of the command line against a socket that answers what the test says; each in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from twisted_rr.cli import control, target
from twisted_rr.cli.client import Connection, NoAnswerError, NobodyThereError
from twisted_rr.lifecycle.admin import place

DRAIN = {
    "done": True,
    "state": "drained",
    "reversible": True,
    "in_flight": 0,
    "oldest": None,
    "calls": [],
    "deadline_in": None,
}


class Oracle:
    """Answers one request after the other, on the place of the configuration in *folder*."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / ".rr.yaml"
        self.config.write_text('version: "3"\n')
        self.environ = {"RUNTIME_DIRECTORY": str(folder / "r"), "TMPDIR": str(folder / "r")}
        (folder / "r").mkdir(mode=0o700)
        name = place.name_of_file(str(self.config))
        self.path = place.places(name, self.environ, os.geteuid())[0].socket
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.path)
        self._socket.listen()
        self._answer = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def says(self, status: int, told: Any) -> None:
        self.says_bytes(f"HTTP/1.1 {status} X\r\n\r\n".encode() + json.dumps(told).encode())

    def says_bytes(self, data: bytes) -> None:
        self._answer = data

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client:
                head = client.recv(65536).decode()
                if head:
                    self.asked.append(" ".join(head.split("\r\n")[0].split(" ")[:2]))
                    client.sendall(self._answer)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()


@pytest.fixture
def oracle(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Oracle]:
    # The path of a socket has room for 107 bytes.
    folder = tmp_path_factory.mktemp("o")
    made = Oracle(folder)
    for name, value in {**made.environ, "XDG_RUNTIME_DIR": ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    yield made
    made.close()


def test_drain_tells_the_state_and_how_to_take_it_back(
    oracle: Oracle, capsys: pytest.CaptureFixture[str]
) -> None:
    oracle.says(200, {**DRAIN, "in_flight": 2, "oldest": 8.12})
    assert control.main(["drain"]) == 0
    assert oracle.asked == ["POST /drain"]
    assert capsys.readouterr().out == (
        "drained: not ready, 2 in flight, the oldest 8.1 s old; twisted-rr undrain takes it back\n"
    )


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["drain", "--wait"], "POST /drain?wait=1"),
        (["drain", "--deadline", "20s"], "POST /drain?wait=1&deadline=20s"),
        (["drain", "--quiet", "2s"], "POST /drain?wait=1&quiet=2s"),
        (["undrain"], "POST /undrain"),
        (["stop", "--force"], "POST /stop?force=1"),
        (["stop", "--wait", "--deadline", "60s"], "POST /stop?wait=1&deadline=60s"),
        (["status", "--probe", "health"], "GET /health"),
        (["reset"], "POST /reset"),
        (["reset", "--wait"], "POST /reset?wait=1"),
        (["reset", "--deadline", "60s", "admin"], "POST /reset?wait=1&deadline=60s&pool=admin"),
    ],
)
def test_options_become_parameters(oracle: Oracle, arguments: list[str], asked: str) -> None:
    oracle.says(200, DRAIN)
    assert control.main(arguments) == 0
    assert oracle.asked == [asked]


def test_a_reset_tells_of_each_worker(oracle: Oracle, capsys: pytest.CaptureFixture[str]) -> None:
    replaced = [{"old": 1, "new": 3, "seconds": 0.5}]
    oracle.says(200, {"done": True, "pools": [{"name": "http", "replaced": replaced, "kept": [], "lost": 2}]})
    assert control.main(["reset", "--wait", "http"]) == 0
    assert capsys.readouterr().out == (
        "http: 1 by 3, which took 0.50 s to start\n"
        "http: 2 calls were cut, their time (reset_timeout) was over\n"
    )


def test_a_reset_that_failed_is_1_with_the_workers_that_stay(
    oracle: Oracle, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = {"name": "http", "replaced": [], "kept": [1, 2], "lost": 0}
    oracle.says(500, {"done": False, "reason": "http: it did not start", "pools": [pool]})
    assert control.main(["reset", "--wait"]) == 1
    told = capsys.readouterr()
    assert told.err == "http: it did not start\n"
    assert told.out == "http: 1 stays\nhttp: 2 stays\n"


def test_several_pools_are_asked_for_one_after_the_other(oracle: Oracle) -> None:
    oracle.says(202, {"state": "running", "pools": ["x"]})
    assert control.main(["reset", "api", "admin"]) == 0
    assert oracle.asked == ["POST /reset?pool=api", "POST /reset?pool=admin"]


def test_a_deadline_that_passed_is_1_with_what_is_left(
    oracle: Oracle, capsys: pytest.CaptureFixture[str]
) -> None:
    call = {"protocol": "http", "method": "GET", "path": "/slow", "age": 31.0, "pid": 7}
    left = {"done": False, "reason": "the deadline passed", "in_flight": 1, "oldest": 31.0, "calls": [call]}
    oracle.says(504, {**DRAIN, **left})
    assert control.main(["drain", "--deadline", "1s"]) == 1
    assert capsys.readouterr().err == (
        "the deadline passed; drained: 1 in flight, the oldest 31.0 s old\n"
        "  http GET /slow (31.0 s, worker 7)\n"
    )


def test_a_refusal_is_1_in_the_servers_words(oracle: Oracle, capsys: pytest.CaptureFixture[str]) -> None:
    oracle.says(409, {"error": "undrain is not possible while draining:finish", "state": "draining:finish"})
    assert control.main(["undrain"]) == 1
    assert capsys.readouterr().err == "undrain is not possible while draining:finish\n"


def test_a_probe_says_why_not(oracle: Oracle, capsys: pytest.CaptureFixture[str]) -> None:
    plugins = [
        {"plugin_name": "http", "error_message": "no worker", "status_code": 503},
        {"plugin_name": "lifecycle", "error_message": "", "status_code": 200},
    ]
    oracle.says(503, {"code": 503, "plugins": plugins})
    assert control.main(["status", "--probe", "ready"]) == 1
    assert capsys.readouterr().out == "ready: no (http: no worker)\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}",
    ],
)
def test_an_answer_that_is_none_is_1_and_no_traceback(
    oracle: Oracle, answer: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    oracle.says_bytes(answer)
    assert control.main(["drain", "--wait"]) == 1
    assert control.main(["status", "--probe", "ready"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_nobody_there_is_3_but_1_for_a_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for verb in ("drain", "undrain", "stop", "status"):
        assert control.main([verb]) == 3
    assert "no server there for the folder" in capsys.readouterr().err
    assert control.main(["status", "--probe", "ready"]) == 1
    assert control.main(["drain", "--socket", str(tmp_path / "none")]) == 3


def test_a_configuration_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rr.yaml"
    assert control.main(["status", "-c", str(file)]) == 3
    assert f"no server there for {file}: nobody listens, and there is no such file" in capsys.readouterr().err
    file.write_text('version: "3"\n')
    assert control.main(["status", "-c", str(file)]) == 3
    assert "no such file" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["drain", "--frobnicate"],
        ["status", "--probe", "x"],
        ["stop", "a:b", "c:d"],
        ["status", "--timeout", "0"],
        ["status", "--timeout", "nan"],
    ],
)
def test_wrong_usage_is_2_and_shows_the_usage_of_the_verb(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        control.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"usage: twisted-rr {arguments[0]} [-h] ")


def test_a_socket_that_a_killed_server_left_is_nobody(oracle: Oracle) -> None:
    oracle.close()
    assert os.path.exists(oracle.path)
    assert control.main(["drain"]) == 3


def test_a_server_that_says_nothing_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    path = f"@rr-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind("\0" + path[1:])
        silent.listen()
        with pytest.raises(NoAnswerError, match=r"no answer within 0.2 s"):
            Connection(path, 0.2).ask("GET", "/ready")
    with pytest.raises(NobodyThereError):
        Connection(path, 0.2)


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("127.0.0.1:2114", ("127.0.0.1", 2114)),
        ("0.0.0.0:2114", ("127.0.0.1", 2114)),
        (":${PORT:-99}", ("127.0.0.1", 99)),
        ("tcp://[::1]:2114", ("::1", 2114)),
        ("unix:///run/s.sock", "/run/s.sock"),
        ("nonsense", None),
    ],
)
def test_the_status_address_is_read_from_any_configuration(tmp_path: Path, address: str, found: Any) -> None:
    file = tmp_path / "rr.yaml"
    file.write_text(f'version: "3"\nstatus: {{address: "{address}"}}\nsome_plugin: {{any: [1, 2]}}\n')
    chosen = target.Target(
        socket=None, config=str(file), application=None, environ={}, folder="/", uid=os.geteuid()
    )
    assert chosen.status_address() == found


def test_a_configuration_that_cannot_be_read_is_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / "rr.yaml"
    file.write_text("{")
    assert target.read_sections(str(file), {}) == {}
    assert target.read_sections(str(tmp_path / "none"), {}) == {}


def test_a_probe_loads_neither_twisted_nor_click_nor_yaml() -> None:
    code = (
        "import sys; sys.argv = ['twisted-rr', 'status', '--probe', 'ready', '--socket', '/nowhere']\n"
        "from twisted_rr.cli.entry import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 1\n"
        "heavy = {'twisted', 'click', 'yaml', 'attr', 'msgspec', 'http', 'zope'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_other_commands_list_the_verbs() -> None:
    from click.testing import CliRunner

    from twisted_rr.cli.main import cli

    shown = CliRunner().invoke(cli, ["--help"]).output
    assert all(verb in shown and text.split(":")[0] in shown for verb, text in control.VERBS.items())


@pytest.mark.parametrize(
    ("left", "in_flight", "said"),
    [(23.94, 1, ", cut in 23.9 s at most"), (0.0, 1, ", cut now"), (23.9, 0, ""), (None, 1, "")],
)
def test_a_stop_says_when_what_is_in_flight_is_cut(left: float | None, in_flight: int, said: str) -> None:
    told = {"state": "draining:finish", "in_flight": in_flight, "oldest": 1.0, "deadline_in": left}
    assert control._stopped(told).endswith("old" + said if in_flight else "in flight" + said)
