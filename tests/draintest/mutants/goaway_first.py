"""A server that tells gRPC clients to go before it tells those who watch its health."""

from twisted_rr.lifecycle.front import Front
from twisted_rr.plugins.grpc.service import GrpcFront


def changed(front, state):
    Front.changed(front, state)


def announce(front):
    Front.announce(front)
    for session in list(front.connections):
        session.drain()
        session.flush()
    front.health.refresh()


GrpcFront.changed = changed
GrpcFront.announce = announce

if __name__ == "__main__":
    from twisted_rr.cli.entry import main

    main()
