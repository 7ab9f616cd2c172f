"""A server that closes its listeners with connections in their accept queues."""

from twisted_rr.net.ports import BoundPort


def finish(port):
    port.close()
    return 0


BoundPort.finish = finish

if __name__ == "__main__":
    from twisted_rr.cli.entry import main

    main()
