"""The two load generators: h2load, and a C-core client in a process of its own.

h2load compares no contents, so its rounds are checked by bytes: an answer has one message of 105 bytes, and an error has
none. `client.py` compares every answer.
"""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from pathlib import Path

from benchmarks.contender import Contender
from benchmarks.grpc.contenders import HERE

SIZE = 105
"""Bytes of an answer's DATA: the prefix of 5, and a message of 100."""

WINDOW = 18
"""Two to the power of it is the window of a stream and its connection, so that a stream of answers is held at times."""


def message(text: bytes) -> bytes:
    """A request with this text, with its prefix."""
    body = b"\x0a" + bytes((len(text),)) + text
    return struct.pack(">BI", 0, len(body)) + body


def h2load(port: int, folder: Path, method: str, text: bytes, *options: str) -> str:
    """What h2load says of calls of this method."""
    file = folder / f"request-{len(text)}"
    file.write_bytes(message(text))
    head = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    command = [
        "h2load",
        "-t1",
        *options,
        "-d",
        str(file),
        *head,
        f"http://127.0.0.1:{port}/echo.Echo/{method}",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def by_h2load(contender: Contender, folder: Path, connections: int, streams: int, seconds: float) -> dict:
    """A round of unary calls."""
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    options = (f"-c{connections}", f"-m{streams}", f"-D{round(seconds * 1000)}ms", f"--log-file={log}")
    said = h2load(contender.port, folder, "Say", b"x" * 98, *options)
    rate, succeeded, data = figures(said)
    times = sorted(int(line.rsplit("\t", 1)[1]) for line in log.read_text().splitlines())
    if not times:
        return {"rate": 0.0, "p50": 0.0, "p99": 0.0, "failed": True}
    whole = succeeded * SIZE <= data <= (succeeded + connections * streams) * SIZE
    return {
        "rate": rate,
        "calls": succeeded,
        "p50": times[len(times) // 2] / 1000,
        "p99": times[int(len(times) * 0.99)] / 1000,
        "failed": not whole or " 0 failed, 0 errored, 0 timeout" not in said,
    }


def figures(said: str) -> tuple[float, int, int]:
    """Calls a second, how many succeeded, and bytes of DATA."""
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", said)
    succeeded = re.search(r"(\d+) succeeded", said)
    data = re.search(r"\((\d+)\) data", said)
    if rate is None or succeeded is None or data is None:
        raise SystemExit(f"h2load said:\n{said}")
    return float(rate[1]), int(succeeded[1]), int(data[1])


def by_core(contender: Contender, connections: int, streams: int, seconds: float) -> dict:
    """The same by grpcio's core."""
    command = [sys.executable, str(HERE / "client.py"), str(contender.port)]
    return dict(json.loads(_run([*command, str(connections), str(streams), str(seconds)])))


def _run(command: list[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120, check=True).stdout


def streamed(contender: Contender, folder: Path, count: int) -> dict:
    """Messages a second of one server stream of *count*, with windows of 2**WINDOW bytes."""
    options = ("-n1", "-c1", "-m1", f"-w{WINDOW}", f"-W{WINDOW}")
    said = h2load(contender.port, folder, "Count", str(count).encode(), *options)
    _, succeeded, data = figures(said)
    took = re.search(r"time for request:\s+([\d.]+)(us|ms|s)", said)
    if took is None:
        raise SystemExit(f"h2load said:\n{said}")
    seconds = float(took[1]) / {"us": 1e6, "ms": 1e3, "s": 1.0}[took[2]]
    return {"rate": count / seconds, "calls": count, "failed": succeeded != 1 or data != count * SIZE}


class Idle:
    """So many HTTP/2 connections that made one call each and now are silent, until `close`."""

    def __init__(self, port: int, count: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "idle.py"), str(port), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "idle\n":
            raise SystemExit("the idle connections could not be made")

    def close(self) -> None:
        """Close them all."""
        self.process.communicate(timeout=30)
