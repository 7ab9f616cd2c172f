"""Heads that are not complete, or too large: what can be refused before the empty line has come.

So that a client which speaks something else hears so at once, and one that sends without end is stopped. Whatever
is said here of the first bytes, a whole head that begins with them gets the same status from `head`.
"""

from __future__ import annotations

from twisted_rr.http1.grammar import HEAD, is_field_value
from twisted_rr.http1.head import MAX_METHOD, HeaderBlock, parse_request_line, take_line
from twisted_rr.http1.refusal import Refused
from twisted_rr.http1.settings import SessionSettings


def partial_fault(data: bytes, line_end: int, settings: SessionSettings) -> Refused | None:
    """Why *data*, the beginning of a head, is refused, None while it may become a valid one.

    *line_end* is where its first CRLF is, -1 for nowhere; *data* may also be a whole head beyond the limits.
    """
    if line_end > settings.max_line or (line_end < 0 and len(data) > settings.max_line + 1):
        return _overlong(data[: settings.max_line + 1], settings.max_fields)
    if line_end >= 0 and len(data) - line_end - 2 > settings.max_header_bytes + 1:
        # What lies beyond the limit is not looked at, lest the verdict depend on how much of it has come.
        visible = data[: line_end + 2 + settings.max_header_bytes + 1]
        return fault_of(visible, settings.max_fields) or Refused(431, "too many bytes of header fields")
    if has_stray(data):
        return fault_of(data, settings.max_fields)
    return fault_of(data[: line_end + 2], settings.max_fields) if line_end > 0 else None


def has_stray(data: bytes) -> bool:
    """Whether *data* holds a byte that no head has, or a CR or LF that is not part of a CRLF, as far as one can see."""
    ends = data.count(b"\r\n")
    return data.count(b"\n") != ends or data[:-1].count(b"\r") != ends or bool(data.translate(None, HEAD))


def _overlong(start: bytes, max_fields: int) -> Refused:
    """Why a request line beyond the limit is refused (RFC 9112 section 3)."""
    fault = fault_of(start, max_fields) if has_stray(start) else None
    if fault is not None:
        return fault
    if 0 < start.find(b" ") <= MAX_METHOD:
        return Refused(414, "a request line longer than allowed")
    return Refused(501, "a method longer than any known one")


def fault_of(head: bytes, max_fields: int) -> Refused | None:
    """The first fault in the beginning of a head, None when there is none so far.

    Only for heads that are known to be wrong, or never get complete. A whole one is judged by `parse_request_line`
    and `parse_block`; the status here is bound to be the same, so that it does not depend on how bytes arrive.
    """
    lines = head.removesuffix(b"\r").split(b"\r\n")
    last = lines.pop()
    if is_field_value(last):
        last = b""  # the rest of it may still come
    try:
        if lines or last:
            parse_request_line(lines[0] if lines else last)
        fields = lines[1:] + [last] if lines and last else lines[1:]
        probe = HeaderBlock()
        for line in fields[:max_fields]:
            take_line(probe, line)
    except Refused as refused:
        return refused
    return Refused(431, "too many header fields") if len(fields) > max_fields else None
