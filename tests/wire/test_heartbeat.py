from twisted_rr.wire.heartbeat import Heartbeat


def ticks(beat, start, stop, busy=True):
    """The seconds of *start*..*stop* at which a PING was due."""
    return [now for now in range(start, stop) if beat.tick(float(now), busy)]


def test_a_ping_is_due_after_five_silent_seconds():
    assert ticks(Heartbeat(), 100, 112) == [105]


def test_no_ping_without_open_calls():
    assert ticks(Heartbeat(), 0, 100, busy=False) == []


def test_silence_counts_from_when_calls_are_open():
    beat = Heartbeat()
    ticks(beat, 0, 60, busy=False)
    assert ticks(beat, 60, 70) == [64]


def test_a_miss_is_told_fifteen_seconds_after_the_ping():
    beat = Heartbeat()
    ticks(beat, 0, 20)
    assert not beat.missed
    beat.tick(20.0, True)
    assert beat.missed


def test_anything_heard_takes_the_miss_back():
    beat = Heartbeat()
    ticks(beat, 0, 30)
    assert beat.missed
    beat.heard = True
    beat.tick(30.0, True)
    assert not beat.missed
    assert ticks(beat, 31, 40) == [35]


def test_a_talking_peer_is_not_asked():
    beat = Heartbeat()
    for now in range(100):
        beat.heard = True
        assert not beat.tick(float(now), True)
