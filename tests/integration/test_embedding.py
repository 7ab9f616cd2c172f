"""A program of its own with several servers in it, and the page about it: what it shows is run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from rig import APPS, ROOT

SEVERAL = """
    import sys
    from twisted.application.service import MultiService
    from twisted.internet import reactor
    from twisted.internet.defer import ensureDeferred
    from twisted.web.client import Agent, readBody
    from twisted_rr.build import embed

    CONFIG = {
        "version": "3",
        "server": {"command": [sys.executable, "-m", "twisted_rr.worker", "asgi_app:app"]},
        "http": {"address": "127.0.0.1:0", "pool": {"num_workers": 1}},
        "endure": {"grace_period": "10s"},
    }

    async def hello(server):
        [front] = server.fronts()
        answer = await Agent(reactor).request(b"GET", f"http://{front.address}/hello".encode())
        return (await readBody(answer)).decode()

    async def tour():
        parent = MultiService()
        servers = [embed(CONFIG, reactor) for _ in range(2)]
        for server in servers:
            server.setServiceParent(parent)
        parent.privilegedStartService()
        parent.startService()
        print(await servers[1].stopService(), servers[1].drain.was_ready, flush=True)
        servers[1].startService()  # in the turn in which its stop was over, while its first start was under way
        for server in servers:
            await server.ready()
            print(await hello(server), flush=True)
        await parent.stopService()
        print([server.report.outcome for server in servers], flush=True)

    reactor.callWhenRunning(lambda: ensureDeferred(tour()).addErrback(print).addCallback(lambda _: reactor.stop()))
    reactor.run(installSignalHandlers=False)
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(APPS)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_two_servers_of_one_parent_and_one_that_is_stopped_while_it_starts(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(textwrap.dedent(SEVERAL))
    done = run(sys.executable, str(tmp_path / "program.py"))
    assert done.stdout.splitlines() == ["None False", "hello", "hello", "['drained', 'drained']"], done.stderr


def test_the_test_of_the_page_passes(tmp_path: Path) -> None:
    page = Path(ROOT, "docs", "embedding.md").read_text()
    shown = next(
        code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "pytest_twisted" in code
    )
    before = """
        import sys

        command = [sys.executable, "-m", "twisted_rr.worker", "asgi_app:app"]
        CONFIG = {"version": "3", "server": {"command": command}}
    """
    (tmp_path / "test_page.py").write_text(
        textwrap.dedent(before) + "\n" + shown.replace("front.address}/", "front.address}/hello")
    )
    done = run(
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        os.devnull,
        f"--rootdir={tmp_path}",
        str(tmp_path / "test_page.py"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
