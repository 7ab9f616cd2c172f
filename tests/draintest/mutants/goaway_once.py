"""A server that says one GOAWAY, with a last stream at once: calls that cross it are lost."""

from twisted_rr.http2.codes import NO_ERROR
from twisted_rr.http2.frames import goaway
from twisted_rr.http2.goaway import LEAVING, STAYING, Departure


def announce(departure, now):
    if departure.state != STAYING:
        return b""
    departure.state = LEAVING
    return goaway(1, NO_ERROR)


Departure.announce = announce

if __name__ == "__main__":
    from twisted_rr.cli.entry import main

    main()
