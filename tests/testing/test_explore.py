"""explore_lock: what fails is run twice before anything else is done with it."""

import pytest

from tests.testing import locks
from XME.testing import LockSpec, Strategy, _broken, _steps, explore_lock

SOON = {"stuck_s": 0.4, "recover_s": 0.4}
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
