import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_recorders import in_chunks

from twisted_rr.errors import BadChecksum, FrameError, TooLarge, Truncated
from twisted_rr.wire.frame import encode, prefix
from twisted_rr.wire.reader import FrameReader

FRAME = encode(0x80, 1, (3,), b"ctxbody")
frames = st.builds(
    encode, st.integers(0, 255), st.integers(0, 255), st.lists(st.integers(0, 2**32 - 1), max_size=10).map(tuple),
    st.binary(max_size=100),
)  # fmt: skip
GARBAGE = (b"", b"Hello\n", b"Could not open input file: a.php\n", b"\x13\x00", b"\0" * 40)


def read_all(chunks):
    """Every frame, then how it ended."""
    reader = FrameReader(1000)
    out = []
    try:
        for chunk in chunks:
            out += [(f.flags, f.bits, f.options, f.payload) for f in reader.feed(chunk)]
            reader.check()
        reader.eof()
    except FrameError as error:
        out.append(type(error).__name__)
    return out


@given(st.lists(frames, max_size=4), st.sampled_from(GARBAGE), st.lists(st.integers(1, 40), min_size=1))
def test_any_chunking_gives_the_same_frames(made, garbage, sizes):
    data = b"".join(made) + garbage
    assert read_all(in_chunks(data, sizes)) == read_all([data])


@pytest.mark.parametrize("cut", range(1, len(FRAME)))
def test_an_end_inside_a_frame_is_told_with_its_first_bytes(cut):
    reader = FrameReader(100)
    assert reader.feed(FRAME[:cut]) == []
    with pytest.raises(Truncated) as caught:
        reader.eof()
    assert caught.value.first == FRAME[:cut]


def test_an_end_between_frames_is_fine():
    reader = FrameReader(100)
    reader.feed(FRAME)
    reader.eof()


def test_a_length_above_the_limit_is_refused_when_the_header_is_there():
    reader = FrameReader(100)
    with pytest.raises(TooLarge, match="4294967295"):
        reader.feed(prefix(4, 0, 0, 0xFFFFFFFF))


def test_a_line_too_short_for_a_header_is_found_out_at_once():
    with pytest.raises(BadChecksum) as caught:
        FrameReader(100).feed(b"Hello\n")
    assert caught.value.first == b"Hello\n"


def test_garbage_is_reported_with_128_bytes_at_most():
    with pytest.raises(BadChecksum) as caught:
        FrameReader(100).feed(b"Could not open input file: app.php\n" * 10)
    assert caught.value.first.startswith(b"Could not open input file: app.php\n")
    assert len(caught.value.first) == 128
    assert "could not open the worker's script" in str(caught.value)


def test_frames_before_garbage_are_not_lost():
    reader = FrameReader(100)
    assert len(reader.feed(FRAME + b"Hello world, this is PHP")) == 1
    with pytest.raises(BadChecksum):
        reader.check()
    with pytest.raises(BadChecksum):
        reader.feed(b"")


def test_first_leaves_what_follows_for_another_reader():
    reader = FrameReader(100)
    assert reader.first(FRAME[:5]) is None
    assert reader.first(FRAME[5:] + b"rest") is not None
    assert reader.rest() == b"rest"
    assert reader.rest() == b""


def test_first_gives_one_frame_a_call():
    reader = FrameReader(100)
    assert reader.first(FRAME + FRAME).options == (3,)
    assert reader.first(b"").options == (3,)
    assert reader.first(b"") is None
    reader.eof()


def test_first_raises_what_feed_raises_and_keeps_raising_it():
    reader = FrameReader(100)
    for _ in range(2):
        with pytest.raises(BadChecksum):
            reader.first(b"Hello world, this is PHP")


def test_a_frame_shows_its_fields():
    (frame,) = FrameReader(100).feed(FRAME)
    assert repr(frame) == "Frame(flags=0x80, bits=0x1, options=(3,), b'ctxbody')"


def test_a_whole_call_is_taken_without_a_frame_once_its_header_is_known():
    reader = FrameReader(1000)
    data = encode(0x80, 0, (3,), b"ctxbody")
    assert reader.call(data) is None
    assert len(reader.feed(data)) == 1
    assert reader.call(data) == (0x80, b"ctx", b"body")


@pytest.mark.parametrize(
    "data",
    [
        encode(0x80, 0, (3,), b"ctxbody") + b"x",  # more than a call
        encode(0x80, 0, (3,), b"ctxbody")[:-1],  # less
        encode(0x81, 0, (3,), b"ctxbody"),  # a control frame
        encode(0x80, 2, (3,), b"ctxbody"),  # STOP
        encode(0x80, 0, (), b"ctxbody"),
        encode(0x80, 0, (3, 4), b"ctxbody"),
        encode(0x80, 0, (8,), b"ctxbody"),  # a context that is longer than all
    ],
)
def test_what_is_no_whole_call_is_left_to_feed(data):
    FrameReader(1000).feed(data[:12])  # its header is known
    assert FrameReader(1000).call(data) is None


def test_a_call_is_no_whole_one_behind_the_start_of_a_frame():
    reader = FrameReader(1000)
    data = encode(0x80, 0, (3,), b"ctxbody")
    reader.feed(data)
    reader.feed(data[:5])
    assert reader.call(data) is None
