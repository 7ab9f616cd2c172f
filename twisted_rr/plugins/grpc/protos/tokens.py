"""The words of a .proto file, each with its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from twisted_rr.errors import RRError

WORD: Final = "word"
NUMBER: Final = "number"
TEXT: Final = "text"
SIGN: Final = "sign"
END: Final = "end"

_TOKEN: Final = re.compile(
    r"""
      (?P<space>[\ \t\r\n\f\v]+ | //[^\n]* | /\*.*?\*/)
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<number>0[xX][0-9A-Fa-f]+ | (?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?)
    | (?P<text>"(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*')
    | (?P<sign>[;={}\[\]()<>,.:+-] | /(?![*/]))
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(
    rb"\\(?:([0-7]{1,3})|[xX]([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL
)
_NAMED: Final = {
    b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v",
}  # fmt: skip


class ProtoError(RRError):
    """A .proto file that cannot be used: the file's fault.

    :ivar where: ``file:line:column``, or the file's name alone.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)
        self.where = where
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


class Token:
    """One word. *at* is its offset in the file."""

    __slots__ = ("at", "kind", "text")

    def __init__(self, kind: str, text: str, at: int) -> None:
        self.kind = kind
        self.text = text
        self.at = at


def place(path: str, source: str, at: int) -> str:
    """``file:line:column`` of an offset, both from 1."""
    line = source.count("\n", 0, at) + 1
    return f"{path}:{line}:{at - source.rfind(chr(10), 0, at)}"


def tokens(path: str, source: str) -> Iterator[Token]:
    """The words of *source*, then one of kind END.

    :raises ProtoError: a character that begins no word, a text or comment without an end.
    """
    at = 0
    while at < len(source):
        found = _TOKEN.match(source, at)
        if found is None:
            raise ProtoError(place(path, source, at), _why(source, at))
        kind = found.lastgroup
        assert kind is not None
        if kind != "space":
            yield Token(kind, found.group(), at)
        at = found.end()
    yield Token(END, "", at)


def _why(source: str, at: int) -> str:
    if source.startswith("/*", at):
        return "a comment without an end"
    if source[at] in "\"'":
        return "a text without an end"
    return f"unexpected character {source[at]!r}"


def unquote(text: str) -> bytes:
    """What a quoted text says."""
    return _ESCAPE.sub(_unescaped, text[1:-1].encode("utf-8", "surrogateescape"))


def _unescaped(found: re.Match[bytes]) -> bytes:
    octal, hexadecimal, short, long, other = found.groups()
    if octal is not None:
        return bytes((int(octal, 8) & 0xFF,))
    if hexadecimal is not None:
        return bytes((int(hexadecimal, 16),))
    if short is not None or long is not None:
        code = int(short or long, 16)
        return chr(code).encode("utf-8", "replace") if code < 0x110000 else b"?"
    return _NAMED.get(other, other)
