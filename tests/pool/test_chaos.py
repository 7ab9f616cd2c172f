"""The chaos finds nothing in the pool, and it finds each of the broken pools that are kept in ``pool_mutants``.

``CHAOS_STEPS`` and ``CHAOS_SEEDS`` make it longer.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest
from chaos import SEEDS, STEPS, Chaos

from twisted_rr.compiled import loaded
from twisted_rr.errors import RRError

KINDS = {"single": False, "mux": True}
MUTANTS = sorted(path.stem for path in Path(__file__).parent.glob("pool_mutants/*.py"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(int(os.environ.get("CHAOS_SEEDS", SEEDS))))
def test_no_call_is_lost_or_answered_twice(seed, kind):
    steps = int(os.environ.get("CHAOS_STEPS", STEPS))
    chaos = Chaos(seed, KINDS[kind])
    chaos.run(steps)
    assert chaos.answered > steps / 50, "a run that answers next to nothing proves nothing"


@pytest.mark.skipif(
    bool(loaded(["twisted_rr.pool.worker"])), reason="compiled classes cannot be broken at run time"
)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_pool_is_found_within_the_steps_that_are_always_run(mutant, monkeypatch):
    importlib.import_module(f"pool_mutants.{mutant}").apply(monkeypatch)
    for seed in range(SEEDS):
        for mux in KINDS.values():
            try:
                Chaos(seed, mux).run(STEPS)
            except (AssertionError, RRError) as found:
                print(f"{mutant}: seed {seed}, {'mux' if mux else 'single'}: {found}")
                return
    pytest.fail(f"{mutant} was not found")
