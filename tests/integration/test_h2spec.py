"""The HTTP/2 session under h2spec, strictly: all of its cases, over a real socket.

h2spec is content with a closed connection where a code is due; the exact codes are tests/http2's subject. It is taken
from RR_H2SPEC or PATH, else built where Go is found; without either this is skipped, and says so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVER = Path(__file__).with_name("h2_server.py")
SOURCE = "github.com/summerwind/h2spec/cmd/h2spec@latest"


@pytest.fixture(scope="module")
def h2spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = os.environ.get("RR_H2SPEC") or shutil.which("h2spec")
    if found:
        return found
    go = shutil.which("go")
    if go is None:
        pytest.skip("h2spec did not run: neither it nor Go is here")
    folder = tmp_path_factory.mktemp("go")
    environment = {**os.environ, "GOBIN": str(folder), "GOFLAGS": "-mod=mod"}
    try:
        subprocess.run([go, "install", SOURCE], env=environment, check=True, capture_output=True, timeout=50)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"h2spec did not run: it could not be built ({error})")
    return str(folder / "h2spec")


@pytest.fixture
def port() -> Iterator[str]:
    server = subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip().rpartition(":")[2]
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def test_h2spec_passes_strictly(h2spec: str, port: str) -> None:
    command = [h2spec, "--strict", "-h", "127.0.0.1", "-p", port, "-o", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    totals = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", done.stdout)
    assert totals is not None, done.stdout[-2000:] + done.stderr[-2000:]
    print(f"h2spec: {totals[0]}")
    tests, passed, skipped, failed = map(int, totals.groups())
    assert (passed, skipped, failed) == (tests, 0, 0), done.stdout[-5000:]
    assert tests >= 146 and done.returncode == 0
