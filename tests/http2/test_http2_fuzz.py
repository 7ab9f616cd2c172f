"""Mutated frames: no exception, well formed answers, and the same whatever the chunks.

RR_FUZZ_HTTP2 is for how many seconds it goes on (1), RR_FUZZ_SEED the first seed (1). What fails names its seed.
"""

from __future__ import annotations

import os
import random
import time

from http2_fuzz import Outcome, run, stream_of

SECONDS = float(os.environ.get("RR_FUZZ_HTTP2", "1"))
SEED = int(os.environ.get("RR_FUZZ_SEED", "1"))


def same(one: Outcome, other: Outcome) -> bool:
    """Whether both are, but for requests that were taken back before they could be begun."""
    return one.without_unbegun(other) == other.without_unbegun(one)


def test_any_chunking_gives_the_same_events() -> None:
    end = time.monotonic() + SECONDS
    seed = SEED
    closed = 0
    while seed < SEED + 300 or time.monotonic() < end:
        sent = stream_of(seed)
        chance = random.Random(seed)
        whole = run(sent)
        cut = run(sent, [chance.randrange(1, 60) for _ in range(50)])
        # After its GOAWAY a client is closed between two receives, and may have sent more.
        assert same(cut, whole) or cut.left, seed
        if seed % 20 == 0 and not whole.left:
            assert same(run(sent, [1]), whole), seed
        run(sent, [chance.randrange(1, 400) for _ in range(50)], flushing=True)
        closed += bool(whole.closing)
        seed += 1
    assert 0.1 < closed / (seed - SEED) < 0.95, "the streams are too broken, or too sound, to show anything"


def test_noise_is_survived() -> None:
    for seed in range(SEED, SEED + 200):
        chance = random.Random(seed)
        run(bytes(chance.randrange(256) for _ in range(chance.randrange(300))))
