"""The overwriting storm judges names and bytes of shared memory, and can fail."""

import subprocess
import sys

import pytest

from benchmarks.storm import overwrite
from tests.helpers import ROOT

FLAT = [(9, 1_100_000), (9, 1_150_000), (9, 1_140_000), (12, 1_200_000)]


def test_what_is_flat_is_right():
    assert overwrite.judge("values", FLAT, FLAT[0]) == []
    # Two arrays more than at first: one that is made, and one that a dead writer left.
    assert overwrite.judge("arrays", [*FLAT, (11, 3_300_000)], FLAT[0]) == []


@pytest.mark.long
@pytest.mark.parametrize("kind", ["values", "children", "arrays"])
def test_names_and_bytes_that_grow_are_wrong(kind):
    for more, says in (((40, 1_100_000), "9 names became 40"), ((9, 9_000_000), "1,140,000 bytes became 9,000,000")):
        (said,) = overwrite.judge(kind, [*FLAT, more], FLAT[0])
        assert says in said
        assert len(overwrite.judge(kind, FLAT, more)) == 1


def storm(*options):
    command = [sys.executable, "-m", "benchmarks.storm", "overwrite", "--values", "0", "--kill-every", "0.3", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)


@pytest.mark.storm
@pytest.mark.timeout(300)
def test_overwriting_is_flat():
    done = storm("--children", "300", "--arrays", "1000")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.storm
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("fault", "says"), [("leak", "names became"), ("swell", "bytes became")])
def test_the_storm_finds_a_planted_fault(fault, says):
    done = storm("--children", "50", "--arrays", "400", "--fault", fault)
    assert done.returncode == 1, done.stdout + done.stderr
    assert says in done.stdout
