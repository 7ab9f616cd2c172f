"""Each invariant of the drain, on real servers under load: tried, and held."""

import asyncio
import os
import random

import pytest
from cells import GRPC, PLAIN, check, launch_of, outcome

from twisted_rr.draintest.campaign import _impossible, judge
from twisted_rr.draintest.run import start_up
from twisted_rr.draintest.verdicts import HOLDS

proves = pytest.mark.proves


def shown(*names: str, cell: str = PLAIN):
    """Cases of invariants that a run has to show."""
    return [pytest.param(name, cell, marks=proves(name), id=f"{name}-{cell}") for name in names]


@pytest.mark.parametrize(
    ("invariant", "cell"),
    [
        *shown(
            "I1", "I2", "I3", "I4", "I5", "I6", "I7", "I9", "I10", "I11", "I12", "I16", "I17", "I22", "I24"
        ),
        *shown("I28", "I29", "I30"),
        *shown("I3", "I4", "I5", "I6", "I16", "I18", "I19", "I28", cell=GRPC),
        *shown("I18", cell="F22:announce"),
        *shown("I18", cell="F23:announce"),
        *shown("I19", cell="F24:announce"),
        *shown(
            "I3",
            "I4",
            "I5",
            "I6",
            "I18",
            "I19",
            "I28",
            cell="tls+F22:announce+F23:announce+F24:announce",
        ),
        *shown("I1", "I5", "I6", cell="F26:announce"),
        *shown("I8", cell="F5:running"),
        *shown("I13", cell="F29:int:announce"),
        *shown("I15", cell="F29:finish"),
        *shown("I15", cell="F41:announce"),
        *shown("I15", cell="F45:announce"),
        *shown("I23", cell="F44:running"),
        *shown("I23", cell="F44:finish"),
        *shown("I25", cell="F35:finish"),
        *shown("I26", cell="F33:finish"),
        *shown("I26", cell="F34:finish"),
        *shown("I12", cell="F32:running"),
        *shown("I28", cell="F19:running"),
        *shown("I11", cell="F31:finish"),
    ],
)
def test_it_holds(request, invariant, cell):
    found = outcome(request, cell)
    check(found)
    verdict = found.verdicts[invariant]
    assert verdict.word == HOLDS, verdict.why


@proves("I14", "F28:start-up")
def test_term_at_any_moment_of_the_start(tmp_path):
    count = int(os.environ.get("RR_STARTS", "10"))
    dice = random.Random(28)
    offsets = [2.0 * (number + dice.random()) / count for number in range(count)]
    evidence = asyncio.run(start_up(launch_of(tmp_path), offsets, {}))
    verdict = judge(evidence).verdicts["I14"]
    assert verdict.word == HOLDS, verdict.why


@proves("I27")
def test_a_budget_that_does_not_fit_is_refused(tmp_path):
    code, text = asyncio.run(_impossible(launch_of(tmp_path)))
    assert code == 1 and "do not fit" in text
