"""The storm over guard, callers and writers of messages as a test, and that it can fail."""

import json
import subprocess
import sys

import pytest

from tests.helpers import ROOT

pytestmark = [pytest.mark.storm, pytest.mark.timeout(300)]


def storm(*options, timeout_s=250):
    command = [sys.executable, "-m", "benchmarks.storm", "guard", *map(str, options)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s)


def test_every_call_is_executed_failed_or_reported(tmp_path):
    done = storm("--minutes", 0.33, "--seed", 7, "--json", tmp_path / "storm.json")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "storm.json").read_text())
    assert result["kills"] > 50
    assert min(result["methods"] + result["functions"]) > 500
    assert min(result["failed"]) > 0
    assert result["violations"] == []


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("rerun", "functions or results out of order"),
        ("silent", "acknowledged"),
        ("nonumber", "methods out of order"),
        ("nofailure", "that raise acknowledged"),
        ("torn", "times messages of two updates"),
    ],
)
def test_the_storm_finds_a_planted_fault(fault, says):
    done = storm("--minutes", 0.5, "--seed", 3, "--fault", fault)
    assert done.returncode == 1, done.stdout + done.stderr

    assert says in done.stdout
