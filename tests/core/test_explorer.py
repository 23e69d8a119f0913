"""The real RobustMutex code, all interleavings, with a crash and an exception at every step."""

import pytest

from tests.core import automaton as a
from tests.core import lockstep
from tests.core.automaton import Code
from tests.core.explorer import Explorer, ViolationError
from tests.core.faults import TEXTS, planted


@pytest.mark.parametrize(
    ("participants", "rounds", "crashes", "exceptions", "reuses", "timeouts"),
    [
        pytest.param(2, 1, 2, 1, 1, 0, marks=pytest.mark.slow),
        pytest.param(2, 1, 1, 3, 0, 0, marks=pytest.mark.slow),
        (2, 1, 1, 1, 1, 0),
        (2, 1, 1, 0, 1, 2),
        pytest.param(3, 2, 2, 0, 0, 0, marks=pytest.mark.slow),
        pytest.param(3, 1, 1, 1, 0, 0, marks=pytest.mark.slow),
        pytest.param(3, 1, 1, 0, 0, 2, marks=pytest.mark.slow),
        (3, 1, 1, 0, 0, 0),
        pytest.param(3, 1, 1, 0, 1, 0, marks=pytest.mark.slow),
    ],
)
def test_no_interleaving_breaks_a_promise(participants, rounds, crashes, exceptions, reuses, timeouts):
    explorer = Explorer(Code(), participants, rounds, crashes, exceptions, reuses, timeouts).run()
    assert len(explorer.states) > 5_000


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("participants", "budget"), [(4, (2, 0, 0, 0)), (3, (2, 1, 0, 0)), (3, (1, 1, 1, 0)), (2, (2, 2, 2, 0))]
)
def test_no_interleaving_breaks_a_promise_at_a_larger_size(participants, budget):
    Explorer(Code(), participants, 1, *budget).run()


SMALL = [
    ("nocheck", 3, 1, 2, 0, 0, "permits when all have finished"),
    ("nocheck on the short way", 3, 2, 2, 0, 0, "permits when all have finished"),
    ("clearall", 3, 1, 2, 0, 0, "can never finish"),
    ("noinc", 2, 1, 1, 0, 1, "can never finish"),
    ("overwrite", 2, 1, 1, 0, 1, "can never finish"),
    ("abandon not stored", 2, 1, 0, 1, 0, "can never finish"),
    ("epoch kept after an exception", 2, 2, 0, 1, 0, "can never finish"),
    ("recovery lock kept", 2, 1, 0, 2, 0, "can never finish"),
]


@pytest.mark.parametrize(
    ("fault", "participants", "rounds", "crashes", "exceptions", "reuses", "says"),
    [pytest.param(*row, marks=[pytest.mark.slow] if row[1:4] == (3, 2, 2) else []) for row in SMALL],
)
def test_a_planted_fault_is_caught(fault, participants, rounds, crashes, exceptions, reuses, says):
    # Private steps are no reason to leave others out where the code under test may store anywhere.
    explorer = Explorer(planted(fault), participants, rounds, crashes, exceptions, reuses, reduce=False)
    with pytest.raises(ViolationError, match=says):
        explorer.run()


def test_an_epoch_kept_beside_a_predecessors_word_is_caught():
    """It needs a time limit: an acquire that gave up, and another that takes the short way."""
    with pytest.raises(ViolationError, match="can never finish"):
        Explorer(planted(PREDECESSOR), 2, 1, 1, 0, 1, 2, reduce=False).run()


def test_a_party_that_calls_a_living_one_dead_makes_two_holders():
    with pytest.raises(ViolationError, match="two holders"):
        Explorer(Code(), 2, 1, 0, false_dead=True, reduce=False).run()


@pytest.mark.long
def test_looking_before_sleeping_breaks_nothing():
    Explorer(Code(spins=1), 2, 1, 1, 1, 0).run()
    Explorer(Code(spins=1), 3, 1, 1).run()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", ["nocheck", "clearall", "onepass"])
def test_the_three_faults_of_the_model_are_caught_at_its_size(fault):
    with pytest.raises(ViolationError):
        Explorer(planted(fault), 4, 1, 2, reduce=False).run()


PREDECESSOR = "epoch kept beside a predecessor's word"


def test_every_planted_fault_has_its_test():
    elsewhere = {"onepass", "noepochaftertake", "odd epoch remembered", PREDECESSOR}
    assert TEXTS.keys() - {row[0] for row in SMALL} == elsewhere


@pytest.mark.slow
def test_the_look_after_the_semaphore_was_taken_only_saves_a_wait():
    """Recovery waits for whoever is TRYING, so who takes a permit in it is seen HOLDING: nothing is lost."""
    Explorer(planted("noepochaftertake"), 3, 2, 2, reduce=False).run()


@pytest.mark.slow
def test_an_odd_epoch_that_is_remembered_only_saves_a_wait_as_well():
    """Once it lost a permit, when an exception fell in between; since then an exception makes the epoch forgotten."""
    Explorer(planted("odd epoch remembered"), 2, 2, 1, 1, 0, 1, reduce=False).run()


@pytest.mark.long
def test_following_private_steps_alone_hides_nothing():
    """The same final states are reached with and without it."""
    reduced, whole = (Explorer(Code(), 2, 1, 1, 1, 0, reduce=reduce).run() for reduce in (True, False))
    assert len(reduced.states) < len(whole.states)
    assert _ends(reduced) == _ends(whole)


def _ends(explorer):
    found = set()
    for state in explorer.states:
        places = state[-2 * explorer.count : -explorer.count]
        kinds = tuple(-1 if place < 0 else explorer.automaton.questions[place][0] for place in places)
        if all(kind in {-1, a.DONE} for kind in kinds):
            found.add((*state[: -2 * explorer.count], kinds))
    return found


@pytest.mark.parametrize("seed", range(25))
def test_what_was_learnt_is_what_the_real_code_does(seed):
    asked = lockstep.run(Code(), seed)
    assert len(asked) > 20


def test_the_simulation_of_the_deadness_of_a_word_is_that_of_the_code():
    explorer = Explorer(Code(), 2, 1)
    for state, dead in [((0,), False), ((1 << 3 | 2,), False), ((1 << 3 | 4,), True), ((7 << 3 | 2,), True)]:
        shared = list(explorer.initial())
        shared[7] = state[0]
        assert explorer._is_dead_word(tuple(shared), 0) is dead
