import pytest

from twisted_rr.errors import FrameError
from twisted_rr.wire.payload import asks_replacement, join, split
from twisted_rr.wire.reader import Frame, FrameReader


def test_context_and_body_come_apart_as_they_went_together():
    (frame,) = FrameReader(100).feed(join(0x80, 1, b"context", b"body"))
    assert (frame.flags, frame.bits, split(frame)) == (0x80, 1, (b"context", b"body"))


def test_a_body_without_context_has_the_option_all_the_same():
    (frame,) = FrameReader(100).feed(join(0, 0, b"", b"x"))
    assert frame.options == (0,)


@pytest.mark.parametrize("options", ((), (1, 2)))
def test_another_number_of_options_is_refused(options):
    with pytest.raises(FrameError, match="options"):
        split(Frame(0, 0, options, b"xyz"))


def test_a_context_longer_than_the_payload_is_refused():
    with pytest.raises(FrameError, match="a context of 4 bytes"):
        split(Frame(0, 0, (4,), b"xyz"))


def test_only_the_exact_answer_asks_for_a_replacement():
    assert asks_replacement(b'{"stop":true}', b"")
    assert not asks_replacement(b'{"stop": true}', b"")
    assert not asks_replacement(b'{"stop":true}', b"x")
