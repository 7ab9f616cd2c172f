"""The contexts of gRPC calls, and google.rpc.Status: both ends, protobuf as the oracle."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from twisted_rr.errors import FrameError
from twisted_rr.wire import grpc_status
from twisted_rr.wire.frame import CODEC_GOB, CODEC_JSON, CODEC_MSGPACK
from twisted_rr.wire.grpc_context import (
    decode_call,
    decode_error_text,
    decode_grpc_end,
    decode_grpc_head,
    decode_single_call,
    decode_single_end,
    decode_status,
    encode_call,
    encode_error_text,
    encode_grpc_end,
    encode_grpc_head,
    encode_single_call,
    encode_single_end,
    encode_status,
    pack_metadata,
    with_details,
)

CODECS = (CODEC_MSGPACK, CODEC_JSON)
METADATA = [("user-agent", "x/1"), ("trace-bin", b"\x00\xff\x80"), ("user-agent", "again")]

keys = st.text("abcdefghijklmnopqrstuvwxyz0123456789_-.", min_size=1, max_size=12).filter(
    lambda key: not key.endswith("-bin")
)
printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
pairs = st.lists(
    st.one_of(
        st.tuples(keys, printable), st.tuples(keys.map(lambda key: key + "-bin"), st.binary(max_size=20))
    ),
    max_size=6,
)


# ------------------------------------------------------------------------------------- mux


@given(codec=st.sampled_from(CODECS), metadata=pairs, deadline=st.none() | st.integers(0, 2**53))
def test_call_comes_back_as_it_went(codec, metadata, deadline):
    fields = ("pkg.Echo", "Say", metadata, deadline, "127.0.0.1:5", {":authority": "x"})
    assert decode_call(codec, encode_call(codec, *fields)) == fields


@given(
    codec=st.sampled_from(CODECS),
    metadata=pairs,
    code=st.integers(0, 2**31),
    text=st.text(),
    details=st.none() | st.binary(),
)
def test_head_and_end_come_back_as_they_went(codec, metadata, code, text, details):
    assert decode_grpc_head(codec, encode_grpc_head(codec, metadata)) == metadata
    data = encode_grpc_end(codec, code, text, details, metadata)
    assert decode_grpc_end(codec, data) == (code, text, details, metadata)


def test_call_is_the_array_of_the_document():
    data = encode_call(CODEC_MSGPACK, "pkg.Echo", "Say", METADATA, 1500, "127.0.0.1:5", None)
    assert msgspec.msgpack.decode(data) == [
        "pkg.Echo", "Say", [list(pair) for pair in METADATA], 1500, "127.0.0.1:5", None
    ]  # fmt: skip
    assert json.loads(encode_call(CODEC_JSON, "a", "b", METADATA, None, "", None)) == [
        "a", "b", [["user-agent", "x/1"], ["trace-bin", "\x00\xff\x80"], ["user-agent", "again"]], None, "", None
    ]  # fmt: skip


def test_end_and_head_are_the_arrays_of_the_document():
    assert msgspec.msgpack.decode(encode_grpc_head(CODEC_MSGPACK, [("a", "b")])) == [[["a", "b"]]]
    assert msgspec.msgpack.decode(encode_grpc_end(CODEC_MSGPACK, 5, "no", b"\xff", [("a", "b")])) == [
        5, "no", b"\xff", [["a", "b"]]
    ]  # fmt: skip
    assert json.loads(encode_grpc_end(CODEC_JSON, 5, "no", b"\xff", [])) == [5, "no", "\xff", []]


@pytest.mark.parametrize("codec", CODECS)
def test_packed_metadata_is_as_good_as_pairs(codec):
    packed = pack_metadata(METADATA)
    plain = encode_call(codec, "s", "m", METADATA, None, "p", None)
    assert encode_call(codec, "s", "m", packed, None, "p", None) == plain


@pytest.mark.parametrize("codec", CODECS)
def test_further_elements_are_ignored(codec):
    encode = msgspec.msgpack.encode if codec == CODEC_MSGPACK else msgspec.json.encode
    assert decode_call(codec, encode(["s", "m", [["a", "b"]], None, "p", None, "new"])) == (
        "s", "m", [("a", "b")], None, "p", None
    )  # fmt: skip
    assert decode_grpc_head(codec, encode([[["a", "b"]], 1])) == [("a", "b")]
    assert decode_grpc_end(codec, encode([0, "", None, [["a", "b"]], 1])) == (0, "", None, [("a", "b")])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "value", [[], ["s"], {}, 1, ["s", "m", [["a", 1]], None, "p", None], ["s", "m", [["a"]], None, "p", None]]
)
def test_other_shapes_are_refused(codec, value):
    data = (msgspec.msgpack if codec == CODEC_MSGPACK else msgspec.json).encode(value)
    with pytest.raises(FrameError):
        decode_call(codec, data)


@pytest.mark.parametrize("codec", CODECS)
def test_metadata_that_is_neither_text_nor_bytes_is_refused(codec):
    encode = msgspec.msgpack.encode if codec == CODEC_MSGPACK else msgspec.json.encode
    with pytest.raises(FrameError):
        decode_grpc_head(codec, encode([[["a", 1.5]]]))
    with pytest.raises(FrameError):
        decode_grpc_end(codec, encode([0, "", None, [["a", None]]]))


def test_json_bytes_are_code_points_up_to_255():
    with pytest.raises(FrameError, match="above 255"):
        decode_grpc_head(CODEC_JSON, json.dumps([[["a-bin", "\u0100"]]]).encode())


def test_other_codecs_carry_no_mux_context():
    with pytest.raises(FrameError, match="codec"):
        encode_call(CODEC_GOB, "s", "m", [], None, "p", None)
    with pytest.raises(FrameError, match="codec"):
        decode_grpc_end(CODEC_GOB, b"[]")


@given(st.binary(max_size=60))
def test_garbage_is_a_frame_error_or_a_value(data):
    for codec in CODECS:
        for decode in (decode_call, decode_grpc_head, decode_grpc_end):
            try:
                decode(codec, data)
            except FrameError:
                continue
    for decode in (decode_single_call, decode_single_end, decode_status):
        try:
            decode(data)
        except FrameError:
            continue


# ------------------------------------------------------------------------------ one-call workers


def test_single_call_is_roadrunners_object():
    data = encode_single_call(
        "helloworld.Greeter",
        "SayHello",
        [("a", "1"), ("a", "2"), ("b-bin", b"\xc3\xa9")],
        "127.0.0.1:9",
        "host",
        "tls",
    )
    assert json.loads(data) == {
        "service": "helloworld.Greeter",
        "method": "SayHello",
        "context": {
            "a": ["1", "2"],
            "b-bin": ["é"],
            ":authority": ["host"],
            ":peer.address": ["127.0.0.1:9"],
            ":peer.auth-type": ["tls"],
        },
    }


def test_single_call_of_a_service_without_package_has_a_leading_dot():
    data = encode_single_call("Echo", "Say", [], "p")
    assert json.loads(data)["service"] == ".Echo"
    assert decode_single_call(data)[0] == "Echo"


def test_single_call_of_roadrunner_is_read():
    data = b'{"service":"helloworld.Greeter","method":"SayHello","context":{":peer.address":["127.0.0.1:50000"],"x":["1","2"],"y-bin":["\\u00e9"],":peer.auth-type":["tls"]}}'
    assert decode_single_call(data) == (
        "helloworld.Greeter", "SayHello", [("x", "1"), ("x", "2"), ("y-bin", b"\xc3\xa9")],
        None, "127.0.0.1:50000", {":peer.auth-type": "tls"},
    )  # fmt: skip


@pytest.mark.parametrize(
    "context", [b"", b"[]", b"{}", b'{"service":"a"}', b'{"service":"a","method":"b","context":{"c":1}}']
)
def test_other_single_calls_are_refused(context):
    with pytest.raises(FrameError):
        decode_single_call(context)


def test_single_end_of_ok_without_metadata_is_empty():
    assert encode_single_end(0, "", None, None, None) == b""
    assert decode_single_end(b"") == (0, "", None, [], [])


def test_single_end_holds_json_in_json():
    data = encode_single_end(5, "no", None, [("h", "1")], [("t", "2"), ("t", "3"), ("b-bin", b"ok")])
    found = json.loads(data)
    assert json.loads(found["headers"]) == {"h": "1"}
    assert json.loads(found["trailers"]) == {"t": "2,3", "b-bin": "ok"}
    assert base64.b64decode(found["error"]) == encode_status(5, "no")
    assert decode_single_end(data) == (5, "no", None, [("h", "1")], [("t", "2,3"), ("b-bin", b"ok")])


def test_single_end_leaves_out_what_is_no_text_and_says_so():
    skipped: list[str] = []
    data = encode_single_end(0, "", None, None, [("a-bin", b"\xff"), ("b", "1")], skipped.append)
    assert skipped == ["a-bin"]
    assert json.loads(json.loads(data)["trailers"]) == {"b": "1"}


def test_single_end_of_the_older_form_is_all_headers():
    assert decode_single_end(b'{"X-One":"1","two":"2"}') == (0, "", None, [("x-one", "1"), ("two", "2")], [])
    error = base64.b64encode(encode_status(7, "who")).decode()
    assert decode_single_end(json.dumps({"X": "1", "error": error}).encode()) == (
        7, "who", None, [("x", "1")], []
    )  # fmt: skip


def test_single_end_skips_metadata_that_is_no_string():
    data = json.dumps({"headers": '{"a":1,"b":"2"}', "trailers": "null"}).encode()
    assert decode_single_end(data) == (0, "", None, [("b", "2")], [])


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"[]",
        b'{"a":1}',
        b'{"headers":"x"}',
        b'{"headers":"[]"}',
        b'{"error":"!!"}',
        b'{"error":"/w=="}',
    ],
)
def test_other_single_ends_are_refused(data):
    with pytest.raises(FrameError):
        decode_single_end(data)


def test_single_end_gives_the_whole_status_when_it_has_details():
    status = encode_status(3, "bad", [b"\n\x01x"])
    data = encode_single_end(3, "bad", status, None, None)
    assert decode_single_end(data) == (3, "bad", status, [], [])


# ----------------------------------------------------------------------------- google.rpc.Status


def _status_class():
    file = descriptor_pb2.FileDescriptorProto(
        name="status_oracle.proto",
        package="oracle",
        syntax="proto3",
        dependency=["google/protobuf/any.proto"],
    )
    message = file.message_type.add(name="Status")
    field = descriptor_pb2.FieldDescriptorProto
    message.field.add(name="code", number=1, type=field.TYPE_INT32, label=field.LABEL_OPTIONAL)
    message.field.add(name="message", number=2, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    message.field.add(
        name="details",
        number=3,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_REPEATED,
        type_name=".google.protobuf.Any",
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("oracle.Status"))


Status = _status_class()


@given(
    st.integers(0, 2**31 - 1),
    st.text(),
    st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=200)), max_size=3),
)
def test_status_is_what_protobuf_writes_and_reads(code, text, details):
    theirs = Status(code=code, message=text)
    for url, value in details:
        theirs.details.add(type_url=url, value=value)
    packed = [detail.SerializeToString() for detail in theirs.details]
    ours = encode_status(code, text, packed)
    assert Status.FromString(ours) == theirs
    assert decode_status(theirs.SerializeToString()) == (code, text, packed)


def test_status_of_a_negative_code_is_read():
    assert decode_status(Status(code=-1).SerializeToString())[0] == -1


def test_details_are_taken_over_and_nonsense_is_left_out():
    rich = encode_status(9, "other", [b"\n\x01x"])
    assert decode_status(with_details(5, "mine", rich)) == (5, "mine", [b"\n\x01x"])
    assert with_details(5, "mine", b"\xff") == encode_status(5, "mine")
    assert with_details(5, "mine", None) == encode_status(5, "mine")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5|:|not there", (5, "not there", [])),
        ("5|:|not there|:|\n\x01x", (5, "not there", [b"\n\x01x"])),
        ("3|:|m|:|a|:|\ufffdb|:|", (3, "m", [b"a", "\ufffdb".encode()])),
        ("something broke", (grpc_status.INTERNAL, "something broke", [])),
        ("0|:|fine?", (grpc_status.INTERNAL, "fine?", [])),
        ("-1|:|x", (grpc_status.UNKNOWN, "-1|:|x", [])),
        ("x|:|y", (grpc_status.UNKNOWN, "x|:|y", [])),
        ("|:|y", (grpc_status.UNKNOWN, "|:|y", [])),
        ("99999999999999999999999|:|y", (grpc_status.UNKNOWN, "99999999999999999999999|:|y", [])),
        ("0" * 20 + "9" * 5000 + "|:|y", (grpc_status.UNKNOWN, "0" * 20 + "9" * 5000 + "|:|y", [])),
        ("0" * 20 + "99999999999|:|y", (grpc_status.UNKNOWN, "0" * 20 + "99999999999|:|y", [])),
        (encode_error_text(14, "later"), (14, "later", [])),
    ],
)
def test_error_text_is_read_as_roadrunner_does(text, expected):
    assert decode_error_text(text.encode()) == expected


def test_details_of_an_error_text_need_not_be_utf_8():
    raw = b"3|:|b\xffd|:|\n\xff\x00|:||:|\x80"
    assert decode_error_text(raw) == (3, "b\ufffdd", [b"\n\xff\x00", b"\x80"])
