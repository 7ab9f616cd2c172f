"""Wrong configurations and workers that cannot work: one clear line each, exit code 1, nobody left."""

import http.client
import socket
import subprocess
import sys
import time

import pytest
import yaml
from rig import APPS, BIN, config_for, free_port, running, serving, until

PYTHON = [sys.executable, "-u", "-c"]


def serve(tmp_path, config: dict, seconds: float = 30.0) -> subprocess.CompletedProcess:
    (tmp_path / "rr.yaml").write_text(yaml.safe_dump(config))
    command = [str(BIN / "twisted-rr"), "serve", "-c", str(tmp_path / "rr.yaml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, cwd=APPS)


def config(**server) -> dict:
    made = config_for("asgi_app:app", port=free_port(), status_port=free_port())
    made["server"].update(server)
    made["http"]["pool"]["allocate_timeout"] = "2s"
    return made


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["no-such-command-at-all"], "command not found: no-such-command-at-all"),
        ([*PYTHON, "raise SystemExit(7)"], "exit code 7"),
        ([*PYTHON, "import sys; sys.exit('the database is away')"], "the database is away"),
        ([*PYTHON, "print('Hello, I print'); import time; time.sleep(60)"], "Hello, I print"),
        ([*PYTHON, "import time; time.sleep(60)"], "2 s"),
        (
            [sys.executable, "-m", "twisted_rr.worker", "no_such_module:app"],
            "No module named 'no_such_module'",
        ),
    ],
    ids=["absent", "exits", "explains", "prints", "silent", "import"],
)
def test_a_worker_that_cannot_work_fails_the_start(tmp_path, command, said):
    began = time.monotonic()
    done = serve(tmp_path, config(command=command))
    output = done.stdout + done.stderr
    assert done.returncode == 1, output
    assert said in output, output
    assert time.monotonic() - began < 12
    assert output.count("Traceback") <= (2 if "no_such_module" in said else 0), output
    assert not running(command[-1])


def test_a_wrong_key_is_named_with_its_line_and_starts_nothing(tmp_path):
    wrong = config()
    wrong["http"]["adress"] = wrong["http"].pop("address")
    done = serve(tmp_path, wrong)
    assert done.returncode == 1
    assert "rr.yaml:" in done.stderr and "http.adress" in done.stderr and "address" in done.stderr


@pytest.mark.parametrize("twistd", [False, True], ids=["serve", "twistd"])
def test_a_log_that_cannot_be_opened_is_one_line(tmp_path, twistd):
    made = {**config(), "logs": {"output": "nowhere/rr.log"}}
    if twistd:
        (tmp_path / "rr.yaml").write_text(yaml.safe_dump(made))
        command = [str(BIN / "twistd"), "-n", "--pidfile=", "rr", "--config", str(tmp_path / "rr.yaml")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=APPS)
    else:
        done = serve(tmp_path, made)
    told = f"logs.output: cannot open {tmp_path}/nowhere/rr.log: No such file or directory\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_a_port_in_use_fails_at_once(tmp_path):
    made = config()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        made["http"]["address"] = f"127.0.0.1:{taken.getsockname()[1]}"
        began = time.monotonic()
        done = serve(tmp_path, made)
    assert done.returncode == 1 and "(http.address): address already in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 5


BAD = {
    "smuggled": (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "long target": (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "long head": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: " + b"b" * 40000 + b"\r\n\r\n", 431),
    "many fields": (
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + b"\r\n",
        431,
    ),
    "too large": (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 413),
    "expectation": (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: a-pony\r\n\r\n", 417),
    "version": (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
}


def test_malformed_requests_are_refused_quietly(tmp_path):
    with serving(tmp_path, logs={"level": "debug"}, http={"timeouts": {"header": "1s"}}) as server:
        for name, (sent, status) in BAD.items():
            with socket.create_connection(("127.0.0.1", server.port), 5) as client:
                client.sendall(sent)
                answer = http.client.HTTPResponse(client)
                answer.begin()
                assert answer.status == status, name
                answer.read()
                assert client.recv(1) == b"", f"{name}: the connection stayed open"
        with socket.create_connection(("127.0.0.1", server.port), 5) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost")
            began = time.monotonic()
            assert client.recv(200)[:12] in (b"HTTP/1.1 408", b"")
            assert 0.5 < time.monotonic() - began < 4
        assert server.get("/hello")[2] == b"hello"
        refusals = [
            record for record in server.records() if record["logger"] == "http" and record["level"] == "debug"
        ]
        assert len(refusals) >= len(BAD)
        assert "Traceback" not in server.log() and not [
            r for r in server.records() if r["level"] in ("error", "critical")
        ]


def test_failures_are_told_apart(tmp_path):
    with serving(tmp_path, workers=2) as server:
        assert server.get("/fail")[0] == 500
        assert server.get("/crash")[0] == 502
        assert "the application failed on purpose" in server.log()
        until(lambda: len(server.workers()) == 2, 10)
        assert server.get("/hello")[0] == 200


def test_what_the_application_prints_becomes_records_of_its_own(tmp_path):
    with serving(tmp_path, workers=1) as server:
        assert server.get("/noise")[2] == b"quiet"
        pid = server.workers()[0]

        def lines():
            return [
                record["line"] for record in server.records() if record.get("pid") == pid and "line" in record
            ]

        until(lambda: len(lines()) >= 4, 10)
        assert set(lines()) == {
            "printed by the application",
            "written to stdout",
            "said by a shell",
            "raw bytes on fd 1",
        }
