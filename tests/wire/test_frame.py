import json
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_rr.errors import BadChecksum, FrameError, TooLarge
from twisted_rr.wire import frame
from twisted_rr.wire.reader import FrameReader

VECTORS = json.loads((Path(__file__).parent / "vectors" / "frames.json").read_text())["frames"]
by_name = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])


@by_name
def test_encoding_gives_the_vectors_bytes(vector):
    made = bytearray(
        frame.encode(vector["flags"], vector["bits"], vector["options"], bytes.fromhex(vector["payload"]))
    )
    made[11] = vector["reserved"]  # we always send 0
    assert made.hex() == vector["frame"]


@by_name
def test_reading_gives_the_vectors_fields(vector):
    (read,) = FrameReader(1 << 20).feed(bytes.fromhex(vector["frame"]))
    assert (read.flags, read.bits, list(read.options)) == (
        vector["flags"], vector["bits"], vector["options"],
    )  # fmt: skip
    assert read.payload.hex() == vector["payload"]


def test_the_checksum_is_the_ordinary_crc_32():
    assert zlib.crc32(b"123456789") == 0xCBF43926
    assert frame.prefix(3, 0, 0, 0).hex() == "13000000000096d180340000"


@pytest.mark.parametrize("position", range(6))
def test_a_change_in_the_covered_bytes_is_found(position):
    bad = bytearray(frame.encode(0x80, 0, (1,), b"x"))
    bad[position] ^= 0x10
    with pytest.raises(FrameError):
        frame.parse_prefix(bytes(bad[:12]))


@pytest.mark.parametrize("position", (10, 11))
def test_bytes_10_and_11_lie_outside_the_checksum(position):
    odd = bytearray(frame.encode(0x80, 0, (1,), b"x"))
    odd[position] = 0xFF
    assert frame.parse_prefix(bytes(odd[:12])) == (4, 0x80, 0xFF if position == 10 else 0, 1)


def test_a_header_of_less_than_three_words_counts_as_three():
    assert frame.parse_prefix(frame.prefix(1, 0, 0, 5)) == (3, 0, 0, 5)


@pytest.mark.parametrize("words", (14, 15))
def test_more_than_ten_options_are_refused(words):
    with pytest.raises(FrameError, match=f"a header of {words} words"):
        frame.parse_prefix(frame.prefix(words, 0, 0, 0))
    with pytest.raises(FrameError, match="options"):
        frame.encode(0, 0, range(words - 3), b"")


def test_a_payload_above_four_gigabytes_is_refused():
    with pytest.raises(TooLarge):
        frame.prefix(3, 0, 0, 1 << 32)


def test_a_missing_script_is_told_from_other_garbage():
    with pytest.raises(BadChecksum, match="could not open the worker's script") as caught:
        frame.parse_prefix(b"Could not open input file: app.php"[:12])
    assert caught.value.first == b"Could not op"


def test_printed_text_points_at_stdout():
    with pytest.raises(BadChecksum, match="print to stdout"):
        frame.parse_prefix(b"Hello world!")


def test_the_caches_of_headers_are_bounded():
    for length in range(20000):
        frame.parse_prefix(frame.prefix(5, 4, 1, length))
    assert len(frame._built) <= 8192
    assert len(frame._parsed) <= 8192
    assert frame.parse_prefix(frame.prefix(5, 4, 1, 19999)) == (5, 4, 1, 19999)


@given(
    st.integers(0, 255),
    st.integers(0, 255),
    st.lists(st.integers(0, 0xFFFFFFFF), max_size=10),
    st.binary(max_size=300),
)
def test_what_was_encoded_is_read_back(flags, bits, options, payload):
    (read,) = FrameReader(300).feed(frame.encode(flags, bits, options, payload))
    assert (read.flags, read.bits, list(read.options), read.payload) == (flags, bits, options, payload)
