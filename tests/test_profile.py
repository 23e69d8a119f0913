"""benchmarks.profile: what it says of an operation is what the operation does."""

import json
import subprocess
import sys

import pytest

from benchmarks.profile.look import look
from tests.helpers import ROOT


def operation():
    return inner(abs(-3), sorted((2, 1)))


def inner(number, values):
    return [abs(value) + number for value in values]


def test_instructions_and_calls_are_those_of_the_operation():
    one, again = look(operation, 50), look(operation, 200)

    assert one.instructions == again.instructions
    assert set(one.instructions) >= {"operation", "inner"}
    assert {name: count for name, (count, _) in one.calls.items()} == {"abs": 3, "sorted": 1}
    assert one.time_us > 0


@pytest.mark.long
def test_the_command_names_what_an_operation_consists_of(tmp_path):
    command = [sys.executable, "-m", "benchmarks.profile", "--only", "mutex_pair", "--json", tmp_path / "found.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)

    assert done.returncode == 0, done.stderr
    assert "RobustMutex.acquire" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())["operations"]["mutex_pair"]
    assert found["calls"]["Semaphore.acquire"][0] == 1
