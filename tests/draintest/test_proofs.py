"""The table of proofs names only what exists, and misses nothing that is meaningful now."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs"))
proofs = pytest.importorskip("proofs")


@pytest.fixture(scope="module")
def lines():
    return list(proofs.table())


def test_every_invariant_and_every_fault_has_a_row(lines):
    names = {line.split("**")[1] for line in lines if line.startswith("| **")}
    assert names == {f"I{number}" for number in range(1, 31)} | {f"F{number}" for number in range(1, 49)}


def test_nothing_meaningful_is_open(lines):
    assert not [line for line in lines if proofs.OPEN in line]


def test_each_number_is_a_test_of_the_list(lines):
    listed = {line.split('"')[1] for line in lines if line.startswith("- <a id")}
    named = {part.split('"')[0] for line in lines for part in line.split('href="#')[1:]}
    assert named == listed and len(listed) > 30
