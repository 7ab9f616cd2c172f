"""Contexts of an HTTP call on a mux relay (mux.md 7)."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_rr.errors import FrameError
from twisted_rr.wire.context import (
    decode_close,
    decode_head,
    decode_request,
    decode_trailers,
    encode_close,
    encode_head,
    encode_request,
    encode_trailers,
    pack_headers,
)
from twisted_rr.wire.frame import CODEC_JSON, CODEC_MSGPACK, CODEC_PROTO, CODEC_RAW

pack = msgspec.msgpack.encode
BOTH = pytest.mark.parametrize("codec", [CODEC_MSGPACK, CODEC_JSON])
codecs = st.sampled_from([CODEC_MSGPACK, CODEC_JSON])

HEADERS = [(b"host", b"example.com"), (b"x-latin", b"caf\xe9"), (b"x-empty", b""), (b"host", b"again")]
REQUEST = ("GET", b"/a?b=%20", "1.1", "https", ("10.0.0.1", 5000), ("::1", 443), HEADERS, {"k": "v"})
BARE = ("POST", b"*", "1.0", "http", None, None, [], None)

octets = st.binary(max_size=40)
pairs = st.lists(st.tuples(octets, octets), max_size=6)
words = st.text(max_size=20)
peers = st.none() | st.tuples(words, st.none() | st.integers(0, 65535))
values = st.none() | st.dictionaries(words, words | st.integers(0, 2**31) | st.booleans(), max_size=3)


@given(codec=codecs, fields=st.tuples(words, octets, words, words, peers, peers, pairs, values))
def test_a_request_is_read_as_it_was_written(codec, fields):
    assert decode_request(codec, encode_request(codec, *fields)) == fields


@given(codecs, pairs)
def test_packed_headers_are_the_same_as_pairs(codec, headers):
    request = (*REQUEST[:6], headers, None)
    packed = (*REQUEST[:6], pack_headers(headers), None)
    assert encode_request(codec, *packed) == encode_request(codec, *request)


@given(codecs, st.integers(-(2**31), 2**31), pairs)
def test_a_head_is_read_as_it_was_written(codec, status, headers):
    assert decode_head(codec, encode_head(codec, status, headers)) == (status, headers)


@given(codecs, pairs)
def test_trailers_are_read_as_they_were_written(codec, headers):
    assert decode_trailers(codec, encode_trailers(codec, headers)) == headers


@given(codecs, st.integers(0, 65535), words)
def test_a_close_is_read_as_it_was_written(codec, code, reason):
    assert decode_close(codec, encode_close(codec, code, reason)) == (code, reason)


def test_the_msgpack_request_is_the_array_of_the_specification():
    expected = [
        "GET",
        b"/a?b=%20",
        "1.1",
        "https",
        ["10.0.0.1", 5000],
        ["::1", 443],
        [[b"host", b"example.com"], [b"x-latin", b"caf\xe9"], [b"x-empty", b""], [b"host", b"again"]],
        {"k": "v"},
    ]
    assert msgspec.msgpack.decode(encode_request(CODEC_MSGPACK, *REQUEST)) == expected
    assert msgspec.msgpack.decode(encode_request(CODEC_MSGPACK, *BARE)) == [*BARE]


def test_the_json_request_has_code_points_for_bytes():
    found = json.loads(encode_request(CODEC_JSON, *REQUEST))
    assert found[1] == "/a?b=%20"
    assert found[6][1] == ["x-latin", "caf\xe9"]


def test_heads_and_trailers_are_the_arrays_of_the_specification():
    assert msgspec.msgpack.decode(encode_head(CODEC_MSGPACK, 200, [(b"a", b"b")])) == [200, [[b"a", b"b"]]]
    assert json.loads(encode_head(CODEC_JSON, 200, [(b"a", b"\xff")])) == [200, [["a", "\xff"]]]
    assert msgspec.msgpack.decode(encode_trailers(CODEC_MSGPACK, [(b"a", b"b")])) == [[[b"a", b"b"]]]
    assert json.loads(encode_trailers(CODEC_JSON, [(b"a", b"b")])) == [[["a", "b"]]]


@BOTH
def test_headers_come_as_tuples_for_asgi(codec):
    for header in decode_request(codec, encode_request(codec, *REQUEST))[6]:
        assert type(header) is tuple


@BOTH
def test_a_unix_peer_has_no_port(codec):
    fields = (*REQUEST[:4], None, ("/run/s", None), [], None)
    assert decode_request(codec, encode_request(codec, *fields)) == fields


def test_further_elements_are_ignored():
    """mux.md 7: fields can be added at the end."""
    longer = [*msgspec.msgpack.decode(encode_request(CODEC_MSGPACK, *REQUEST)), "new", {"a": [1]}]
    assert decode_request(CODEC_MSGPACK, pack(longer)) == REQUEST
    longer = [*json.loads(encode_request(CODEC_JSON, *REQUEST)), "new", {"a": [1]}]
    assert decode_request(CODEC_JSON, json.dumps(longer).encode()) == REQUEST
    assert decode_head(CODEC_MSGPACK, pack([200, [], None])) == (200, [])
    assert decode_head(CODEC_JSON, b'[200, [["a", "b"]], {}]') == (200, [(b"a", b"b")])
    assert decode_trailers(CODEC_MSGPACK, pack([[], 1])) == []
    assert decode_trailers(CODEC_JSON, b"[[], 1]") == []
    assert decode_close(CODEC_MSGPACK, pack([1000, "bye", 1])) == (1000, "bye")
    assert decode_close(CODEC_JSON, b'[1000, "bye", 1]') == (1000, "bye")


@pytest.mark.parametrize(
    ("decode", "value", "part"),
    [
        (decode_head, {"status": 200}, "Expected `array`"),
        (decode_head, [200], "at least length 2"),
        (decode_head, ["200", []], "Expected `int`, got `str` - at `$[0]`"),
        (decode_head, [200, {}], "`$[1]`"),
        (decode_head, [200, [["a", b"b"]]], "Expected `bytes`, got `str` - at `$[1][0][0]`"),
        (decode_head, [200, [[b"a", b"b", b"c"]]], "length 2"),
        (decode_head, [200, [[b"a"]]], "length 2"),
        (decode_head, [True, []], "Expected `int`"),
        (decode_request, [*BARE[:7]], "at least length 8"),
        (decode_request, [b"GET", *BARE[1:]], "Expected `str`, got `bytes` - at `$[0]`"),
        (decode_request, [*BARE[:4], ["host"], *BARE[5:]], "`$[4]`"),
        (decode_request, [*BARE[:7], [1]], "`$[7]`"),
        (decode_trailers, [], "at least length 1"),
        (decode_trailers, [[b"a", b"b"]], "`$[0][0]`"),
        (decode_close, [1000], "at least length 2"),
    ],
)
def test_a_wrong_shape_is_told_by_place_and_expectation(decode, value, part):
    with pytest.raises(FrameError) as caught:
        decode(CODEC_MSGPACK, pack(value))
    assert part in caught.value.reason
    assert caught.value.first


@pytest.mark.parametrize("decode", [decode_head, decode_request, decode_trailers, decode_close])
@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x92", b"\x92\x01", b"[", b"[1,", b'["\xff"]', b"\x91" * 5000, b"[" * 100000, b"\x00"],
)
def test_garbage_is_a_frame_error(decode, data):
    for codec in (CODEC_MSGPACK, CODEC_JSON):
        with pytest.raises(FrameError):
            decode(codec, data)


@given(st.binary(max_size=100))
def test_no_bytes_raise_anything_but_a_frame_error(data):
    for decode in (decode_head, decode_request, decode_trailers, decode_close):
        for codec in (CODEC_MSGPACK, CODEC_JSON):
            try:
                decode(codec, data)
            except FrameError:
                pass


def test_a_deep_further_element_is_a_frame_error():
    with pytest.raises(FrameError):
        decode_head(CODEC_MSGPACK, b"\x93\x01\x90" + b"\x91" * 100000 + b"\x90")


def test_a_json_code_point_above_255_is_no_byte():
    with pytest.raises(FrameError, match="above 255"):
        decode_head(CODEC_JSON, '[200, [["a", "€"]]]'.encode())
    with pytest.raises(FrameError, match="above 255"):
        decode_request(CODEC_JSON, '["GET", "/€", "1.1", "http", null, null, [], null]'.encode())


@pytest.mark.parametrize("codec", [0, CODEC_RAW, CODEC_PROTO, CODEC_MSGPACK | CODEC_JSON])
def test_other_codecs_are_refused(codec):
    calls = [
        lambda: encode_request(codec, *BARE),
        lambda: decode_request(codec, b"\x90"),
        lambda: encode_head(codec, 200, []),
        lambda: decode_head(codec, b"\x90"),
        lambda: encode_trailers(codec, []),
        lambda: decode_trailers(codec, b"\x90"),
        lambda: encode_close(codec, 1000, ""),
        lambda: decode_close(codec, b"\x90"),
    ]
    for call in calls:
        with pytest.raises(FrameError, match="codec"):
            call()
