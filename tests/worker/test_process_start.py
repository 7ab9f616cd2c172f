"""How a worker process begins: its relay, its descriptors, and what is said when it cannot begin."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from worker_rig import HERE, LIMIT, MuxRelay, Process, request

from twisted_rr.wire.control import MuxOffer

Start = Callable[..., Process]

NOISE = [
    "noise by print", "noise by __stdout__", "noise by descriptor 1", "noise by os.system", "noise by subprocess",
]  # fmt: skip


@pytest.mark.parametrize("relay", ["socketpair", "pipes"])
def test_nothing_an_application_does_to_descriptors_0_1_2_touches_the_relay(start: Start, relay: str) -> None:
    process = start("sdk_apps:noisy()", relay=relay)
    mux = MuxRelay(process)
    assert mux.get("/noise").body == b"quiet"
    process.quiet()
    assert process.stop() == 0
    printed = process.stderr.splitlines()
    for line in NOISE:
        assert printed.count(line) == 2, line
    assert any(line.startswith("Current thread 0x") for line in printed)
    assert printed[-1] == "noise at exit"


@pytest.mark.parametrize("application", ["sdk_apps:site", "sdk_apps:wsgi_site"])
def test_noise_is_kept_off_a_relay_of_one_call_at_a_time(start: Start, application: str) -> None:
    process = start(application)
    process.hello()
    process.call(request("/noise"))
    assert process.answer()[2] == b"quiet"
    assert process.quiet()
    assert process.stop() == 0
    assert sorted(line for line in process.stderr.splitlines() if "noise" in line) == sorted(NOISE)


def test_children_do_not_hold_the_relay(start: Start, tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(
        "import os, subprocess\n"
        "child = subprocess.Popen(['sleep', '60'], close_fds=False)\n"
        "open('child.pid', 'w').write(str(child.pid))\n"
        "def application(environ, start_response):\n    start_response('200 OK', [])\n    return []\n"
    )
    process = start("child", cwd=tmp_path)
    process.hello()
    child = int((tmp_path / "child.pid").read_text())
    try:
        held = {os.readlink(f"/proc/{child}/fd/{name}") for name in os.listdir(f"/proc/{child}/fd")}
        assert not any(name.startswith("socket:") for name in held)
        assert process.stop() == 0
        assert process.read() == b""
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_the_worker_connects_to_a_socket_relay(start: Start, kind: str, tmp_path: Path) -> None:
    if kind == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "relay"))
        address = f"unix://{tmp_path / 'relay'}"
    else:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    with listener:
        listener.listen()
        process = start("sdk_apps:site", relay="none", env={"RR_RELAY": address})
        process.accept(listener)
        assert MuxRelay(process).get("/noise").body == b"quiet"
        assert process.stop() == 0
    assert "noise by print" in process.stderr


@pytest.mark.parametrize(
    ("relay", "reason"),
    [
        ("unix:///does/not/exist", "cannot connect to the relay unix:///does/not/exist"),
        ("carrier-pigeon", "is neither pipes, unix://path nor tcp://host:port"),
        ("tcp://localhost", "has no port"),
        ("pipes", "descriptors 0 and 1 are no relay; a worker is started by a server"),
    ],
)
def test_a_relay_that_is_none_is_explained(start: Start, relay: str, reason: str) -> None:
    process = start("sdk_apps:site", relay="none", env={"RR_RELAY": relay})
    assert process.wait() == 2
    assert reason in process.stderr
    assert process.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("import missing_module\n", ["ModuleNotFoundError: No module named 'missing_module'"]),
        ("print('before')\n1 / 0\n", ["before", "ZeroDivisionError: division by zero"]),
        ("x = (\n", ["SyntaxError: '(' was never closed"]),
        ("application = 7\n", ["it is of type int, which is not callable"]),
        ("import sys; sys.exit(5)\n", ["SystemExit: 5"]),
    ],
)
def test_an_application_that_cannot_be_loaded_is_explained_once(
    start: Start, tmp_path: Path, source: str, lines: list[str]
) -> None:
    (tmp_path / "wrong.py").write_text(source)
    process = start("wrong:application", cwd=tmp_path)
    assert process.wait() == 3
    printed = process.stderr
    for line in lines:
        assert line in printed
    assert printed.count("Traceback (most recent call last)") <= 1
    assert printed.count("cannot load the application 'wrong:application'") == 1
    assert f"working directory: {tmp_path}\n" in printed
    assert "twisted_rr.worker wrong:application\n" in printed
    assert "importlib" not in printed
    assert "twisted_rr/worker" not in printed


def test_the_directory_of_the_application_can_be_named(start: Start, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text("from sdk_apps import *\n")
    process = start(
        "--app-dir", str(tmp_path), "elsewhere:site", cwd=tmp_path.parent, env={"PYTHONPATH": str(HERE)}
    )
    assert MuxRelay(process).get("/").body == b"hello"


def test_a_stop_before_the_handshake_is_an_exit(start: Start) -> None:
    assert start("sdk_apps:site").stop() == 0


def test_a_server_that_speaks_something_else_is_an_error(start: Start) -> None:
    process = start("sdk_apps:site")
    process.write(b"GET / HTTP/1.1\r\n\r\n")
    assert process.wait() == 1
    assert process.stderr.startswith("twisted_rr.worker: ")
    assert process.stderr.count("\n") == 1


def test_interrupts_are_the_servers_affair(start: Start) -> None:
    process = start("sdk_apps:site")
    mux = MuxRelay(process)
    os.kill(process.pid, signal.SIGINT)
    assert mux.get("/").body == b"hello"
    assert process.stop() == 0


def test_options_are_checked(start: Start) -> None:
    for arguments in (["--threads", "0", "x:y"], ["--interface", "cgi", "x:y"], []):
        assert start(*arguments).wait() == 2


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_the_sdk_loads_no_twisted(interface: str) -> None:
    name = {"wsgi": "wsgi_server", "asgi": "asgi"}[interface]
    program = (
        "import sys\n"
        "import twisted_rr.worker, twisted_rr.worker.command, twisted_rr.worker.handlers\n"
        f"import twisted_rr.worker.{name}\n"
        "bad = {name.partition('.')[0] for name in sys.modules}\n"
        "bad &= {'twisted', 'zope', 'yaml', 'attr', 'attrs', 'txaio', 'click', 'psutil'}\n"
        "sys.exit(repr(sorted(bad)) if bad else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr


def test_a_wsgi_worker_loads_no_event_loop(start: Start, tmp_path: Path) -> None:
    (tmp_path / "shows.py").write_text(
        "import sys\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [repr('asyncio' in sys.modules).encode()]\n"
    )
    process = start("shows", cwd=tmp_path)
    assert MuxRelay(process).get("/").body == b"False"


def test_memory_is_modest(start: Start) -> None:
    process = start("sdk_apps:plain")
    MuxRelay(process, MuxOffer()).get("/")
    status = Path(f"/proc/{process.pid}/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0])
    assert resident < 60_000  # kB
