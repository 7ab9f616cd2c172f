"""A Twisted program of its own that serves an application beside its other services.

It owns the reactor, the signals and the logging; twisted_rr is one more IService. Stopping that
service drains it without ending the reactor, and it can be started again: SIGHUP shows both.

    python examples/embedding/main.py        # http://127.0.0.1:8080
"""

import os
import signal
import sys
from pathlib import Path

from twisted.application.service import MultiService
from twisted.internet import reactor

from twisted_rr.build import embed

HERE = Path(__file__).resolve().parent

CONFIG = {
    "version": "3",
    "server": {
        "command": [sys.executable, "-m", "twisted_rr.worker", "app:app"],
        "env": {"PYTHONPATH": str(HERE)},
    },
    "http": {"address": f"127.0.0.1:{os.environ.get('PORT', '8080')}", "pool": {"num_workers": 2}},
    "endure": {"grace_period": "10s"},
}


def say(word: str) -> None:
    print(word, flush=True)


def start(server) -> None:
    server.privilegedStartService()
    server.startService()
    server.ready().addCallback(lambda _: say("serving"))


def restart(server) -> None:
    """Drain, then serve again, while the program goes on."""
    server.stopService().addCallback(lambda _: say("drained")).addCallback(lambda _: start(server))


def main() -> None:
    program = MultiService()
    server = embed(CONFIG, reactor)
    server.setServiceParent(program)
    reactor.callWhenRunning(start, server)
    reactor.addSystemEventTrigger("before", "shutdown", program.stopService)
    # The program's own signals: twisted_rr needs none, not even SIGCHLD.
    signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(reactor.stop))
    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(restart, server))
    reactor.run(installSignalHandlers=False)
    say("ended")


if __name__ == "__main__":
    main()
