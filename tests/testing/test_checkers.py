"""The checkers, against histories that were made by hand, and against brute force."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.testing.script import AR, MS, RR, SECOND, A, R, S, Script, fails, hold, says
from XME.testing import (
    BoundedWait,
    CrashRecovery,
    History,
    Kind,
    Linearizable,
    LockSpec,
    MutualExclusion,
    NoFalseRefusal,
    NoLeak,
    Op,
    OwnerOnly,
    Permits,
    Progress,
    ReaderWriter,
    Reentrancy,
    Tripwire,
    Verdict,
    judge,
)


def test_two_who_hold_it_at_once_are_seen_with_the_four_events_that_prove_it():
    script = hold(hold(Script(), 0, 10, 50), 1, 40, 90)

    outcome = says(MutualExclusion(), LockSpec.mutex(), script)

    assert outcome.verdict is Verdict.FAIL
    assert "worker 0 and worker 1 both held it for at least 0 µs" in outcome.sentence
    assert [one.time_ns for one in outcome.witness] == [10, 40, 50, 90]


def test_equal_times_are_no_proof():
    assert not fails(MutualExclusion(), LockSpec.mutex(), hold(hold(Script(), 0, 10, 50), 1, 50, 90))


def test_readers_may_meet_and_a_writer_may_meet_nobody():
    readers = hold(hold(Script(), 0, 10, 50, AR), 1, 20, 60, AR)
    writer = hold(hold(Script(), 0, 10, 50, AR), 1, 20, 60)

    assert not fails(ReaderWriter(), LockSpec.reader_writer(), readers)
    assert fails(ReaderWriter(), LockSpec.reader_writer(), writer)


def test_one_more_than_the_permits_is_seen():
    script = hold(hold(hold(Script(), 0, 10, 50), 1, 20, 60), 2, 30, 70)

    assert fails(Permits(), LockSpec.permits_of(2), script, permits=True)
    assert not fails(Permits(), LockSpec.permits_of(3), script, permits=True)


def test_the_tripwire_speaks_by_a_mark_and_by_a_count():
    spec = LockSpec.mutex()
    fine = Script().call(0, S, 1, 2, detail="counted").sent(0, Op.END, 9, detail="sections 1")
    met = Script().call(0, S, 1, 2, Kind.RAISED, detail="met worker 1")
    lost = Script().call(0, S, 1, 2, detail="counted").call(1, S, 1, 2, detail="counted")

    assert not fails(Tripwire(), spec, fine)
    assert fails(Tripwire(), spec, met)
    assert fails(Tripwire(), spec, lost.sent(0, Op.END, 9, detail="sections 1"))


def test_a_killed_worker_may_have_counted_without_saying_so():
    script = Script().call(0, S, 1).sent(0, Op.KILL_SENT, 3).sent(0, Op.REAPED, 4)

    assert not fails(Tripwire(), LockSpec.mutex(), script.sent(0, Op.END, 9, detail="sections 1"))


def test_a_section_that_the_end_of_the_run_cuts_off_may_have_counted():
    script = Script().call(0, S, 1, 2, detail="counted").call(1, S, 5)

    assert not fails(Tripwire(), LockSpec.mutex(), script.sent(0, Op.END, 9, detail="sections 2"))


def test_only_the_owner_releases():
    spec = LockSpec.mutex(owner_only=True)

    assert fails(OwnerOnly(), spec, Script().call(1, R, 1, 2))
    assert not fails(OwnerOnly(), spec, Script().call(1, R, 1, 2, Kind.RAISED))
    assert fails(OwnerOnly(), spec, Script().call(0, A, 1, 2).call(0, R, 3, 4, Kind.RAISED))


@pytest.mark.parametrize(("kind", "reentrant", "wrong"), [
    (Kind.OK, False, True), (Kind.REFUSED, False, False), (Kind.RAISED, False, False),
    (Kind.OK, True, False), (Kind.REFUSED, True, True), (Kind.RAISED, True, True),
])  # fmt: skip
def test_taking_again_is_as_declared(kind, reentrant, wrong):
    spec = LockSpec.reentrant_mutex(2) if reentrant else LockSpec.mutex(reentrant=False)

    assert fails(Reentrancy(), spec, Script().call(0, A, 1, 2).call(0, A, 3, 4, kind)) is wrong


def test_taking_again_must_not_hang():
    script = Script().call(0, A, 1, 2).call(0, A, 3, timeout_s=0.1)

    assert fails(Reentrancy(), LockSpec.mutex(reentrant=False), script, end_ns=3 * SECOND)


def test_who_is_refused_must_have_met_somebody():
    spec = LockSpec.mutex()
    alone = Script().call(0, A, 10, 20, Kind.REFUSED, timeout_s=0)
    met = hold(Script(), 1, 5, 12).call(0, A, 10, 20, Kind.REFUSED, timeout_s=0)
    reader = hold(Script(), 1, 5, 12, AR).call(0, AR, 10, 20, Kind.REFUSED, timeout_s=0)

    assert fails(NoFalseRefusal(), spec, alone)
    assert not fails(NoFalseRefusal(), spec, met)
    assert fails(NoFalseRefusal(), LockSpec.reader_writer(), reader)


def test_who_was_killed_may_still_have_it():
    script = Script().call(1, A, 1, 2).sent(1, Op.KILL_SENT, 5).sent(1, Op.REAPED, 6)

    assert not fails(NoFalseRefusal(), LockSpec.mutex(), script.call(0, A, 10, 20, Kind.REFUSED, timeout_s=0))


def test_a_semaphore_refuses_only_when_all_permits_may_be_taken():
    script = hold(Script(), 1, 5, 12).call(0, A, 10, 20, Kind.REFUSED, timeout_s=0)

    assert fails(NoFalseRefusal(), LockSpec.permits_of(2), script, permits=True)
    assert not fails(NoFalseRefusal(), LockSpec.permits_of(2), hold(script, 2, 5, 12), permits=True)


def test_a_limit_of_time_is_not_cut_short():
    early = hold(Script(), 1, 5, 900 * MS).call(0, A, 10, 100 * MS, Kind.REFUSED, timeout_s=0.2)
    late = hold(Script(), 1, 5, 900 * MS).call(0, A, 10, 201 * MS, Kind.REFUSED, timeout_s=0.2)

    assert fails(NoFalseRefusal(), LockSpec.mutex(), early)
    assert not fails(NoFalseRefusal(), LockSpec.mutex(), late)


def test_a_wait_is_bounded_in_time_and_in_number():
    spec = LockSpec.mutex(max_wait_s=1.0)
    passed_twice = Script().call(0, A, 10, 500)
    for start in (20, 60):
        hold(passed_twice, 1, start + 10, start + 20)

    assert fails(BoundedWait(), spec, Script().call(0, A, 0, 2 * SECOND))
    stopped = Script().call(0, A, 0, 2 * SECOND).sent(1, Op.STOPPED, 5).sent(1, Op.CONTINUED, SECOND)
    assert not fails(BoundedWait(), spec, stopped)
    assert fails(BoundedWait(), LockSpec.mutex(max_bypass=1), passed_twice)
    assert not fails(BoundedWait(), LockSpec.mutex(max_bypass=2), passed_twice)


def test_who_waits_is_passed_by_all_others_together():
    five = Script().call(0, A, 10, 500)
    for worker in range(1, 6):
        hold(five, worker, 20 * worker, 20 * worker + 5)

    outcome = says(BoundedWait(), LockSpec.mutex(max_bypass=4), five)
    assert outcome.sentence == "5 sections began and ended while worker 0 waited; 4 is the bound"
    assert len(outcome.witness) == 4
    assert not fails(BoundedWait(), LockSpec.mutex(max_bypass=5), five)
    # Who asked before has not passed anybody.
    first_come = hold(hold(Script().call(0, A, 10, 500), 1, 12, 20), 2, 14, 30)
    assert not fails(BoundedWait(), LockSpec.mutex(max_bypass=0), first_come)


def test_readers_and_writers_pass_separately_and_readers_who_are_let_in_together_as_one():
    spec = LockSpec.reader_writer(prefer="phase_fair")
    together = Script().call(0, A, 10, 500)
    for worker in range(1, 6):
        together.call(worker, AR, 15 + worker, 50 + worker).call(worker, RR, 60 + worker, 70 + worker)
    one_by_one = Script().call(0, A, 10, 500)
    for worker in range(1, 3):
        hold(one_by_one, worker, 20 * worker, 20 * worker + 5, AR)

    assert not fails(BoundedWait(), spec, together)
    assert not fails(BoundedWait(), spec, hold(together, 6, 100, 110))
    assert fails(BoundedWait(), spec, hold(together, 7, 120, 130))
    assert "2 sections of readers" in says(BoundedWait(), spec, one_by_one).sentence


def test_a_free_lock_that_somebody_waits_for_has_lost_a_wake_up():
    script = hold(Script(), 0, 10, 50).call(1, A, 20)

    outcome = says(Progress(), LockSpec.mutex(), script, end_ns=2 * SECOND)
    assert "a wake-up was lost" in outcome.sentence
    assert not fails(Progress(), LockSpec.mutex(), script, end_ns=SECOND // 2)


def test_all_wait_for_each_other_and_a_time_limit_that_has_no_effect():
    both = Script().call(0, A, 1).call(1, A, 2)

    assert "all wait for each other" in says(Progress(), LockSpec.mutex(), both, end_ns=2 * SECOND).sentence
    late = Script().call(0, A, 1, 3 * SECOND, Kind.REFUSED, timeout_s=0.1)
    assert "longer" in says(Progress(), LockSpec.mutex(), late).sentence


def dead(script=None, moment=50):
    script = script or Script().call(0, A, 1, 2)
    return script.sent(0, Op.KILL_SENT, moment).sent(0, Op.REAPED, moment + 1)


def test_after_a_death_it_is_to_be_had_in_time():
    spec = LockSpec.mutex(on_crash="recovers", recover_s=0.5)

    assert not fails(CrashRecovery(), spec, dead().call(1, A, 60, 400 * MS))
    assert fails(CrashRecovery(), spec, dead().call(1, A, 60, 600 * MS))
    assert fails(CrashRecovery(), spec, dead().call(1, A, 60), end_ns=SECOND)
    # Who waits behind a successor waits for him, and not for the recovery.
    assert not fails(CrashRecovery(), spec, hold(dead(), 2, 100, SECOND).call(1, A, 60, SECOND + 10))


def test_a_dead_one_has_one_heir():
    spec = LockSpec.mutex(on_crash="recovers")

    assert "both succeeded worker 0" in says(
        CrashRecovery(), spec, hold(hold(dead(), 1, 100, 200), 2, 150, 250)
    ).sentence
    assert not fails(CrashRecovery(), spec, hold(hold(dead(), 1, 100, 200), 2, 250, 300))


def test_the_heir_is_told_and_nobody_else():
    spec = LockSpec.mutex(on_crash="notifies")
    told = {"detail": "owner died"}

    assert fails(CrashRecovery(), spec, dead().call(1, A, 60, 70))
    assert not fails(CrashRecovery(), spec, dead().call(1, A, 60, 70, **told))
    twice = dead().call(1, A, 60, 70, **told).call(1, R, 80, 81).call(2, A, 90, 95, **told)
    assert fails(CrashRecovery(), spec, twice)


def test_of_a_dead_writer_the_next_writer_is_told_at_the_latest_and_of_a_dead_reader_nobody():
    spec = LockSpec.reader_writer(on_crash="notifies")
    told = {"detail": "owner died"}
    read = dead().call(1, AR, 60, 70).call(1, RR, 80, 81)

    assert not fails(CrashRecovery(), spec, dead(Script().call(0, AR, 1, 2)).call(1, A, 60, 70))
    assert not fails(CrashRecovery(), spec, read)
    assert fails(CrashRecovery(), spec, read.call(2, A, 90, 95))
    read = dead().call(1, AR, 60, 70).call(1, RR, 80, 81)
    assert not fails(CrashRecovery(), spec, read.call(2, A, 90, 95, **told))
    assert not fails(CrashRecovery(), spec, dead().call(1, AR, 60, 70, **told).call(1, RR, 80, 81).call(2, A, 90, 95))


def test_what_is_to_stay_locked_stays_locked():
    spec = LockSpec.mutex(on_crash="stays_locked")

    assert fails(CrashRecovery(), spec, dead().call(1, A, 60, 70))
    assert not fails(CrashRecovery(), spec, dead().call(1, A, 60, 70, Kind.REFUSED, timeout_s=0))


def test_what_verify_finds_is_the_recoverys():
    broken = dead().call(1, S, 60, 70, Kind.RAISED, detail="verify ValueError()")

    assert fails(CrashRecovery(), LockSpec.mutex(on_crash="recovers"), broken)


def test_what_is_left_is_named():
    outcome = says(NoLeak(), LockSpec.mutex(), Script().sent(0, Op.LEFT, 9, detail="the name /x"))

    assert outcome.sentence == "left behind: the name /x"


def test_a_checker_that_fails_does_not_know():
    class Fails(NoLeak):
        def check(self, history, spec):
            raise KeyError("x")

    (outcome,) = judge([Fails()], History.of([]), LockSpec.mutex())

    assert outcome.verdict is Verdict.UNKNOWN
    assert "KeyError" in outcome.sentence


# -- brute force -------------------------------------------------------------------------------------------------------


@st.composite
def histories(draw, ops):
    """Small histories of successful pairs: each worker takes and gives back, at any times."""
    script = Script()
    for worker in range(draw(st.integers(2, 3))):
        moments = sorted(draw(st.lists(st.integers(0, 14), min_size=4, max_size=8, unique=True)))
        for at in range(0, len(moments) - 3, 4):
            op = draw(st.sampled_from(ops))
            first, second, third, last = moments[at : at + 4]
            script.call(worker, op, first, second).call(worker, {A: R, AR: RR}[op], third, last)
    return script


def some_order_exists(history, permits=1):
    """Try all ways to choose a moment for each call: does one never break the rule? Half steps are between ticks."""
    holds = history.holds()
    choices = []
    for one in holds:
        # The true hold contains the certain one, so the shortest is tried first; all others contain it.
        begins = [one.sure_ns[0] - back for back in range(one.sure_ns[0] - one.wanted_ns + 1)]
        ends = [one.sure_ns[1] + on for on in range(one.free_ns - one.sure_ns[1] + 1)]
        choices.append([(b, e) for b in begins for e in ends])
    return any(_is_fine(holds, chosen, permits) for chosen in itertools.product(*choices))


def _is_fine(holds, chosen, permits):
    for moment in range(30):
        at = moment / 2
        inside = [(k, one.write) for k, (one, (b, e)) in enumerate(zip(holds, chosen, strict=True)) if b < at < e]
        owners = {holds[k].owner for k, _ in inside}
        writes = any(write for _, write in inside)
        if permits == 1 and writes and len(owners) > 1:
            return False
        if permits > 1 and len(inside) > permits:
            return False
    return True


def _is_small(history):
    return all(one.free_ns - one.wanted_ns <= 8 for one in history.holds()) and len(history.holds()) <= 3


@settings(max_examples=120, deadline=None)
@given(histories([A]))
def test_mutual_exclusion_says_what_brute_force_and_the_search_say(script):
    history, spec = script.history(), LockSpec.mutex(owner_only=True)
    verdict = MutualExclusion().check(history, spec).verdict

    assert Linearizable().check(history, spec).verdict is verdict
    if _is_small(history):
        assert some_order_exists(history) is (verdict is Verdict.PASS)


@settings(max_examples=120, deadline=None)
@given(histories([A, AR]))
def test_reader_writer_says_what_brute_force_and_the_search_say(script):
    history, spec = script.history(), LockSpec.reader_writer(owner_only=True)
    verdict = ReaderWriter().check(history, spec).verdict

    assert Linearizable().check(history, spec).verdict is verdict
    if _is_small(history):
        assert some_order_exists(history) is (verdict is Verdict.PASS)


@pytest.mark.long
@settings(max_examples=120, deadline=None)
@given(histories([A]))
def test_permits_say_what_brute_force_and_the_search_say(script):
    history, spec = script.history(permits=True), LockSpec.permits_of(2)
    verdict = Permits().check(history, spec).verdict

    assert Linearizable().check(history, spec).verdict is verdict
    if _is_small(history):
        assert some_order_exists(history, 2) is (verdict is Verdict.PASS)


def test_a_search_without_time_does_not_know():
    script = Script()
    for worker in range(6):
        script.call(worker, A, 1, 100)

    assert Linearizable(budget_s=0.0).check(script.history(), LockSpec.mutex()).verdict is Verdict.UNKNOWN
