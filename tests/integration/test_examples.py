"""Each example answers a real request, with the configuration it ships."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import yaml
from rig import APPS, BIN, ROOT, RunningServer, alive, children, free_port, until

EXAMPLES = ROOT / "examples"


def multipart(
    fields: dict[str, str], name: str, filename: str, content: bytes
) -> tuple[bytes, dict[str, str]]:
    parts = [
        f'--frontier\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    parts.append(
        f'--frontier\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\nContent-Type: application/octet-stream\r\n\r\n'.encode()
        + content + b"\r\n"
    )  # fmt: skip
    return b"".join([*parts, b"--frontier--\r\n"]), {"Content-Type": "multipart/form-data; boundary=frontier"}


@pytest.fixture
def example(tmp_path):
    """Starts an example by its folder's name, on free ports."""
    running = []

    def start(name: str) -> RunningServer:
        folder = EXAMPLES / name
        port, status_port = free_port(), free_port()
        config = yaml.safe_load((folder / ".rr.yaml").read_text())
        command = [
            str(BIN / "twisted-rr"), "serve", "-c", str(folder / ".rr.yaml"),
            "-o", f"http.address=127.0.0.1:{port}", "-o", f"status.address=127.0.0.1:{status_port}",
        ]  # fmt: skip
        env = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": ""}
        server = RunningServer(
            tmp_path, config, port=port, status_port=status_port, command=command, env=env, cwd=folder
        )
        running.append(server)
        return server.wait_ready()

    yield start
    for server in running:
        try:
            assert server.stop() == 0, server.log()
        finally:
            server.kill()


def test_hello(example):
    status, headers, body = example("hello").get("/somewhere")
    assert status == 200 and b"/somewhere" in body and headers["content-type"].startswith("text/plain")


def test_flask_form_with_a_file_and_stream(example):
    server = example("flask")
    body, headers = multipart({"title": "a title"}, "file", "data.bin", bytes(100_000))
    status, _, answer = server.request("POST", "/upload", body, headers)
    assert status == 200 and json.loads(answer) == {"title": "a title", "file": "data.bin", "size": 100_000}
    assert server.get("/count")[2] == b"0\n1\n2\n3\n4\n"


def test_django_form_with_a_file(example):
    server = example("django")
    assert server.get("/")[2] == b"Django answers /\n"
    body, headers = multipart({"title": "t"}, "file", "x.txt", b"content")
    status, _, answer = server.request("POST", "/upload", body, headers)
    assert status == 200 and json.loads(answer) == {"title": "t", "file": "x.txt", "size": 7}


def test_fastapi_streams_down_and_up(example):
    server = example("fastapi")
    assert json.loads(server.get("/?name=rr")[2]) == {"hello": "rr"}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    began = time.monotonic()
    connection.request("GET", "/ticks?count=5&pause=0.3")
    answer = connection.getresponse()
    first = answer.read1(100)
    first_at = time.monotonic() - began
    rest = answer.read()
    last_at = time.monotonic() - began
    assert first.startswith(b"data: tick 0") and b"tick 4" in rest
    assert first_at < 0.9 < last_at, "the first piece waited for the last"

    def pieces():
        for _ in range(5):
            yield b"x" * 1000
            time.sleep(0.1)

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", "/upload", pieces(), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    answer = json.loads(connection.getresponse().read())
    assert answer["size"] == 5000 and answer["pieces"] >= 3, (
        "the upload was collected before it was handed on"
    )


@pytest.mark.skipif(not shutil.which("php"), reason="php is not installed")
def test_php_worker_with_form_and_file(example):
    server = example("php")
    status, _, body = server.get("/index?x=1")
    assert status == 200 and b"answers GET" in body and b"/index?x=1" in body
    status, _, body = server.request(
        "POST", "/f", b"a=1&b[]=2&b[]=3", {"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert b'form: {"a":"1","b":["2","3"]}' in body
    form, headers = multipart({"title": "t"}, "file", "x.txt", b"content")
    assert b"file file: x.txt, 7 bytes" in server.request("POST", "/f", form, headers)[2]


def test_embedding_kills_drains_and_starts_again(tmp_path):
    """The example, as a whole: a worker is killed, the service drained, started again, and no zombie is left."""
    port = free_port()
    program = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "embedding" / "main.py")],
        env={**os.environ, "PORT": str(port)},
        stdout=subprocess.PIPE,
        text=True,
    )

    def worker_of_answer() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/")
        body = connection.getresponse().read()
        connection.close()
        assert b"served inside another Twisted program" in body
        return int(body.split()[-1])

    try:
        assert program.stdout.readline() == "serving\n"
        killed = worker_of_answer()
        os.kill(killed, signal.SIGKILL)
        until(lambda: killed not in children(program.pid) and len(children(program.pid)) == 2, 5)
        assert worker_of_answer() != killed
        before = children(program.pid)
        program.send_signal(signal.SIGHUP)
        assert program.stdout.readline() == "drained\n"
        assert not set(before) & set(children(program.pid)), "drained, and still children"
        assert program.stdout.readline() == "serving\n"
        assert worker_of_answer() not in before
        assert all(alive(pid) for pid in children(program.pid)), "a zombie"
        program.send_signal(signal.SIGTERM)
        assert program.stdout.readline() == "ended\n"
        assert program.wait(10) == 0
    finally:
        program.kill()
        program.wait()
        program.stdout.close()


EMBEDDED = """
    import sys
    from twisted.application.reactors import installReactor
    installReactor(sys.argv[1])
    from twisted.internet import reactor
    from twisted.web.client import Agent, readBody
    from twisted_rr.build import embed

    server = embed(
        {
            "version": "3",
            "server": {"command": [sys.executable, "-m", "twisted_rr.worker", "asgi_app:app"]},
            "http": {"address": "127.0.0.1:" + sys.argv[2], "pool": {"num_workers": 2}},
        },
        reactor,
    )

    async def tour():
        server.privilegedStartService()
        server.startService()
        await server.ready()
        answer = await Agent(reactor).request(b"GET", b"http://127.0.0.1:" + sys.argv[2].encode() + b"/hello")
        print((await readBody(answer)).decode(), flush=True)
        await server.stopService()
        print("stopped", flush=True)

    from twisted.internet.defer import ensureDeferred
    reactor.callWhenRunning(lambda: ensureDeferred(tour()).addErrback(print).addCallback(lambda _: reactor.stop()))
    reactor.run(installSignalHandlers=False)
"""


@pytest.mark.parametrize("reactor", ["epoll", "select", "poll", "asyncio", "rr"])
def test_any_reactor_can_host_it(tmp_path, reactor):
    (tmp_path / "program.py").write_text(textwrap.dedent(EMBEDDED))
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py"), reactor, str(free_port())],
        env={**os.environ, "PYTHONPATH": str(APPS)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "hello\nstopped\n", done.stdout + done.stderr
    assert done.returncode == 0


def test_the_readme_s_first_screen_is_what_ci_runs():
    """The two commands of the README's first screen stand in the test of the empty environment, word for word."""
    readme = Path(ROOT, "README.md").read_text().splitlines()[:40]
    commands = [line.removeprefix("$ ") for line in readme if line.startswith("$ ")]
    assert any(command.startswith("pip install") for command in commands)
    assert any(command.startswith("twisted-rr serve") for command in commands)
