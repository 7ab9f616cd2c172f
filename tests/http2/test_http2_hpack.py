"""HPACK: the examples of RFC 7541, its error cases, and two other implementations as oracles."""

from __future__ import annotations

import os
import random

import hpack
import hpack.exceptions
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jh2._hazmat import Decoder as RustDecoder

from twisted_rr.http2 import blocks, huffman
from twisted_rr.http2.blocks import BadResponse, Block
from twisted_rr.http2.codes import COMPRESSION_ERROR, ConnectionFault
from twisted_rr.http2.hpack import MAX_BLOCK, MAX_BLOCKS, MAX_FIELDS, TABLE_SIZE, Decoder, Heads
from twisted_rr.http2.tables import CODE_LENGTHS, STATIC

Pairs = list[tuple[bytes, bytes]]

#: RFC 7541 appendix C.2 to C.6: blocks of one connection in order, what each says, and the table afterwards (newest
#: first) with its size. Where the examples are of a smaller table, the first block sets that size.
SIZE_256 = "3fe101"
CUSTOM = (b"custom-key", b"custom-header")
GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")]
NO_CACHE = [*GET, (b"cache-control", b"no-cache")]
INDEX_HTML = [
    (b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/index.html"), (b":authority", b"www.example.com"),
    (b"custom-key", b"custom-value"),
]  # fmt: skip
DATE_21 = (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT")
DATE_22 = (b"date", b"Mon, 21 Oct 2013 20:13:22 GMT")
LOCATION = (b"location", b"https://www.example.com")
PRIVATE = (b"cache-control", b"private")
COOKIE = (b"set-cookie", b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1")
ANSWER_302 = [(b":status", b"302"), PRIVATE, DATE_21, LOCATION]
ANSWER_307 = [(b":status", b"307"), PRIVATE, DATE_21, LOCATION]
ANSWER_200 = [(b":status", b"200"), PRIVATE, DATE_22, LOCATION, (b"content-encoding", b"gzip"), COOKIE]
REQUEST_TABLES = (
    ([(b":authority", b"www.example.com")], 57),
    ([(b"cache-control", b"no-cache"), (b":authority", b"www.example.com")], 110),
    ([(b"custom-key", b"custom-value"), (b"cache-control", b"no-cache"), (b":authority", b"www.example.com")], 164),
)  # fmt: skip
ANSWER_TABLES = (
    ([LOCATION, DATE_21, PRIVATE, (b":status", b"302")], 222),
    ([(b":status", b"307"), LOCATION, DATE_21, PRIVATE], 222),
    ([COOKIE, (b"content-encoding", b"gzip"), DATE_22], 215),
)
EXAMPLES = {
    "C.2.1": [("400a637573746f6d2d6b65790d637573746f6d2d686561646572", [CUSTOM], [CUSTOM], 55)],
    "C.2.2": [("040c2f73616d706c652f70617468", [(b":path", b"/sample/path")], [], 0)],
    "C.2.3": [("100870617373776f726406736563726574", [(b"password", b"secret")], [], 0)],
    "C.2.4": [("82", [(b":method", b"GET")], [], 0)],
    "C.3": [
        ("828684410f7777772e6578616d706c652e636f6d", GET, *REQUEST_TABLES[0]),
        ("828684be58086e6f2d6361636865", NO_CACHE, *REQUEST_TABLES[1]),
        ("828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", INDEX_HTML, *REQUEST_TABLES[2]),
    ],
    "C.4": [
        ("828684418cf1e3c2e5f23a6ba0ab90f4ff", GET, *REQUEST_TABLES[0]),
        ("828684be5886a8eb10649cbf", NO_CACHE, *REQUEST_TABLES[1]),
        ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", INDEX_HTML, *REQUEST_TABLES[2]),
    ],
    "C.5": [
        (
            SIZE_256 + "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
            "6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
            ANSWER_302,
            *ANSWER_TABLES[0],
        ),
        ("4803333037c1c0bf", ANSWER_307, *ANSWER_TABLES[1]),
        (
            "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d41"
            "53444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f"
            "6e3d31",
            ANSWER_200,
            *ANSWER_TABLES[2],
        ),
    ],
    "C.6": [
        (
            SIZE_256 + "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad1718"
            "63c78f0b97c8e9ae82ae43d3",
            ANSWER_302,
            *ANSWER_TABLES[0],
        ),
        ("4883640effc1c0bf", ANSWER_307, *ANSWER_TABLES[1]),
        (
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b"
            "3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
            ANSWER_200,
            *ANSWER_TABLES[2],
        ),
    ],
}  # fmt: skip


def pairs_of(decoder: Decoder, block: bytes) -> Pairs:
    return [field.pair for field in decoder.decode(block)]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_rfc(name: str) -> None:
    decoder = Decoder(65536)
    for block, fields, table, size in EXAMPLES[name]:
        assert pairs_of(decoder, bytes.fromhex(block)) == fields
        assert [field.pair for field in reversed(decoder._table)] == table
        assert decoder._size == size


@pytest.mark.parametrize(
    ("value", "bits", "octets"), [(10, 5, "0a"), (1337, 5, "1f9a0a"), (42, 8, "2a"), (31, 5, "1f00"), (30, 5, "1e")]
)  # fmt: skip
def test_integers_of_appendix_c_1(value: int, bits: int, octets: str) -> None:
    assert blocks._integer(value, bits, 0) == bytes.fromhex(octets)


BAD_BLOCKS = {
    "index 0": "80",
    "an index beyond the static table, nothing in the other": "be",
    "a name index beyond the tables": "7e0161",
    "an integer without its end": "ff80808080",
    "an integer too long": "ffffffffffff01",
    "an integer of many zeroes": "ff8080808080808000",
    "a block that ends in an integer": "ff",
    "a block that ends before a name": "40",
    "a block that ends before a value": "400161",
    "a string beyond the block": "40056162",
    "a string far beyond the block": "407fffffff0761",
    "EOS in a string": "4084ffffffff0161",
    "padding of eight ones": "4082" + "1fff" + "0161",
    "padding that is not ones": "408118" + "0161",
    "a size update after a field": "8220",
    "a size update beyond the setting": "3fe21f",
}


@pytest.mark.parametrize("name", BAD_BLOCKS)
def test_a_bad_block_is_a_compression_error(name: str) -> None:
    with pytest.raises(ConnectionFault) as caught:
        Decoder(65536).decode(bytes.fromhex(BAD_BLOCKS[name]))
    assert caught.value.code == COMPRESSION_ERROR


def test_size_updates_evict_and_come_back() -> None:
    decoder = Decoder(65536)
    decoder.decode(bytes.fromhex("400161016240016301640001780179"))
    assert [field.pair for field in decoder._table] == [(b"a", b"b"), (b"c", b"d")]
    decoder.decode(b"\x3f\x09")  # 40 bytes: one entry of 34
    assert [field.pair for field in decoder._table] == [(b"c", b"d")]
    decoder.decode(b"\x20\x3f\xe1\x1f\x40\x01e\x01f")
    assert [field.pair for field in decoder._table] == [(b"e", b"f")]


def test_an_entry_larger_than_the_table_empties_it() -> None:
    decoder = Decoder(65536)
    decoder.decode(b"\x40\x01a\x01b")
    value = b"v" * TABLE_SIZE
    assert pairs_of(decoder, b"\x40\x01c" + blocks._integer(len(value), 7, 0) + value) == [(b"c", value)]
    assert decoder._table == [] and decoder._size == 0


def test_the_static_table_and_the_code_are_those_of_hpack() -> None:
    from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
    from hpack.table import HeaderTable

    assert tuple(HeaderTable.STATIC_TABLE) == STATIC
    assert list(CODE_LENGTHS) == REQUEST_CODES_LENGTH
    encoder = hpack.huffman.HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
    for octet in range(256):
        assert huffman.decode(encoder.encode(bytes([octet]) * 3)) == bytes([octet]) * 3


def test_fields_beyond_the_limit_are_left_out_and_the_table_is_kept() -> None:
    decoder = Decoder(100)
    fields = decoder.decode(b"\x40\x01a\x01b" * 5)
    assert decoder.oversized and len(fields) == 2
    assert len(decoder._table) == 5
    decoder.decode(b"\xbe")
    assert not decoder.oversized


# ---------------------------------------------------------------------------------------- oracles

NAMES = st.sampled_from([b"a", b"x-long-name", b"content-type", b":path", b"cookie", b"grpc-timeout", b"te"]) | st.binary(min_size=1, max_size=20)  # fmt: skip
VALUES = st.sampled_from([b"", b"application/grpc", b"1", b"gzip, deflate", b"v" * 200]) | st.binary(
    max_size=60
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=12)
TABLE_SIZES = st.none() | st.integers(0, TABLE_SIZE)


@given(st.lists(st.tuples(FIELDS, TABLE_SIZES, st.booleans()), max_size=12))
@settings(max_examples=150, deadline=None)
def test_what_hpack_encodes_is_decoded(turns: list[tuple[Pairs, int | None, bool]]) -> None:
    encoder = hpack.Encoder()
    decoder = Decoder(1 << 20)
    for fields, size, use_huffman in turns:
        if size is not None:
            encoder.header_table_size = size
        assert pairs_of(decoder, encoder.encode(fields, huffman=use_huffman)) == fields
        assert decoder._size == sum(entry.size for entry in decoder._table) <= TABLE_SIZE


@given(FIELDS)
@settings(max_examples=150, deadline=None)
def test_what_we_encode_others_decode(fields: Pairs) -> None:
    block = blocks.encode(fields)
    plain = [(name, value) for name, value in hpack.Decoder(1 << 20).decode(block, raw=True)]
    assert plain == fields
    assert [(name, value) for name, value, _ in RustDecoder().decode(block, raw=True)] == fields
    assert pairs_of(Decoder(1 << 20), block) == fields


def mutated(seed: int) -> list[bytes]:
    """Blocks of one connection, some of them broken."""
    chance = random.Random(seed)
    encoder = hpack.Encoder()
    found = []
    for _ in range(chance.randrange(1, 8)):
        fields = [
            (
                chance.choice([b"a", b"content-type", b":path", b"x-y"]),
                bytes(chance.randrange(97, 123) for _ in range(chance.randrange(9))),
            )
            for _ in range(chance.randrange(1, 6))
        ]
        block = bytearray(encoder.encode(fields, huffman=chance.random() < 0.7))
        if chance.random() < 0.5:
            for _ in range(chance.randrange(1, 4)):
                action = chance.randrange(3)
                place = chance.randrange(len(block) + 1)
                if action == 0 and place < len(block):
                    block[place] = chance.randrange(256)
                elif action == 1:
                    block[place:place] = bytes(
                        [chance.choice([0x20, 0x3F, 0x40, 0x7F, 0x80, 0xBE, 0xFF, 0x10])]
                    )
                else:
                    del block[place : place + chance.randrange(1, 3)]
        found.append(bytes(block))
    return found


def by_hpack(decoder: hpack.Decoder, block: bytes) -> Pairs | None:
    try:
        return [(name, value) for name, value in decoder.decode(block, raw=True)]
    except hpack.exceptions.HPACKError:
        return None


def by_us(decoder: Decoder, block: bytes) -> Pairs | None:
    try:
        return pairs_of(decoder, block)
    except ConnectionFault as fault:
        assert fault.code == COMPRESSION_ERROR
        return None


def test_broken_blocks_are_refused_as_hpack_refuses_them() -> None:
    refused = 0
    for seed in range(int(os.environ.get("RR_FUZZ_HPACK", "1500"))):
        ours, theirs = Decoder(1 << 20), hpack.Decoder(1 << 20)
        for block in mutated(seed):
            mine, other = by_us(ours, block), by_hpack(theirs, block)
            if mine is None and other is not None:
                # hpack takes integers of any length, which no sender needs
                assert b"\xff" in block or b"\x7f" in block or b"\x3f" in block, (seed, block.hex())
            else:
                assert mine == other, (seed, block.hex())
            if mine is None:
                refused += 1
                break
    assert refused > 100


# ------------------------------------------------------------------------------ the cache of blocks


def understood(heads: Heads, block: bytes, cached: bool) -> object:
    head = heads.known.get(block) if cached else None
    try:
        if head is None:
            head = heads.read(block)
    except ConnectionFault as fault:
        return fault.reason
    return (
        head.method, head.scheme, head.path, head.authority, head.fields, head.length, head.fault,
        head.trailer_fault, head.oversized,
    )  # fmt: skip


def test_the_cache_means_what_no_cache_means() -> None:
    plain_pieces = [b"\x83", b"\x86", b"\x84", b"\x41\x01a", b"\x00\x01z\x011", b"\x10\x01y\x011", b"\xbe"]
    hits = 0
    for seed in range(150):
        chance = random.Random(seed)
        cached, plain = Heads(65536), Heads(65536)
        for heads in (cached, plain):
            heads.read(b"\x40\x01a\x01b")
        pool: list[bytes] = []
        for _ in range(200):
            if pool and chance.random() < 0.8:
                block = chance.choice(pool)
            else:
                parts = [chance.choice(plain_pieces) for _ in range(chance.randrange(1, 8))]
                if chance.random() < 0.3:
                    parts.append(b"\x40\x01" + bytes([chance.randrange(97, 123)]) + b"\x01v")
                if chance.random() < 0.1:
                    parts.append(bytes([0x80 | chance.randrange(58, 75)]))
                if chance.random() < 0.1:
                    parts.insert(0, chance.choice([b"\x20", b"\x3f\x45", b"\x3f\xe1\x1f"]))
                block = b"".join(parts)
                pool.append(block)
            hits += block in cached.known
            mine, other = understood(cached, block, True), understood(plain, block, False)
            assert mine == other, (seed, block.hex())
            if isinstance(mine, str):
                break
    assert hits > 500


def test_the_cache_is_bounded_and_dies_with_the_table() -> None:
    heads = Heads(65536)
    for value in range(50):
        heads.read(b"\x82\x00\x01a\x02%02d" % value)
    assert len(heads.known) == MAX_BLOCKS
    heads.read(b"\x00\x01a\x7f\xff\x03" + b"v" * (127 + 511))
    heads.read(b"\x82" + b"\x90" * (MAX_FIELDS + 1))
    assert all(
        len(block) <= MAX_BLOCK and len(heads.known[block].fields) <= MAX_FIELDS for block in heads.known
    )
    heads.read(b"\x40\x01a\x01b")
    assert not heads.known


# ------------------------------------------------------------------------------------ the encoder


def test_credentials_are_never_indexed() -> None:
    assert blocks.encode([(b"set-cookie", b"a=b")])[0] & 0xF0 == 0x10
    assert blocks.encode([(b"x-plain", b"a=b")])[0] & 0xF0 == 0x00


def test_a_response_drops_what_is_about_a_connection() -> None:
    block = blocks.response(
        200, [(b"Connection", b"close"), (b"Content-Type", b"text/html"), (b"transfer-encoding", b"x")]
    )
    assert hpack.Decoder().decode(block.data, raw=True) == [
        (b":status", b"200"),
        (b"content-type", b"text/html"),
    ]


@pytest.mark.parametrize(
    "bad", [(b"a b", b"1"), (b"", b"1"), (b":status", b"1"), (b"a", b"1\r\n2"), (b"a", b"\0")]
)
def test_a_response_refuses_what_cannot_be_sent(bad: tuple[bytes, bytes]) -> None:
    with pytest.raises(BadResponse):
        blocks.response(200, [bad])
    with pytest.raises(BadResponse):
        blocks.trailers([bad])


@pytest.mark.parametrize("status", [0, 99, 101, 1000])
def test_a_response_refuses_a_status_that_is_none(status: int) -> None:
    with pytest.raises(BadResponse):
        blocks.response(status)


def test_a_large_block_takes_several_frames() -> None:
    from http2_rig import CONTINUATION, END_HEADERS, END_STREAM, HEADERS, frames_of

    block = Block(blocks.encode([(b"x", b"v" * 40000)]))
    assert block.prefix == b""
    found = frames_of(block.frames(3, True))
    assert [one.kind for one in found] == [HEADERS, CONTINUATION, CONTINUATION]
    assert [one.flags for one in found] == [END_STREAM, 0, END_HEADERS]
    assert b"".join(one.payload for one in found) == block.data
