"""A Twisted program of its own that serves an application beside its other services.

It owns the reactor, the signals and the logging; twisted_rr is one more IService. Stopping that
service drains it without ending the reactor, and it can be started again.

    python examples/embedding/main.py        # http://127.0.0.1:8080
"""

import os
import sys
from pathlib import Path

from twisted.application.service import MultiService
from twisted.internet import reactor, task

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


def main() -> None:
    program = MultiService()
    server = embed(CONFIG, reactor)
    server.setServiceParent(program)
    program.privilegedStartService()
    program.startService()
    server.ready().addCallback(lambda _: print("serving", flush=True))
    reactor.addSystemEventTrigger("before", "shutdown", program.stopService)
    task.LoopingCall(lambda: None).start(60)  # the program's other work
    reactor.run()


if __name__ == "__main__":
    main()
