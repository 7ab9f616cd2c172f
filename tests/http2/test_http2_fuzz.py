"""Mutated frames: no exception, well formed answers, and the same whatever the chunks. And two ends that do anything at
any moment, judged after each step.

RR_FUZZ_HTTP2 is for how many seconds it goes on, half of them for each (1), RR_FUZZ_SEED the first seed (1). What fails
names its seed, or its steps.
"""

from __future__ import annotations

import os
import random
import time

from http2_fuzz import Outcome, run, stream_of
from http2_machine import Http2
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

SECONDS = float(os.environ.get("RR_FUZZ_HTTP2", "1"))
SEED = int(os.environ.get("RR_FUZZ_SEED", "1"))


def same(one: Outcome, other: Outcome) -> bool:
    """Whether both are, but for requests that were taken back before they could be begun."""
    return one.without_unbegun(other) == other.without_unbegun(one)


def test_any_chunking_gives_the_same_events() -> None:
    end = time.monotonic() + SECONDS / 2
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


def test_whatever_both_ends_do_a_session_keeps_the_rules() -> None:
    end = time.monotonic() + SECONDS / 2
    seed = SEED
    once = settings(
        max_examples=25, stateful_step_count=50, deadline=None, database=None, phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    while seed == SEED or time.monotonic() < end:
        run_state_machine_as_test(seeded(seed)(Http2), settings=once)
        seed += 1
