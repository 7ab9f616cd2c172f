"""A server of ours whose reactor is blocked by a callback: ``python blocked_server.py FILE``."""

from twisted_rr.lifecycle.process import Process

process = Process()

import sys  # noqa: E402
import time  # noqa: E402


def install() -> None:
    from twisted_rr.net.reactor import install

    install()
    from twisted.internet import reactor

    def block() -> None:
        print("blocked", flush=True)
        time.sleep(600)

    reactor.addReader(_Trigger(block))


class _Trigger:
    """Blocks the reactor when a line comes on standard input."""

    def __init__(self, block) -> None:
        self._block = block

    def fileno(self) -> int:
        return 0

    def logPrefix(self) -> str:
        return "trigger"

    def doRead(self) -> None:
        sys.stdin.readline()
        self._block()

    def connectionLost(self, reason) -> None:
        pass


if __name__ == "__main__":
    from twisted_rr.build import read_config
    from twisted_rr.cli.run import Run
    from twisted_rr.discovery import discover

    plugins = discover()
    Run(process, read_config(sys.argv[1], plugins=plugins), plugins).run(install)
