"""The arithmetic of credit (mux.md 4): what a frame costs, what a grant may be, when one is due.

Where the numbers are kept is flow.py's subject.
"""

from __future__ import annotations

from typing import Final

from twisted_rr.errors import FrameError

MAX_CREDIT: Final = 2**31 - 1


def cost(length: int, message: bool) -> int:
    """What a frame with *length* bytes of body costs; *message*: it is a whole message, or the last part of one.

    Not less than one byte for a message: without that nothing would bound how many empty ones are under way. Where
    many frames pass it is written ``length or 1``. Who took a message from us counts it by the same rule.
    """
    return length or 1 if message else length


def topped_up(credit: int, grant: int) -> int:
    """*credit* after the peer granted *grant* bytes.

    :raises FrameError: a grant of nothing, or a sum that does not fit in 31 bits.
    """
    if grant < 1 or credit + grant > MAX_CREDIT:
        raise FrameError(f"a grant of {grant} bytes on a credit of {credit}")
    return credit + grant


def threshold(window: int) -> int:
    """How many bytes a consumer takes before they are granted again: half a window.

    Less would cost a frame for every piece; more would let the sender run dry.
    """
    return window // 2
