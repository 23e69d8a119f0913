"""The kill storm as a test, and that it can fail."""

import json
import subprocess
import sys

import pytest

from tests.helpers import ROOT

pytestmark = [pytest.mark.storm, pytest.mark.timeout(300)]


def storm(*options, timeout_s=250):
    command = [sys.executable, "-m", "benchmarks.storm", "mutex", *map(str, options)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s)


def test_no_kill_breaks_the_mutex(tmp_path):
    done = storm("--kills", 200, "--seed", 7, "--limit-ms", 2000, "--json", tmp_path / "storm.json")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "storm.json").read_text())
    assert result["kills"] >= 200
    assert result["violations"] == []


def test_the_storm_finds_a_planted_fault():
    done = storm("--kills", 5000, "--seed", 2, "--fault", "epoch")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "nobody could take the mutex" in done.stdout
