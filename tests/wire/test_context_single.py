"""Contexts of an HTTP call to a one-call worker, with Google's protobuf as the oracle (protocol.md 4.2, 4.6)."""

import json
from collections import Counter

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given
from hypothesis import strategies as st

from twisted_rr.errors import FrameError
from twisted_rr.wire.context import (
    HttpRequest,
    decode_single_request,
    decode_single_response,
    encode_single_request,
    encode_single_response,
)
from twisted_rr.wire.frame import CODEC_JSON, CODEC_MSGPACK, CODEC_PROTO

BOTH = pytest.mark.parametrize("codec", [CODEC_JSON, CODEC_PROTO])
codecs = st.sampled_from([CODEC_JSON, CODEC_PROTO])


def make_messages():
    """http.v1 from its field numbers, at run time."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="http.proto", package="http.v1", syntax="proto3")
    file.message_type.add(name="HeaderValue").field.add(
        name="value", number=1, type=field.TYPE_BYTES, label=field.LABEL_REPEATED
    )

    def add_map(message, name, number):
        entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
        entry.field.add(
            name="value",
            number=2,
            type=field.TYPE_MESSAGE,
            type_name=".http.v1.HeaderValue",
            label=field.LABEL_OPTIONAL,
        )
        message.field.add(
            name=name,
            number=number,
            type=field.TYPE_MESSAGE,
            type_name=f".http.v1.{message.name}.{entry.name}",
            label=field.LABEL_REPEATED,
        )

    request = file.message_type.add(name="Request")
    kinds = {"parsed": field.TYPE_BOOL, "uploads": field.TYPE_BYTES}
    names = "remote_addr protocol method uri header cookies raw_query parsed uploads attributes"
    for number, name in enumerate(names.split(), 1):
        if name in ("header", "cookies", "attributes"):
            add_map(request, name, number)
        else:
            request.field.add(
                name=name,
                number=number,
                type=kinds.get(name, field.TYPE_STRING),
                label=field.LABEL_OPTIONAL,
            )
    response = file.message_type.add(name="Response")
    response.field.add(name="status", number=1, type=field.TYPE_INT64, label=field.LABEL_OPTIONAL)
    add_map(response, "headers", 2)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return (
        message_factory.GetMessageClass(pool.FindMessageTypeByName("http.v1.Request")),
        message_factory.GetMessageClass(pool.FindMessageTypeByName("http.v1.Response")),
    )


PB_REQUEST, PB_RESPONSE = make_messages()

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
long_words = words | st.text("abc", min_size=100, max_size=300)
octets = st.binary(max_size=30) | st.binary(min_size=100, max_size=300)
header_maps = st.dictionaries(long_words, st.lists(octets, min_size=1, max_size=3), max_size=4)
requests = st.builds(
    HttpRequest,
    words,
    words,
    words,
    long_words,
    header_maps,
    st.dictionaries(words, long_words, max_size=3),
    words,
    st.booleans(),
    st.none() | st.binary(min_size=1, max_size=200),
    st.dictionaries(words, octets, max_size=3),
)


def of_oracle(message):
    """An HttpRequest of a Google message."""
    return HttpRequest(
        message.remote_addr,
        message.protocol,
        message.method,
        message.uri,
        {name: list(values.value) for name, values in message.header.items()},
        {name: values.value[-1].decode() for name, values in message.cookies.items()},
        message.raw_query,
        message.parsed,
        message.uploads or None,
        {name: values.value[0] for name, values in message.attributes.items()},
    )


# ------------------------------------------------------------------------------- protobuf


@given(requests)
def test_google_reads_our_request(request):
    message = PB_REQUEST()
    message.ParseFromString(encode_single_request(CODEC_PROTO, request))
    assert of_oracle(message) == request


@given(requests)
def test_we_read_googles_request(request):
    message = PB_REQUEST(
        remote_addr=request.remote_addr,
        protocol=request.protocol,
        method=request.method,
        uri=request.uri,
        raw_query=request.raw_query,
        parsed=request.parsed,
        uploads=request.uploads or b"",
    )
    for name, values in request.headers.items():
        message.header[name].value.extend(values)
    for name, value in request.cookies.items():
        message.cookies[name].value.append(value.encode())
    for name, value in request.attributes.items():
        message.attributes[name].value.append(value)
    data = message.SerializeToString()
    assert decode_single_request(CODEC_PROTO, data) == request
    assert decode_single_request(0, data) == request


@given(st.integers(-(2**63), 2**63 - 1), st.dictionaries(words, st.lists(octets, min_size=1), max_size=4))
def test_responses_agree_with_google_both_ways(status, headers):
    pairs = [(name.encode(), value) for name, values in headers.items() for value in values]
    message = PB_RESPONSE()
    message.ParseFromString(encode_single_response(CODEC_PROTO, status, pairs))
    assert message.status == status
    assert {name: list(values.value) for name, values in message.headers.items()} == headers
    found, read = decode_single_response(CODEC_PROTO, message.SerializeToString())
    assert found == status
    assert sorted(read) == sorted(pairs)


def agree(data):
    """Google's reader and ours refuse *data* both, or read the same from it."""
    message = PB_RESPONSE()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        # A name that is no UTF-8 is read here and refused by the front, as any other that is no token.
        if "UTF-8" not in str(error):
            with pytest.raises(FrameError):
                decode_single_response(CODEC_PROTO, data)
        return
    status, headers = decode_single_response(CODEC_PROTO, data)
    assert status == message.status
    read = sorted(
        (name.encode(), value) for name, values in message.headers.items() for value in values.value
    )
    if any(field.field_number == 2 for field in UnknownFieldSet(message)):
        # An entry of the map with a key or value of another wire type: Google's C reader puts it aside whole, its
        # other readers and ours take what can be read of it.
        assert not Counter(read) - Counter(headers)
    else:
        assert sorted(headers) == read


def test_an_entry_with_a_key_of_another_type_is_read_without_it():
    bent = b"\x08\x80\x01\x12\x06\x08\x00\x12\x02\n\x00"
    agree(bent)
    assert decode_single_response(CODEC_PROTO, bent) == (128, [(b"", b"")])


@given(st.binary(max_size=60))
def test_what_google_refuses_we_refuse_and_what_it_reads_we_read_alike(data):
    agree(data)


@given(st.data(), st.integers(1, 300), header_maps)
def test_cut_off_or_bent_messages_agree_with_google(data, status, headers):
    """Bytes close to a real message reach more of the reader than random ones."""
    message = PB_RESPONSE(status=status)
    for name, values in headers.items():
        message.headers[name].value.extend(values)
    whole = bytearray(message.SerializeToString())
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        del whole[at:]
    else:
        whole[at] = data.draw(st.integers(0, 255))
    agree(bytes(whole))


@pytest.mark.parametrize(
    "unknown",
    [
        b"\x98\x06\x01",  # a varint, field 99
        b"\x99\x06" + bytes(8),
        b"\x9a\x06\x03abc",
        b"\x9d\x06" + bytes(4),
        b"\x9b\x06\x08\x01\x12\x01x\x9b\x01\x9c\x01\x9c\x06",  # a group with a group in it
        b"\x0a\x01x",  # the status' number with another kind
        b"\x10\x05",  # the headers' number with another kind
    ],
)
def test_unknown_fields_are_skipped(unknown):
    known = encode_single_response(CODEC_PROTO, 200, [(b"a", b"b")])
    for data in (unknown + known, known + unknown):
        PB_RESPONSE().ParseFromString(data)
        assert decode_single_response(CODEC_PROTO, data) == (200, [(b"a", b"b")])


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",
        b"\x08" + b"\xff" * 10,
        b"\x12\x05a",
        b"\x00\x01",
        b"\x0f",
        b"\x9c\x06",  # the end of a group that never began
        b"\x9b\x06",
        b"\x9b\x06\x9c\x07",
        b"\x99\x06\x00",
        b"\x9d\x06\x00",
        b"\x12\x04\x0a\x02\xff\xfe",  # a name that is not UTF-8
    ],
)
def test_broken_protobuf_is_a_frame_error(data):
    with pytest.raises(Exception):
        PB_RESPONSE().ParseFromString(data)
    with pytest.raises(FrameError):
        decode_single_response(CODEC_PROTO, data)


def test_an_entry_may_lack_key_or_value():
    assert decode_single_response(CODEC_PROTO, b"\x12\x00") == (0, [])
    assert decode_single_response(CODEC_PROTO, b"\x12\x05\x12\x03\x0a\x01b") == (0, [(b"", b"b")])


def test_the_last_of_two_entries_of_a_name_wins():
    one = encode_single_response(CODEC_PROTO, 0, [(b"a", b"1")])
    two = encode_single_response(CODEC_PROTO, 0, [(b"a", b"2")])
    assert decode_single_response(CODEC_PROTO, one + two) == (0, [(b"a", b"2")])


def test_values_that_are_not_utf8_pass_through_protobuf_unchanged():
    request = HttpRequest(headers={"X": [b"caf\xe9"]})
    assert decode_single_request(CODEC_PROTO, encode_single_request(CODEC_PROTO, request)) == request


def test_many_different_names_do_not_grow_the_cache():
    from twisted_rr.wire import single_context

    for number in range(3000):
        encode_single_request(CODEC_PROTO, HttpRequest(headers={f"X-{number}": [b"v"]}))
    assert len(single_context._keys) <= 1024


# ----------------------------------------------------------------------------------- JSON


def test_the_json_request_is_the_one_of_the_specification():
    request = HttpRequest(
        "10.0.0.1",
        "HTTP/1.1",
        "POST",
        "http://host/a?b=c",
        {"X-One": [b"1", b"2"], "X-Latin": [b"caf\xe9"], "X-Utf": ["é".encode()], "X-Text": ["é"]},
        {"c": "d", "e": b"f"},
        "b=c",
        True,
        b'{"f":{"name":"n"}}',
        {"user": b"u", "list": ["a", b"b"]},
    )
    assert json.loads(encode_single_request(CODEC_JSON, request)) == {
        "remoteAddr": "10.0.0.1",
        "protocol": "HTTP/1.1",
        "method": "POST",
        "uri": "http://host/a?b=c",
        "headers": {"X-One": ["1", "2"], "X-Latin": ["café"], "X-Utf": ["é"], "X-Text": ["é"]},
        "cookies": {"c": "d", "e": "f"},
        "rawQuery": "b=c",
        "parsed": True,
        "uploads": {"f": {"name": "n"}},
        "attributes": {"user": "u", "list": ["a", "b"]},
    }


def test_a_json_request_without_uploads_has_null():
    assert json.loads(encode_single_request(CODEC_JSON, HttpRequest()))["uploads"] is None


@BOTH
def test_a_request_is_read_as_it_was_written_and_its_codec_found(codec):
    request = HttpRequest(
        "::1",
        "HTTP/2.0",
        "GET",
        "https://h/",
        {"A": ["é".encode()]},
        {"c": "d"},
        "q",
        True,
        b'{"f":1}',
        {"k": "v"},
    )
    data = encode_single_request(codec, request)
    if codec == CODEC_PROTO:
        request.attributes = {"k": b"v"}
    assert decode_single_request(codec, data) == request
    assert decode_single_request(0, data) == request


def test_php_writes_empty_maps_as_lists():
    assert decode_single_response(CODEC_JSON, b'{"status":204,"headers":[]}') == (204, [])
    assert decode_single_response(CODEC_JSON, b'{"status":204,"headers":null}') == (204, [])
    assert decode_single_response(CODEC_JSON, b'{"status":204}') == (204, [])
    assert decode_single_request(CODEC_JSON, b'{"headers":[],"cookies":[],"attributes":[]}') == HttpRequest(
        protocol="", method=""
    )


def test_an_answer_without_codec_is_json():
    data = encode_single_response(CODEC_JSON, 200, [(b"A", b"1"), (b"B", b"x"), (b"A", b"2")])
    assert json.loads(data) == {"status": 200, "headers": {"A": ["1", "2"], "B": ["x"]}}
    assert decode_single_response(0, data) == (200, [(b"A", b"1"), (b"A", b"2"), (b"B", b"x")])


def test_a_missing_status_is_zero():
    assert decode_single_response(0, b"{}") == (0, [])
    assert decode_single_response(CODEC_PROTO, b"") == (0, [])


def test_json_text_becomes_utf8_bytes():
    assert decode_single_response(0, '{"status":200,"headers":{"A":["é€"]}}'.encode()) == (
        200,
        [(b"A", "é€".encode())],
    )


def test_json_that_is_not_utf8_is_read_as_latin1():
    assert decode_single_response(0, b'{"status":200,"headers":{"A":["caf\xe9"]}}') == (
        200,
        [(b"A", b"caf\xe9")],
    )
    assert decode_single_request(CODEC_JSON, b'{"headers":{"A":["caf\xe9"]}}').headers == {"A": [b"caf\xe9"]}


@given(
    codecs,
    st.integers(100, 599),
    st.lists(st.tuples(words.map(str.encode), words.map(str.encode)), max_size=5),
)
def test_a_response_is_read_as_it_was_written(codec, status, pairs):
    found, read = decode_single_response(codec, encode_single_response(codec, status, pairs))
    assert found == status
    assert sorted(read) == sorted(pairs)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b'"x"',
        b"{",
        b'{"status":"200"}',
        b'{"status":true}',
        b'{"status":1.5}',
        b'{"status":200,"headers":{"A":"b"}}',
        b'{"status":200,"headers":{"A":[1]}}',
        b'{"status":200,"headers":{"A":[null]}}',
        b'{"status":200,"headers":["A"]}',
        b'{"status":200,"headers":"A"}',
        b'{"a":' * 50000,
        b"\x08\xc8\x01",
        b'{"status":200,"headers":{"A":["\xe9\\u20ac"]}}',
        b'{"status":200,"headers":{"A":["\\ud800"]}}',
    ],
)
def test_broken_json_is_a_frame_error(data):
    with pytest.raises(FrameError):
        decode_single_response(0, data)


@pytest.mark.parametrize(
    "data",
    [b"{", b"{}x", b'{"headers":"x"}', b'{"headers":{"A":"b"}}', b'{"headers":{"A":[1]}}', b'{"cookies":1}'],
)
def test_a_broken_json_request_is_a_frame_error(data):
    with pytest.raises(FrameError):
        decode_single_request(0, data)


@given(st.binary(max_size=80))
def test_no_bytes_raise_anything_but_a_frame_error(data):
    for codec in (0, CODEC_JSON, CODEC_PROTO):
        for decode in (decode_single_request, decode_single_response):
            try:
                decode(codec, data)
            except FrameError:
                pass


def test_other_codecs_are_refused():
    calls = [
        lambda: encode_single_request(CODEC_MSGPACK, HttpRequest()),
        lambda: decode_single_request(CODEC_MSGPACK, b""),
        lambda: encode_single_response(0, 200, []),
        lambda: decode_single_response(CODEC_MSGPACK, b""),
    ]
    for call in calls:
        with pytest.raises(FrameError, match="codec"):
            call()
