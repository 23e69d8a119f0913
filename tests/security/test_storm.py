"""The kill storm of each lock type as a test, and that it can fail."""

import json
import subprocess
import sys

import pytest

from tests.helpers import ROOT

pytestmark = [pytest.mark.storm, pytest.mark.timeout(300)]


def storm(*options, timeout_s=250):
    command = [sys.executable, "-m", "benchmarks.storm", "security", *map(str, options)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s)


def test_no_kill_breaks_a_lock_of_any_type(tmp_path):
    done = storm("--kills", 150, "--seed", 7, "--limit-ms", 2000, "--json", tmp_path / "storm.json")
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "storm.json").read_text())["types"]
    assert [result["type"] for result in results] == ["MUTEX", "AUTHORISATION", "READWRITE", "SPIN"]
    assert all(result["kills"] >= 150 and not result["violations"] for result in results)


def test_the_storm_finds_a_reader_that_does_not_say_so():
    done = storm("--type", "READWRITE", "--kills", 500, "--seed", 2, "--fault", "flag")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "while a living process was reading" in done.stdout
