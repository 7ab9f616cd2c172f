"""The double in testing/ keeps the contract of the real transports."""

import pytest

from twisted_rr.net.transport import TCPTransport
from twisted_rr.testing.transport import StringTransport


class Producer:
    def __init__(self):
        self.said = []

    def pauseProducing(self):
        self.said.append("pause")

    def resumeProducing(self):
        self.said.append("resume")


def test_it_has_what_sessions_use_of_the_real_one():
    for name in ("write", "writeSequence", "buffered", "on_flush", "close_lingering", "loseConnection"):
        assert callable(getattr(StringTransport, name))
        assert callable(getattr(TCPTransport, name))


def test_what_the_kernel_does_not_take_is_buffered_until_it_does():
    transport, flushed = StringTransport(), []
    transport.hold(3)
    transport.write(b"hello")
    transport.on_flush(lambda: flushed.append(1))
    assert (transport.value(), transport.buffered(), flushed) == (b"hel", 2, [])
    transport.release()
    assert (transport.take(), transport.buffered(), flushed) == (b"hello", 0, [1])
    transport.on_flush(lambda: flushed.append(2))
    assert flushed == [1, 2]


def test_a_producer_is_paused_above_the_limit_and_resumed_when_all_is_taken():
    transport, producer = StringTransport(), Producer()
    transport.registerProducer(producer, True)
    transport.hold()
    transport.write(bytes(65536))
    assert producer.said == []
    transport.write(b"x")
    assert producer.said == ["pause"]
    transport.release()
    assert producer.said == ["pause", "resume"]


@pytest.mark.parametrize("how", ["loseConnection", "abortConnection"])
def test_nothing_is_written_after_a_close(how):
    transport = StringTransport()
    getattr(transport, how)()
    transport.write(b"x")
    assert transport.value() == b""
    assert transport.disconnecting


def test_how_it_was_closed_is_remembered():
    transport = StringTransport()
    transport.close_lingering(2.5)
    assert (transport.closing, transport.linger) == ("linger", 2.5)
    transport.abortConnection()
    assert transport.closing == "abort"
