"""Makes foreign text harmless in a log: one line stays one line, and a terminal obeys nobody.

What a client or a worker says reaches the log in header values, paths, output lines and tracebacks.
"""

from __future__ import annotations

import re

MAX_LINE = 8192  # bytes, the ending not counted

# C0, DEL, C1; invisible and bidirectional controls; line and paragraph separators; halves of surrogate
# pairs; tag characters. Joiners (U+200C, U+200D) stay: scripts and emoji need them.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escaped(text: str) -> str:
    """*text* with every control character written out, as Python would: ``\\n``, ``\\x1b``, ``\\u202e``."""
    return _UNSAFE.sub(_as_python, text)


def escaped_json(line: str) -> str:
    """A line of JSON with what ``json.dumps`` leaves alone, yet a terminal may obey, in JSON's escapes."""
    return _UNSAFE.sub(_as_json, line)


def _as_python(found: re.Match[str]) -> str:
    character = found.group()
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _as_json(found: re.Match[str]) -> str:
    units = found.group().encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def capped(text: str, limit: int = MAX_LINE) -> str:
    """*text* of at most *limit* bytes in UTF-8, with a note of how much was cut."""
    if len(text) * 4 <= limit:
        return text
    size = len(text.encode("utf-8", "replace"))
    if size <= limit:
        return text
    note = f"... ({size} bytes)"
    return text[:limit].encode("utf-8", "replace")[: limit - len(note)].decode("utf-8", "ignore") + note


def text_of(value: object) -> str:
    """A field's value as text; what is no UTF-8 is written out, and a broken ``__str__`` does no harm."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray):
        return bytes(value[:MAX_LINE]).decode("utf-8", "backslashreplace")
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__} that has no text>"
