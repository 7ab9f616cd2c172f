"""Opens a port, answers each connection with one byte, closes it under load, again and again: ``python ... COUNT``."""

import sys

from twisted_rr.net.reactor import install

install()

from twisted.internet import reactor  # noqa: E402
from twisted.internet.protocol import Factory, Protocol  # noqa: E402

from twisted_rr.net.ports import bind  # noqa: E402

OPEN = 0.15


class OneByte(Protocol):
    def dataReceived(self, data):
        self.transport.write(b"x")
        self.transport.close_lingering(1.0)


def again(left):
    if not left:
        reactor.stop()
        return
    port = bind("127.0.0.1:0")
    port.listen(Factory.forProtocol(OneByte), reactor)
    print(port.address.rpartition(":")[2], flush=True)

    def close():
        port.finish()
        print("closed", flush=True)
        reactor.callInThread(wait)

    def wait():
        sys.stdin.readline()
        reactor.callFromThread(again, left - 1)

    reactor.callLater(OPEN, close)


reactor.callWhenRunning(again, int(sys.argv[1]))
reactor.run()
