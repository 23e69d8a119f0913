"""explore_lock: what fails is run twice before anything else is done with it."""

import os
import threading

import pytest

from tests.testing import locks
from XME.errors import LockTestFailed
from XME.testing import LockSpec, Strategy, _broken, _plan, _steps, explore_lock

# None of these locks hangs; a machine that stands still for half a second is no lost wake-up.
SOON = {"stuck_s": 10.0, "recover_s": 0.4}
DICE = [Strategy.pct(), Strategy.random(), Strategy.hypothesis()]


@pytest.fixture
def runs(monkeypatch):
    """The plan of every run, and whether it failed."""
    seen = []
    run = _steps.Explorer.run

    def watched(self, plan, chooser=None):
        ran = run(self, plan, chooser)
        seen.append((ran.steps.as_plan(), bool(ran.failed)))
        return ran

    monkeypatch.setattr(_steps.Explorer, "run", watched)
    return seen


@pytest.mark.long
@pytest.mark.parametrize("strategy", DICE, ids=lambda strategy: strategy.name)
def test_what_does_not_go_the_same_way_twice_is_reported_as_it_was_found_and_not_shrunk(strategy, runs):
    report = explore_lock(locks.Moody, LockSpec.mutex(**SOON), strategy=strategy, runs=200, start_method="fork")

    assert report.broke("MutualExclusion"), str(report)
    assert report.uncontrolled
    first = [failed for _, failed in runs].index(True)
    assert len(runs) == first + 3
    assert f"first plan: {runs[first][0]}" in str(report)
    assert "not shrunk" in str(report)


@pytest.mark.parametrize("strategy", [Strategy.exhaustive(1), Strategy.pct()], ids=lambda strategy: strategy.name)
def test_what_does_is_run_twice_before_it_is_shrunk(strategy, runs):
    report = explore_lock(
        _broken.CheckThenSet, LockSpec.mutex(**SOON), strategy=strategy, runs=150, start_method="fork"
    )

    assert not report.uncontrolled
    first = [failed for _, failed in runs].index(True)
    assert runs[first + 1 : first + 3] == [runs[first]] * 2
    assert "smallest plan: 2 workers (w0: take; w1: take), 1 preemption, 0 kills" in str(report)


def test_a_worker_that_ends_by_itself_once_is_no_pass(tmp_path):
    once = tmp_path / "once"

    class Ends(_broken.Kernel):
        def acquire(self, timeout_s):
            if timeout_s == 0 and not once.exists():
                once.touch()
                os._exit(3)
            return super().acquire(timeout_s)

    with pytest.raises(LockTestFailed, match="ended by itself in acquire, exit code 3"):
        explore_lock(Ends, LockSpec.mutex(**SOON), strategy=Strategy.hypothesis(), runs=20, start_method="fork")


@pytest.mark.long
def test_as_many_rounds_as_are_asked_for_fit_into_the_history():
    spec = LockSpec.mutex(between="threads", **SOON)
    options = {"runs": 1, "workers": 1, "rounds": 400, "start_method": "fork"}
    explore_lock(threading.Lock, spec, strategy=Strategy.pct(), **options).raise_if_failed()


# -- what Hypothesis draws ---------------------------------------------------------------------------------------------


def drawn(make_lock, spec, seen, **options):
    explore_lock(make_lock, spec, strategy=Strategy.hypothesis(), start_method="fork", **options)
    # The first is where it begins.
    plans = [plan for plan, _ in seen[1:]]
    return {len(plan.rounds) for plan in plans}, {kind for plan in plans for rounds in plan.rounds for kind in rounds}


@pytest.mark.long
def test_two_to_four_take_it_and_try_and_wait_with_a_limit(runs):
    assert drawn(_broken.Kernel, LockSpec.mutex(**SOON), runs, runs=40) == ({2, 3, 4}, {"take", "try", "wait"})


@pytest.mark.long
def test_as_many_as_are_asked_for_and_nothing_that_the_lock_cannot(runs):
    spec = LockSpec.mutex(between="threads", **SOON)
    assert drawn(locks.told_how, spec, runs, runs=20, workers=3) == ({2, 3}, {"take"})


def test_readers_do_all_of_it_too():
    assert set(_plan.kinds_for(LockSpec.reader_writer(), tries=True, waits=True)) == set(_plan.ROUNDS)
    assert _plan.kinds_for(LockSpec.reader_writer(), tries=False, waits=False) == ["take", "read"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("make_lock", "needs"),
    [
        (locks.TryLies, "try"), (locks.WaitLies, "wait"),
        pytest.param(locks.ThirdComesIn, "3 workers", marks=pytest.mark.long),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_only_some_of_them_meet_is_found_and_made_small(make_lock, needs):
    report = explore_lock(make_lock, LockSpec.mutex(**SOON), strategy=Strategy.hypothesis(), start_method="fork")

    assert report.broke("MutualExclusion"), str(report)
    assert needs in report.findings[0].plan
