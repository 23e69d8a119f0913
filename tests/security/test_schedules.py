"""A deadlock is reported exactly where there is one, in random schedules of the real detector."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.security import schedules


@settings(max_examples=80, deadline=None)
@given(st.randoms(use_true_random=False))
def test_locks_taken_in_one_order_are_no_deadlock(dice):
    assert schedules.run(dice, ordered=True) == 0


@settings(max_examples=80, deadline=None)
@given(st.randoms(use_true_random=False))
def test_what_is_reported_is_a_deadlock_and_every_deadlock_is(dice):
    schedules.run(dice, ordered=False)


def test_the_schedules_do_meet_deadlocks():
    assert sum(schedules.run(random.Random(seed), ordered=False) for seed in range(60)) > 20


# Rules left out, each a fault that the schedules must find.
FAULTS = {
    "beats do not count": lambda patch: patch.setattr(
        schedules.deadlock.Wait, "_noted", lambda self, cycle, _domains: [r._replace(beat=-1) for r in cycle]
    ),
    "one reading is enough": lambda patch: patch.setattr(
        schedules.deadlock.Wait,
        "_confirm",
        lambda self, _domains: schedules.Deadlock.of(self._told()),
    ),
    "the dead count": lambda patch: patch.setattr(schedules.Party, "is_dead", lambda *_: False),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault, monkeypatch):
    FAULTS[fault](monkeypatch)
    with pytest.raises(AssertionError):
        for seed in range(3000):
            schedules.run(random.Random(seed), ordered=seed % 2 == 0)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_million_schedules_without_a_deadlock_and_no_report():
    for seed in range(1_000_000):
        assert schedules.run(random.Random(seed), ordered=True, steps=40) == 0
