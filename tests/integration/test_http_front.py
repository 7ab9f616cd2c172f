"""The HTTP front with a real server, real workers of both kinds and real sockets."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import sys
import threading
from pathlib import Path

from rig import RunningServer, free_port, serving, until

WORKER = Path(__file__).resolve().parent / "workers" / "http_raw.py"
BLOB = bytes(range(256)) * 4096 * 20  # 20 MiB
DIGEST = hashlib.sha256(BLOB).hexdigest()


@contextlib.contextmanager
def raw(folder: Path, *, workers: int = 1, address: str | None = None, **http):
    """A server whose worker is workers/http_raw.py."""
    port, status_port = free_port(), free_port()
    pool = {"num_workers": workers, **http.pop("pool", {})}
    config = {
        "version": "3",
        "server": {"command": [sys.executable, str(WORKER)]},
        "http": {"address": address or f"127.0.0.1:{port}", "pool": pool, **http},
        "status": {"address": f"127.0.0.1:{status_port}"},
        "logs": {"mode": "production"},
    }
    server = RunningServer(folder, config, port=port, status_port=status_port)
    try:
        yield server.wait_ready()
        server.stop()
    except BaseException:
        sys.stderr.write(server.log()[-6000:])
        raise
    finally:
        server.kill()


def multipart(*parts: tuple[str, str, bytes]) -> tuple[bytes, dict]:
    """A body of ``(name, file name or "", content)``, and its header."""
    body = b""
    for name, filename, content in parts:
        extra = f'; filename="{filename}"\r\nContent-Type: application/x-test' if filename else ""
        body += (
            f'--B\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode()
            + content
            + b"\r\n"
        )
    return body + b"--B--\r\n", {"Content-Type": "multipart/form-data; boundary=B"}


# ---------------------------------------------------------------------- one call at a time


def test_one_call_workers_get_what_roadrunner_gives_them(tmp_path):
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    with raw(tmp_path, uploads={"dir": str(uploads), "forbid": [".php"]}) as server:
        code, _, body = server.get("/context?a=1", headers={"X-A": "1", "Cookie": "c=%20d"})
        context = json.loads(body)
        assert code == 200
        assert context["uri"] == f"http://127.0.0.1:{server.port}/context?a=1"
        assert context["remoteAddr"] == "127.0.0.1"
        assert context["headers"]["X-A"] == ["1"]
        assert context["cookies"] == {"c": " d"}

        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert json.loads(server.request("POST", "/form", b"a[]=1&a[]=2", form)[2])["tree"] == {
            "a": ["1", "2"]
        }
        assert server.request("POST", "/form", b"a=1&a[b]=2", form)[0] == 400

        body, header = multipart(("t[x]", "", b"1"), ("f", "blob.bin", BLOB), ("g[]", "x.php", b"no"))
        code, _, answer = server.request("POST", "/form", body, header)
        found = json.loads(answer)
        assert code == 200
        assert found["tree"] == {"t": {"x": "1"}}
        leaf = found["uploads"]["f"]
        assert (leaf["size"], leaf["sha256"], leaf["error"], leaf["mime"]) == (
            len(BLOB),
            DIGEST,
            0,
            "application/x-test",
        )
        assert found["uploads"]["g"][0]["error"] == 8
        until(lambda: not os.listdir(uploads), why="the uploads were not removed")

        assert server.request("POST", "/body", BLOB)[2] == f"{len(BLOB)} {DIGEST}".encode()
        code, headers, body = server.get("/big?20000000")
        assert (code, len(body)) == (200, 20_000_000)
        assert server.get("/stream")[2] == b"abc"
        assert server.request("HEAD", "/big?5")[2] == b""
        assert server.get("/none")[0] == 404


def test_failures_are_told_apart(tmp_path):
    # The worker has to start within it as well, on a busy machine too.
    pool = {"allocate_timeout": "3s", "max_queue_size": 1}
    with raw(tmp_path, pool=pool) as server:
        assert server.get("/error")[::2] == (500, b"the application failed\n")
        assert server.get("/codec")[0] == 500
        assert server.get("/die")[0] == 502
        assert until(lambda: server.get("/context")[0] == 200)
        answers: list = []
        threads = [threading.Thread(target=lambda: answers.append(server.get("/slow?4"))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(code for code, _, _ in answers) == [200, 503, 503]
        assert all("retry-after" in headers for code, headers, _ in answers if code == 503)
    log = server.log()
    assert "the secret reason" in log
    assert "no known codec" in log
    assert "Traceback" not in log


def test_debug_shows_the_error_and_still_reads_forms(tmp_path):
    with raw(tmp_path, pool={"debug": True}) as server:
        assert server.get("/error")[2] == b"the secret reason\n"
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert json.loads(server.request("POST", "/form", b"a=1", form)[2])["tree"] == {"a": "1"}
        assert server.request("POST", "/form", b"a=%zz", form)[0] == 400
        assert server.request("POST", "/body", BLOB)[2] == f"{len(BLOB)} {DIGEST}".encode()


def test_protobuf_contexts_and_the_access_log(tmp_path):
    # The worker reads JSON only: what it says of a protobuf context is its own death.
    with raw(tmp_path, codec="proto", access_logs=True) as server:
        assert server.get("/context?secret=1", headers={"User-Agent": "probe\\x"})[0] == 502
    lines = [line for line in server.log().splitlines() if "127.0.0.1 GET /context 502" in line]
    assert len(lines) == 1
    assert "secret" not in lines[0]


def test_a_unix_socket_and_its_forwarded_headers(tmp_path):
    path = tmp_path / "front.sock"
    with raw(tmp_path, address=f"unix://{path}") as server, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(
            b"GET /context HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
            b"X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: e.org\r\n\r\n"
        )
        answer = b""
        while data := client.recv(65536):
            answer += data
        context = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert (context["remoteAddr"], context["uri"]) == ("203.0.113.7", "https://e.org/context")
        assert server.stop() == 0
    assert not path.exists()


# --------------------------------------------------------------------------- many at once


def test_mux_workers_stream_both_ways(tmp_path):
    with serving(tmp_path, "asgi_app:app", workers=1) as server:
        assert server.get("/")[::2] == (200, b"hello")
        code, _, body = server.request("POST", "/digest", BLOB)
        assert DIGEST.encode() in body


def test_requests_of_one_connection_are_answered_in_order(tmp_path):
    with raw(tmp_path, workers=2) as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(
            b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"
            b"POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
            b"GET /stream HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        )
        answer = b""
        while data := client.recv(65536):
            answer += data
    first = answer.index(b"slow")
    second = answer.index(hashlib.sha256(b"abc").hexdigest().encode())
    assert first < second < answer.index(b"transfer-encoding: chunked")
    assert answer.endswith(b"0\r\n\r\n")


def test_malformed_requests_reach_nobody_and_leave_no_traceback(tmp_path):
    with raw(tmp_path) as server:
        for head, code in (
            (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", b"400"),
            (
                b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"400",
            ),
            (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", b"414"),
            (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"431"),
        ):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(head)
                assert client.recv(65536).split()[1] == code
    assert "Traceback" not in server.log()
