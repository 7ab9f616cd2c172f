"""HPACK (RFC 7541), the decoding side: the dynamic table, and the heads that a connection sees again and again.

The sending side is in `blocks`: it uses no dynamic table.
"""

from __future__ import annotations

from typing import Final

from twisted_rr.http2 import huffman
from twisted_rr.http2.codes import COMPRESSION_ERROR, ConnectionFault
from twisted_rr.http2.fields import Field
from twisted_rr.http2.head import Head, understand
from twisted_rr.http2.tables import STATIC

#: The size of the dynamic table, which we leave at its default (RFC 9113 section 6.5.2).
TABLE_SIZE: Final = 4096
#: An integer may have so many octets after its prefix: 28 bits, more than any length or index that can be valid.
MAX_INTEGER: Final = 4

#: By index; there is no index 0.
_STATIC: Final = tuple(Field(name, value) for name, value in ((b"", b""), *STATIC))
_STATIC_COUNT: Final = len(STATIC)


def _fault(reason: str) -> ConnectionFault:
    return ConnectionFault(COMPRESSION_ERROR, reason)


class Decoder:
    """Decodes the header blocks of one connection, in order.

    :ivar oversized: whether the last block's fields were larger than *max_list*; those beyond it were left out.
    :ivar generation: changes with the table.
    """

    __slots__ = ("_data", "_limit", "_max_list", "_pos", "_size", "_table", "generation", "oversized")

    def __init__(self, max_list: int) -> None:
        """*max_list*: bytes that the fields of a block may have, each with 32 on top."""
        self._max_list = max_list
        self._table: list[Field] = []  # oldest first
        self._size = 0
        self._limit = TABLE_SIZE  # chosen by the client
        self._data = b""
        self._pos = 0
        self.generation = 0
        self.oversized = False

    def decode(self, block: bytes) -> list[Field]:
        """The fields of a whole *block*.

        :raises ConnectionFault: COMPRESSION_ERROR; the table is of no use any more.
        """
        self._data = block
        self._pos = 0
        self.oversized = False
        fields: list[Field] = []
        left = self._max_list
        end = len(block)
        table = self._table
        try:
            if block and block[0] & 0xE0 == 0x20:
                self._resize()
            while self._pos < end:
                octet = block[self._pos]
                if 0x80 < octet < 0xFF:  # a field of one octet, as nearly all that were sent before
                    self._pos += 1
                    octet &= 0x7F
                    field = _STATIC[octet] if octet <= _STATIC_COUNT else table[_STATIC_COUNT - octet]
                else:
                    field = self._field(octet)
                left -= field.size
                if left >= 0:
                    fields.append(field)
        except IndexError:
            raise _fault("a field is cut short, or is not in the table") from None
        self.oversized = left < 0
        return fields

    def _resize(self) -> None:
        """Size updates, which are allowed before the first field only (RFC 7541 section 4.2)."""
        while self._pos < len(self._data) and self._data[self._pos] & 0xE0 == 0x20:
            limit = self._integer(0x1F)
            if limit > TABLE_SIZE:
                raise _fault("a table size beyond the setting")
            self._limit = limit
            self._evict()
            self.generation += 1

    def _field(self, octet: int) -> Field:
        if octet & 0x80:
            return self._entry(self._integer(0x7F))
        if octet & 0x40:
            field = self._literal(0x3F)
            self._insert(field)
            return field
        if octet & 0x20:
            raise _fault("a table size update after a field")
        return self._literal(0x0F)

    def _integer(self, mask: int) -> int:
        """RFC 7541 section 5.1; *mask* is that of the prefix."""
        data = self._data
        value = data[self._pos] & mask
        self._pos += 1
        if value < mask:
            return value
        for shift in range(0, 7 * MAX_INTEGER, 7):
            octet = data[self._pos]
            self._pos += 1
            value += (octet & 0x7F) << shift
            if octet < 0x80:
                return value
        raise _fault("an integer is too long")

    def _string(self) -> bytes:
        first = self._data[self._pos]
        length = first & 0x7F
        if length < 0x7F:
            self._pos += 1
        else:
            length = self._integer(0x7F)
        start = self._pos
        self._pos = start + length
        if self._pos > len(self._data):
            raise _fault("a string beyond its header block")
        value = self._data[start : self._pos]
        return huffman.decode(value) if first & 0x80 else value

    def _entry(self, index: int) -> Field:
        if not index:
            raise _fault("index 0")
        return _STATIC[index] if index <= _STATIC_COUNT else self._table[_STATIC_COUNT - index]

    def _literal(self, mask: int) -> Field:
        index = self._integer(mask)
        name = self._entry(index).pair[0] if index else self._string()
        return Field(name, self._string())

    def _insert(self, field: Field) -> None:
        self.generation += 1
        self._table.append(field)
        self._size += field.size
        if self._size > self._limit:
            self._evict()

    def _evict(self) -> None:
        """Drop the oldest until the limit holds, even the one just inserted (RFC 7541 section 4.4)."""
        count = 0
        while self._size > self._limit:
            self._size -= self._table[count].size
            count += 1
        del self._table[:count]


#: A block up to this size, of so many fields, is remembered by its connection; so many of them.
MAX_BLOCK: Final = 512
MAX_FIELDS: Final = 50
MAX_BLOCKS: Final = 16


class Heads:
    """The decoder of a connection with a cache of whole blocks.

    A client whose fields are all in the table sends the same bytes again, and they mean the same as long as the
    table has not changed. The cache belongs to one connection: a shared one would tell by its speed what others send.

    :ivar known: the cache; a reader on the hot path looks here first and calls `read` after a miss.
    """

    __slots__ = ("_decoder", "_generation", "known")

    def __init__(self, max_list: int) -> None:
        self._decoder = Decoder(max_list)
        self._generation = 0
        self.known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """Decode and judge *block*.

        :raises ConnectionFault: COMPRESSION_ERROR.
        """
        known = self.known
        decoder = self._decoder
        head = understand(decoder.decode(block), decoder.oversized)
        if decoder.generation != self._generation:
            self._generation = decoder.generation
            known.clear()
        elif len(block) <= MAX_BLOCK and len(head.fields) <= MAX_FIELDS:
            if len(known) >= MAX_BLOCKS:
                del known[next(iter(known))]
            known[block] = head
        return head
