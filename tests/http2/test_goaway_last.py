"""What GOAWAY names as the last stream never grows (RFC 9113 section 6.8)."""

from twisted_rr.http2.frames import MAX_ID, goaway
from twisted_rr.http2.goaway import Departure


def test_a_goaway_names_no_more_than_the_one_before_it():
    departure = Departure()
    assert departure.last(7) == 7
    departure.announce(0.0)
    assert departure.last(9) == 9
    assert departure.settle(9) == goaway(9, 0)
    assert departure.last(11) == 9  # a stream that came later, and was refused
    assert departure.last(MAX_ID) == 9
