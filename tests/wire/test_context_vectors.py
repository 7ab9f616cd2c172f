"""The contexts as bytes (vectors/contexts.json), built and read by our code; bytes stand there as latin-1 strings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from twisted_rr.wire import context, grpc_context
from twisted_rr.wire.frame import CODEC_JSON, CODEC_MSGPACK, CODEC_PROTO

CODECS = {"msgpack": CODEC_MSGPACK, "json": CODEC_JSON, "proto": CODEC_PROTO}
VECTORS = json.loads((Path(__file__).parent / "vectors" / "contexts.json").read_text())["contexts"]


def octets(text):
    return text.encode("latin-1")


def pairs(headers):
    return [(octets(name), octets(value)) for name, value in headers]


def address(value):
    return None if value is None else tuple(value)


def metadata(listed):
    return [(key, octets(value) if key.endswith("-bin") else value) for key, value in listed]


def request(v):
    method, target, version, scheme, client, server, headers, attributes = v
    return (
        method,
        octets(target),
        version,
        scheme,
        address(client),
        address(server),
        pairs(headers),
        attributes,
    )


def single_request(v):
    headers = {name: [octets(value) for value in values] for name, values in v["headers"].items()}
    uploads = None if v["uploads"] is None else octets(v["uploads"])
    return context.HttpRequest(**{**v, "headers": headers, "uploads": uploads})


# How the decoded form in the file becomes what encode takes and decode gives, for each kind.
KINDS = {
    "request": (context.encode_request, context.decode_request, request),
    "head": (context.encode_head, context.decode_head, lambda v: (v[0], pairs(v[1]))),
    "trailers": (context.encode_trailers, context.decode_trailers, lambda v: (pairs(v[0]),)),
    "close": (context.encode_close, context.decode_close, tuple),
    "call": (
        grpc_context.encode_call,
        grpc_context.decode_call,
        lambda v: (v[0], v[1], metadata(v[2]), v[3], v[4], v[5]),
    ),
    "grpc_head": (
        grpc_context.encode_grpc_head,
        grpc_context.decode_grpc_head,
        lambda v: (metadata(v[0]),),
    ),
    "grpc_end": (
        grpc_context.encode_grpc_end,
        grpc_context.decode_grpc_end,
        lambda v: (v[0], v[1], None if v[2] is None else octets(v[2]), metadata(v[3])),
    ),
    "single_request": (
        context.encode_single_request,
        context.decode_single_request,
        lambda v: (single_request(v),),
    ),
    "single_response": (
        context.encode_single_response,
        context.decode_single_response,
        lambda v: (v[0], pairs(v[1])),
    ),
}
BARE = ("trailers", "grpc_head", "single_request")
"""Kinds whose decoder gives the one element itself."""


def named(vector):
    return f"{vector['name']}-{vector['codec']}"


@pytest.mark.parametrize("vector", VECTORS, ids=named)
def test_the_context_is_built_as_the_vectors_bytes(vector):
    encode, _, made = KINDS[vector["kind"]]
    assert encode(CODECS[vector["codec"]], *made(vector["value"])).hex() == vector["bytes"]


@pytest.mark.parametrize("vector", VECTORS, ids=named)
def test_the_vectors_bytes_are_read(vector):
    _, decode, made = KINDS[vector["kind"]]
    wanted = made(vector["value"])
    found = decode(CODECS[vector["codec"]], bytes.fromhex(vector["bytes"]))
    assert found == (wanted[0] if vector["kind"] in BARE else wanted)


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["codec"] == "json"], ids=named)
def test_a_json_context_is_what_any_json_reader_makes_of_it(vector):
    read = json.loads(bytes.fromhex(vector["bytes"]))
    if isinstance(read, list):
        assert read == vector["value"]


def test_every_kind_is_there_in_each_of_its_codecs():
    found = {(vector["kind"], vector["codec"]) for vector in VECTORS}
    for kind in KINDS:
        codecs = ("json", "proto") if kind.startswith("single") else ("msgpack", "json")
        assert {(kind, codec) for codec in codecs} <= found
