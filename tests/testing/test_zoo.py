"""Who tests the tester: every broken lock is caught by the checker that is named for it, and right ones pass."""

import pytest

from XME.testing import LockSpec, Strategy, _broken, check_lock, crash_sweep, explore_lock

# Far longer than any of these locks needs, and short enough to wait for what never comes.
SOON = {"stuck_s": 0.4, "recover_s": 0.4}
FAST = {"start_method": "fork", "workers": 3, "rounds": 30}

CAUGHT = {
    "NoLock": (LockSpec.mutex(**SOON), {"MutualExclusion", "Tripwire"}),
    "AnyoneReleases": (LockSpec.mutex(owner_only=True, **SOON), {"OwnerOnly"}),
    "LostWakeup": (LockSpec.mutex(**SOON), {"Progress"}),
    "EarlyTimeout": (LockSpec.mutex(**SOON), {"NoFalseRefusal"}),
    "WriterStarves": (LockSpec.reader_writer(prefer="phase_fair", **SOON), {"BoundedWait"}),
    "DepthForgets": (LockSpec.reentrant_mutex(3, **SOON), {"Reentrancy"}),
    "DiesLocked": (LockSpec.mutex(on_crash="recovers", **SOON), {"CrashRecovery"}),
    "PidReuseSteals": (LockSpec.mutex(on_crash="recovers", **SOON), {"CrashRecovery", "MutualExclusion"}),
    "TwoHeirs": (LockSpec.mutex(on_crash="recovers", **SOON), {"CrashRecovery"}),
    "Leaky": (LockSpec.mutex(**SOON), {"NoLeak"}),
}
# All of them have to be looked at to the end: two checkers are named.
TO_THE_END = {"NoLock", "PidReuseSteals"}


@pytest.mark.long
@pytest.mark.parametrize("name", CAUGHT)
def test_a_broken_lock_is_caught_by_the_checker_that_is_named_for_it(name):
    spec, checkers = CAUGHT[name]

    report = check_lock(getattr(_broken, name), spec, all_failures=name in TO_THE_END, **FAST)

    assert {checker for checker in checkers if report.broke(checker)} == checkers, str(report)


@pytest.mark.long
@pytest.mark.parametrize(
    "strategy", [Strategy.exhaustive(1), Strategy.pct(), Strategy.random(), Strategy.hypothesis()], ids=lambda s: s.name
)
def test_check_then_set_is_found_by_every_strategy_and_made_small(strategy):
    report = explore_lock(
        _broken.CheckThenSet, LockSpec.mutex(**SOON), strategy=strategy, runs=150, start_method="fork"
    )

    assert report.broke("MutualExclusion"), str(report)
    assert not report.uncontrolled
    assert "smallest plan: 2 workers (w0: take; w1: take), 1 preemption, 0 kills" in str(report)


def test_no_full_speed_run_is_needed_to_see_that_drills_alone_do_not_find_it():
    """It takes a preemption in the middle of two lines: that is what exploring is for."""
    report = explore_lock(
        _broken.CheckThenSet, LockSpec.mutex(**SOON), strategy=Strategy.exhaustive(0), start_method="fork"
    )

    assert report.ok
    assert report.runs == 1


@pytest.mark.long
def test_an_owner_that_is_written_late_is_found_by_a_kill_before_that_line():
    spec = LockSpec.mutex(on_crash="recovers", **SOON)

    assert check_lock(_broken.OwnerWrittenLate, spec, workers=2, rounds=5, start_method="fork").ok
    report = crash_sweep(_broken.OwnerWrittenLate, spec, phases=("acquire",), start_method="fork")

    assert report.broke("CrashRecovery")
    assert "_set_flag" in report.violations[0].run


def test_the_zoo_has_twelve_and_each_has_its_test():
    correct = {"Shared", "Owned", "Kernel"}
    classes = [thing for thing in vars(_broken).values() if isinstance(thing, type)]
    zoo = {cls.__name__ for cls in classes if cls.__module__ == _broken.__name__}

    assert zoo - correct == CAUGHT.keys() | {"CheckThenSet", "OwnerWrittenLate"}
    assert len(zoo - correct) == 12


@pytest.mark.long
def test_the_right_ones_that_the_broken_are_made_of_pass():
    recovers = LockSpec.mutex(on_crash="recovers", owner_only=True, reentrant=False)
    stays = LockSpec.mutex(on_crash="stays_locked", owner_only=True, reentrant=False)

    check_lock(_broken.Kernel, recovers, **FAST).raise_if_failed()
    check_lock(_broken.Owned, stays, **FAST).raise_if_failed()


@pytest.mark.slow
def test_the_kernels_lock_passes_a_kill_at_every_line_and_every_schedule_with_one_preemption():
    spec = LockSpec.mutex(on_crash="recovers", owner_only=True)

    crash_sweep(_broken.Kernel, spec, start_method="fork").raise_if_failed()
    explore_lock(
        _broken.Kernel, spec, strategy=Strategy.exhaustive(1), runs=1000, start_method="fork"
    ).raise_if_failed()
