"""The character sets and small grammars of RFC 9110 and RFC 9112: tokens, field values, authorities, lists.

Bytes in, a verdict out; what a violation means for the connection is decided elsewhere. No regular expressions:
``translate`` with a set of allowed bytes is faster, and linear whatever the input.
"""

from __future__ import annotations

from socket import AF_INET6, inet_pton
from typing import Final

DIGITS: Final = b"0123456789"
HEX: Final = b"0123456789abcdefABCDEF"
ALPHANUM: Final = DIGITS + b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#: RFC 9110 section 5.6.2
TOKEN: Final = ALPHANUM + b"!#$%&'*+-.^_`|~"
#: RFC 9110 section 5.5: visible ASCII, obs-text, space and tab
FIELD: Final = b"\t" + bytes(range(32, 127)) + bytes(range(128, 256))
#: What a target may hold: visible ASCII without "#". A fragment is never sent (RFC 9110 section 7.1), and servers
#: that disagree on whether it belongs to the path are fooled with it. The rest of RFC 3986's exclusions
#: ("|", "{", quotes ...) is let through, since browsers send it in queries.
TARGET: Final = bytes(byte for byte in range(33, 127) if byte != 35)
#: RFC 3986 reg-name, percent signs are looked at separately
REG_NAME: Final = ALPHANUM + b"-._~!$&'()*+,;=%"
#: All bytes a well-formed head consists of
HEAD: Final = FIELD + b"\r\n"


def is_token(text: bytes) -> bool:
    """Whether *text* is a token: a method, a field name, a connection option."""
    return bool(text) and not text.translate(None, TOKEN)


def is_field_value(text: bytes) -> bool:
    """Whether *text* may be the value of a field, on the way in and on the way out."""
    return not text.translate(None, FIELD)


def is_number(text: bytes) -> bool:
    """Whether *text* is 1*DIGIT, in ASCII."""
    return bool(text) and not text.translate(None, DIGITS)


def is_authority(text: bytes) -> bool:
    """Whether *text* is ``uri-host [ ":" port ]`` (RFC 9110 section 7.2), which has no userinfo and may be empty."""
    host, port = _split_port(text)
    if port is None or port > 65535:
        return False
    if host[:1] == b"[":
        return _is_ip_literal(host)
    return not host.translate(None, REG_NAME) and _percent_ok(host)


def port_of(text: bytes) -> int:
    """The port of an authority, -1 when there is none or it is empty."""
    port = _split_port(text)[1]
    return -1 if port is None else port


def _split_port(text: bytes) -> tuple[bytes, int | None]:
    """Host and port; -1 for no port, None for one that is no number of at most five digits."""
    colon = text.find(b":", text.rfind(b"]") + 1)
    if colon < 0:
        return text, -1
    port = text[colon + 1 :]
    if not port:
        return text[:colon], -1
    return text[:colon], int(port) if is_number(port) and len(port) <= 5 else None


def _is_ip_literal(host: bytes) -> bool:
    """``[IPv6]``; zone ids and IPvFuture have no use in a Host and are refused."""
    if host[-1:] != b"]" or host.translate(None, HEX + b":.[]"):
        return False
    try:
        inet_pton(AF_INET6, host[1:-1].decode("ascii"))
    except OSError:
        return False
    return True


def _percent_ok(text: bytes) -> bool:
    """Whether each percent sign is followed by two hex digits."""
    return all(len(part) >= 2 and not part[:2].translate(None, HEX) for part in text.split(b"%")[1:])


def members(value: bytes) -> list[bytes]:
    """The elements of a comma-separated list in lower case, empty ones ignored (RFC 9110 section 5.6.1)."""
    found = [member.strip(b" \t") for member in value.lower().split(b",")]
    return [member for member in found if member]


def is_chunk_extension(text: bytes) -> bool:
    """Whether *text* is a well-formed chunk-ext, from its first ``;`` or blank on (RFC 9112 section 7.1.1)."""
    position = _skip_blanks(text, 0)
    while position < len(text):
        if text[position] != 0x3B:
            return False
        position = _skip_token(text, _skip_blanks(text, position + 1))
        if position < 0:
            return False
        after = _skip_blanks(text, position)
        if after < len(text) and text[after] == 0x3D:
            after = _skip_blanks(text, after + 1)
            position = (
                _skip_quoted(text, after) if text[after : after + 1] == b'"' else _skip_token(text, after)
            )
            if position < 0:
                return False
            after = _skip_blanks(text, position)
        if after == len(text) and after != position:
            return False  # blanks at the end belong to nothing
        position = after
    return bool(text.strip(b" \t"))


def _skip_blanks(text: bytes, position: int) -> int:
    while position < len(text) and text[position] in b" \t":
        position += 1
    return position


def _skip_token(text: bytes, position: int) -> int:
    """The end of the token at *position*, -1 when there is none."""
    end = position
    while end < len(text) and text[end] in TOKEN:
        end += 1
    return end if end > position else -1


def _skip_quoted(text: bytes, position: int) -> int:
    """The end of the quoted-string at *position*, -1 when it is malformed."""
    position += 1
    while position < len(text):
        byte = text[position]
        if byte == 0x22:
            return position + 1
        position += 2 if byte == 0x5C else 1
        if byte not in FIELD:
            return -1
    return -1
