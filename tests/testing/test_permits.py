"""Semaphores whose holders are killed: all permits are to be had at the same time again, or it is seen."""

import pytest

from tests.testing import locks
from tests.testing.script import SECOND, A, Script, fails, hold
from XME.testing import CrashRecovery, Faults, LockSpec, Op, Progress, check_lock, crash_sweep

SOON = {"stuck_s": 0.4, "recover_s": 0.4}
FEW = {"start_method": "fork", "workers": 3, "rounds": 15}
LOSES = {"cleanup": locks.remove_posix_semaphore, "start_method": "fork"}


def test_a_semaphore_that_loses_the_permits_of_the_dead_is_caught_by_a_drill():
    spec = LockSpec.permits_of(2, on_crash="recovers", **SOON)
    report = check_lock(locks.posix_semaphore_of_two, spec, workers=2, rounds=3, **LOSES)
    assert [one.outcome.checker for one in report.violations] == ["CrashRecovery"], str(report)
    assert "the drill 'a holder dies'" in report.violations[0].run


def test_and_by_a_kill_in_the_section():
    spec = LockSpec.permits_of(2, on_crash="recovers", **SOON)
    report = crash_sweep(locks.posix_semaphore_of_two, spec, phases=("hold",), **LOSES)
    assert [one.outcome.checker for one in report.violations] == ["CrashRecovery"], str(report)


def test_one_that_says_nothing_of_the_dead_may_lose_them():
    spec = LockSpec.permits_of(2, **SOON)
    crash_sweep(locks.posix_semaphore_of_two, spec, phases=("hold",), **LOSES).raise_if_failed()


@pytest.mark.long
@pytest.mark.parametrize(("lock", "policy"), [(locks.Slots, "recovers"), (locks.ToldSlots, "notifies")])
def test_one_that_gets_them_back_passes_kills_at_full_speed_and_in_the_section(lock, policy):
    spec = LockSpec.permits_of(3, on_crash=policy, stuck_s=2.0, recover_s=2.0)
    check_lock(lock, spec, faults=Faults(kill=0.05), **FEW).raise_if_failed()
    crash_sweep(lock, spec, phases=("hold",), start_method="fork").raise_if_failed()


def test_not_to_tell_whoever_gets_the_permit_of_the_dead_is_seen():
    spec = LockSpec.permits_of(3, on_crash="notifies", **SOON)
    report = check_lock(locks.Slots, spec, **FEW)
    assert report.broke("CrashRecovery"), str(report)
    assert "was not told" in str(report)


def one_of_two_is_lost(*, others):
    """Worker 0 dies with a permit; each of the others keeps one for long while worker 9 waits."""
    script = Script().call(0, A, 1, 2).sent(0, Op.KILL_SENT, 50).sent(0, Op.REAPED, 51)
    for worker in range(1, 1 + others):
        hold(script, worker, 100, 3 * SECOND)
    return script.call(9, A, 200, 3 * SECOND + 500)


def test_a_permit_that_nobody_gets_after_a_death_is_not_recovered():
    spec = LockSpec.permits_of(2, on_crash="recovers")
    assert fails(CrashRecovery(), spec, one_of_two_is_lost(others=1), permits=True)
    assert not fails(CrashRecovery(), spec, one_of_two_is_lost(others=2), permits=True)


def test_a_lost_permit_is_no_lost_wake_up_unless_all_have_been_had_since():
    spec = LockSpec.permits_of(2)
    lost = one_of_two_is_lost(others=1)
    assert not fails(Progress(), spec, lost, permits=True)
    assert fails(Progress(), spec, hold(hold(lost, 2, 60, 70), 3, 60, 70), permits=True)
