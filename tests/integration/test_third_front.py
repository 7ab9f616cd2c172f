"""The front of docs/fronts.md as a plugin of somebody else, in a real server that is stopped."""

from __future__ import annotations

import re
import socket

import pytest
from rig import ROOT, RunningServer, free_port

PAGE = (ROOT / "docs" / "fronts.md").read_text()
EXAMPLE, PLUGIN = re.findall(r"```python\n(.*?)```", PAGE, re.S)[:2]
DROP_IN = """
from twisted_rr.discovery import ServerPlugin

lines = ServerPlugin("lines", "says it loudly", "lines_front")
"""


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "path"
    (folder / "twisted" / "plugins").mkdir(parents=True)
    (folder / "lines_front.py").write_text(EXAMPLE + PLUGIN.replace("callLater(0.1", "callLater(0.5"))
    (folder / "twisted" / "plugins" / "lines_drop.py").write_text(DROP_IN)
    port, status_port = free_port(), free_port()
    config = {
        "version": "3",
        "lines": {"address": f"127.0.0.1:{port}"},
        "status": {"address": f"127.0.0.1:{status_port}"},
    }
    server = RunningServer(
        tmp_path, config, port=port, status_port=status_port, env={"PYTHONPATH": str(folder)}
    )
    yield server.wait_ready()
    server.kill()


def said(client: socket.socket) -> bytes:
    """All that comes until the server closes."""
    return b"".join(iter(lambda: client.recv(100), b""))


def test_a_front_of_somebody_else_is_drained_as_ours_are(server: RunningServer) -> None:
    address = ("127.0.0.1", server.port)
    with socket.create_connection(address, 5) as busy, socket.create_connection(address, 5) as idle:
        busy.sendall(b"one\ntwo\n")
        assert busy.recv(4) == b"ONE\n"
        busy.sendall(b"three\n")
        server.signal()
        assert said(busy) == b"TWO\nTHREE BYE\n"
        assert said(idle) == b""
    assert server.wait(10) == 0
    assert "cut=0 lost=0 refused=0" in server.log()
