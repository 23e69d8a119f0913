"""Random programs over submit, cancel, map, execute, kills and shutdown, against what each must come to."""

import contextlib
import os
import signal
from concurrent.futures import CancelledError

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.pool import rows
from tests.pool.rows import call, shared_counts
from XME.ArrayOperator import Array
from XME.errors import WorkerDied
from XME.Executor import Executor

PLACES = 400

steps = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(1, 30)),
        st.tuples(st.just("cancel"), st.integers(0, 29)),
        st.tuples(st.just("map"), st.integers(0, 40), st.sampled_from([None, 1, 4])),
        st.tuples(st.just("drop map"), st.integers(1, 20), st.integers(0, 3)),
        st.tuples(st.just("execute"), st.integers(1, 40), st.integers(0, 2)),
        st.tuples(st.just("kill"), st.integers(0, 3)),
        st.tuples(st.just("die"), st.integers(0, 1)),
    ),
    max_size=12,
)


class Run:
    """A program under way: every row has a place of its own in the counts, and what it may come to is noted."""

    def __init__(self, executor):
        self.executor = executor
        self.counts = shared_counts(PLACES)
        self.used = 0
        self.futures = {}
        self.cancelled = set()
        self.most = {}

    def places(self, count, most=1):
        """Take places that no row has had yet."""
        found = range(self.used, min(self.used + count, PLACES))
        self.used = found.stop
        self.most.update(dict.fromkeys(found, most))
        return found

    def submit(self, count):
        for place in self.places(count):
            self.futures[place] = self.executor.submit(rows.count_row, place, self.counts)

    def cancel(self, which):
        if self.futures:
            place = list(self.futures)[-1 - which % len(self.futures)]
            if self.futures[place].cancel():
                self.cancelled.add(place)

    def map(self, count, chunksize):
        places = self.places(count)
        results = self.executor.map(rows.count_row, places, [self.counts] * len(places), chunksize=chunksize)
        # Only a kill of ours may spoil it.
        with contextlib.suppress(WorkerDied):
            assert list(results) == [10 * place for place in places]

    def drop_map(self, count, taken):
        places = self.places(count)
        results = self.executor.map(rows.count_row, places, [self.counts] * len(places))
        try:
            for place in list(places)[:taken]:
                assert next(results) == 10 * place
        except WorkerDied:
            return

    def execute(self, count, retries):
        places = self.places(count, 1 + retries)
        if not places:
            return
        found = self.outcomes(Array(places), retries)
        assert found == {k: 10 * place for k, place in enumerate(places)}

    def outcomes(self, places, retries):
        """Run a call; the one row that a death may have failed is taken to be right."""
        try:
            return dict(enumerate(call(self.executor, rows.count_row, places, self.counts, retries=retries)))
        except WorkerDied as error:
            return dict(sorted({**error.results, error.row: 10 * places.row(error.row)}.items()))

    def kill(self, which):
        engine = self.executor._engine
        pids = [] if engine is None else [member.process.pid for member in list(engine.crew.members.values())]
        if pids:
            # It may have died already, of another row.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[which % len(pids)], signal.SIGKILL)

    def die(self, retries):
        for place in self.places(1, 1 + retries):
            with contextlib.suppress(WorkerDied):
                call(self.executor, rows.dies_on, Array([place]), place, "exit 3", self.counts, 1, retries=retries)
                assert retries

    def check(self):
        """After the shutdown: futures have come to what they may, and no row has run too often."""
        for place, future in self.futures.items():
            assert future.done()
            try:
                assert future.result(0) == 10 * place
                assert self.counts[place] == 1
            except CancelledError:
                assert place in self.cancelled
                assert self.counts[place] == 0
            except WorkerDied:
                assert self.counts[place] <= 1
        assert self.cancelled == {place for place, future in self.futures.items() if future.cancelled()}
        assert all(self.counts[place] <= most for place, most in self.most.items()), self.counts.tolist()


def run_program(program):
    with Executor(2, start_method="fork") as executor:
        run = Run(executor)
        for what, *arguments in program:
            getattr(run, what.replace(" ", "_"))(*arguments)
    run.check()


common = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


@pytest.mark.long
@settings(max_examples=20, **common)
@given(steps)
def test_random_programs(program):
    run_program(program)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=600, **common)
@given(steps)
def test_many_random_programs(program):
    run_program(program)
