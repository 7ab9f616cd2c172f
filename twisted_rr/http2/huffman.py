"""The Huffman code of HPACK (RFC 7541 section 5.2), decoding only: constant blocks gain nothing from encoding it."""

from __future__ import annotations

from typing import Final

from twisted_rr.http2.codes import COMPRESSION_ERROR, ConnectionFault
from twisted_rr.http2.tables import CODE_LENGTHS

EOS: Final = 256
#: The longest padding (RFC 7541 section 5.2): less than an octet, of ones.
MAX_PADDING: Final = 7


def _build_tree() -> list[list[int]]:
    """Nodes as [next at 0, next at 1]; the root is 0, and a negative next is a symbol, as ``~symbol``."""
    nodes = [[0, 0]]
    code = 0
    length = 0
    for symbol in sorted(range(EOS + 1), key=lambda symbol: (CODE_LENGTHS[symbol], symbol)):
        code <<= CODE_LENGTHS[symbol] - length
        length = CODE_LENGTHS[symbol]
        node = 0
        for bit in range(length - 1, 0, -1):
            side = (code >> bit) & 1
            if not nodes[node][side]:
                nodes.append([0, 0])
                nodes[node][side] = len(nodes) - 1
            node = nodes[node][side]
        nodes[node][code & 1] = ~symbol
        code += 1
    return nodes


_TREE: Final = _build_tree()
#: What follows from a node and an octet, ``node << 8 | octet``: the next node and the symbols complete by then.
#: Filled as needed: all of it would be 65,000 entries. It holds nothing of what was decoded.
_STEPS: Final[dict[int, tuple[int, bytes]]] = {}


def _ends() -> frozenset[int]:
    """The nodes at which a string may end: the root, and those reached by padding."""
    nodes = [0]
    for _ in range(MAX_PADDING):
        nodes.append(_TREE[nodes[-1]][1])
    return frozenset(nodes)


_ENDS: Final = _ends()


def _step(key: int) -> tuple[int, bytes]:
    node = key >> 8
    symbols = bytearray()
    for bit in range(7, -1, -1):
        node = _TREE[node][(key >> bit) & 1]
        if node < 0:
            if ~node == EOS:
                raise ConnectionFault(COMPRESSION_ERROR, "EOS inside a Huffman string")
            symbols.append(~node)
            node = 0
    result = (node, bytes(symbols))
    _STEPS[key] = result
    return result


def decode(data: bytes) -> bytes:
    """The octets that *data* encodes.

    :raises ConnectionFault: EOS inside, or padding that is too long or not all ones.
    """
    node = 0
    pieces: list[bytes] = []
    for octet in data:
        step = _STEPS.get(node << 8 | octet)
        if step is None:
            step = _step(node << 8 | octet)
        node = step[0]
        pieces.append(step[1])
    if node not in _ENDS:
        raise ConnectionFault(COMPRESSION_ERROR, "bad padding of a Huffman string")
    return b"".join(pieces)
