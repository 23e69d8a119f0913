"""A worker is killed at every step of its own code: claims, rows, results, tags, letting go; only its row may fail."""

import os
import signal
import sys

import pytest

from tests.pool import rows
from tests.pool.rows import call, shared_counts
from XME.ArrayOperator import Array
from XME.errors import WorkerDied
from XME.Executor import Executor

ROWS = 12
FILES = ("worker.py", "runner.py", "table.py", "arena.py", "mutex.py")


def kill_at(step, path, steps):
    """Make the first worker count the lines of the pool's code that it runs, and die at one of them."""
    if not rows.first(path):
        return
    seen = 0

    def local(_frame, event, _arg):
        nonlocal seen
        if event == "line":
            seen += 1
            steps[0] = seen
            if seen == step:
                steps[1] = 1
                os.kill(os.getpid(), signal.SIGKILL)
        return local

    def tracer(frame, _event, _arg):
        name = frame.f_code.co_filename
        return local if os.path.basename(name) in FILES and "XME" in name else None

    sys.settrace(tracer)


def text_and_count(row, counts):
    counts[row] += 1
    # Numbers and objects take different ways home.
    return row * 10 if row % 2 else f"row {row}"


EXPECTED = {row: row * 10 if row % 2 else f"row {row}" for row in range(ROWS)}


def die_at(step, path, retries, chunksize=None):
    """Run a call in which one of two workers dies at a step; returns whether it got that far."""
    steps, counts = shared_counts(2), shared_counts(ROWS)
    arguments = (step, str(path), steps)
    with Executor(2, start_method="fork", initializer=kill_at, initargs=arguments) as executor:
        found = run(executor, counts, retries)

        assert found == EXPECTED, (step, found)
        assert max(counts) <= 1 + retries, (step, counts.tolist())
        # The step may come as late as here.
        assert call(executor, rows.square, Array(range(6)), retries=1) == (0, 1, 4, 9, 16, 25), step
    return bool(steps[1])


def run(executor, counts, retries):
    try:
        return dict(enumerate(call(executor, text_and_count, Array(range(ROWS)), counts, retries=retries)))
    except WorkerDied as error:
        right = not retries and error.exitcode == -signal.SIGKILL and counts[error.row] <= 1
        return {**error.results, error.row: EXPECTED[error.row] if right else error}


# The first worker alone runs all rows where it starts first; then a call has about so many steps.
MANY = 700


@pytest.mark.long
@pytest.mark.parametrize("retries", [0, 1])
def test_a_death_at_any_step(tmp_path, retries):
    """Every step would take minutes (see below): here a coarse comb, each time through other teeth."""
    reached = [die_at(step, tmp_path / f"{step}", retries) for step in range(3 + retries * 11, MANY, 53)]

    assert sum(reached) > 5


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("retries", [0, 1])
def test_a_death_at_every_step(tmp_path, retries):
    missed = 0
    for step in range(1, 3000):
        missed = 0 if die_at(step, tmp_path / f"{step}", retries) else missed + 1
        if missed > 20:
            break
    assert step > 100
