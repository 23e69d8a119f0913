"""The real RobustRWLock code, all interleavings, with a crash and an exception at every step."""

import pytest

from tests.core.rw_automaton import Code
from tests.core.rw_explorer import Explorer, ViolationError


@pytest.mark.long
@pytest.mark.parametrize(
    ("threads", "rounds", "crashes", "exceptions", "reuses"),
    [
        ((1, 1), 1, 1, 1, 1),
        ((1, 1, 1), 1, 1, 0, 0),
        pytest.param((1, 1), 2, 1, 0, 1, marks=pytest.mark.slow),
        pytest.param((1, 1), 1, 2, 1, 1, marks=pytest.mark.slow),
        pytest.param((1, 1), 2, 0, 1, 0, marks=pytest.mark.slow),
        pytest.param((2, 1), 1, 0, 0, 0, marks=pytest.mark.slow),
    ],
)
def test_no_interleaving_breaks_a_promise(threads, rounds, crashes, exceptions, reuses):
    explorer = Explorer(Code(), threads, rounds, crashes, exceptions, reuses).run()
    assert len(explorer.seen) > 1_000


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("threads", "rounds", "crashes", "exceptions", "reuses"),
    [
        ((2, 1), 1, 1, 0, 1),
        ((2, 1), 1, 0, 1, 0),
        ((2, 1), 2, 0, 0, 0),
        ((1, 1, 1), 1, 2, 0, 1),
        ((1, 1, 1), 1, 1, 1, 0),
        ((1, 1), 2, 2, 1, 1),
    ],
)
def test_no_interleaving_breaks_a_promise_at_a_larger_size(threads, rounds, crashes, exceptions, reuses):
    Explorer(Code(), threads, rounds, crashes, exceptions, reuses).run()


RAISE = "                self._words[self._mine] = self._base | len(readers)\n"
LOWER = "                self._words[self._mine] = self._base | count if count else 0\n"
TAKE = """            if not mutex.acquire(_ENTERING_S if timeout_s == 0 else timeout_s, purpose):
                return False
            with self._local:
"""
SWEEP = """            elif self._party.is_dead(number, word >> INCARNATION_SHIFT):
                self._words[number] = 0
"""
REDO = """                self._lower_word(me)
            finally:
                self._lower_word(me)
            raise
        return True
"""
ONE_LESS = """                left = (self._words[self._mine] & _COUNT_MASK) - 1
                self._words[self._mine] = self._base | left if left > 0 else 0
"""
ONE_MORE = """                more = (self._words[self._mine] & _COUNT_MASK) + 1
                self._words[self._mine] = self._base | more
"""
# name -> (the texts replaced, threads, crashes, exceptions, reuses, what is said)
FAULTS = {
    # The bugs of the model.
    "late": (
        [
            (TAKE, TAKE.replace("            with", "            mutex.release()\n            with")),
            (RAISE + "            mutex.release()\n", RAISE),
        ],
        (1, 1), 0, 0, 0, "not excluded",
    ),
    "flag": (
        [
            ("            count = len(self._readers)\n", "            count = 0\n"),
            ("self._base | len(readers) if readers else 0", "0"),
        ],
        (2, 1), 0, 0, 0, "not excluded",
    ),
    "noinc": (
        [("self._party.is_dead(number, word >> INCARNATION_SHIFT)", "self._party.is_dead(number, -1)")],
        (1, 1), 1, 0, 1, "can never finish",
    ),
    "noslice": (
        [("elif not self._drained.wait(", "elif [0 for _ in iter(lambda: self._drained.wait(0), True)] and not (")],
        (1, 1), 1, 0, 0, "can never finish",
    ),
    "outside": (
        [
            (
                "        # What `mutex.depth` says, with fewer calls.\n",
                ("        for k in range(len(self._words)):\n"
                "            if self._words[k] and self._party.is_dead(k, self._words[k] >> INCARNATION_SHIFT):\n"
                "                self._words[k] = 0\n"),
            )
        ],
        (1, 1), 1, 0, 1, "clears the word",
    ),
    "nosweep": ([(SWEEP, "")], (1, 1), 1, 0, 0, "can never finish"),
    "keepword": (
        [
            (RAISE, ONE_MORE),
            (LOWER, ONE_LESS),
            ("                self._words[self._mine] = self._base | len(readers) if readers else 0\n", ONE_LESS),
        ],
        (1, 1), 1, 0, 1, "can never finish",
    ),
    # And this code's own.
    "the flag is not raised": (
        [("                self._flag[0] = READING\n", "")], (1, 1), 0, 0, 0, "not excluded",
    ),
    "the flag is lowered before the words are passed": (
        [("self._flag[0] = DRAINING\n        # A barrier", "self._flag[0] = NOBODY\n        # A barrier")],
        (1, 1, 1), 1, 0, 0, "not excluded",
    ),
    "an exception leaves the word raised": (
        [(REDO, REDO.replace("self._lower_word(me)", "pass"))], (1, 1), 0, 1, 0, "can never finish",
    ),
    "an exception leaves M taken": (
        [
            (
                ("            try:\n                self._undo_read(me, depth)\n"
                "            finally:\n                self._undo_read(me, depth)\n            raise\n"),
                "            raise\n",
            )
        ],
        (1, 1), 0, 1, 0, "has what it did not get",
    ),
}  # fmt: skip


# With two threads in a process there is most to explore.
@pytest.mark.long
@pytest.mark.parametrize(
    "fault", [pytest.param(fault, marks=[pytest.mark.slow] if fault == "flag" else []) for fault in FAULTS]
)
def test_a_planted_fault_is_caught(fault):
    replacements, threads, crashes, exceptions, reuses, says = FAULTS[fault]
    with pytest.raises(ViolationError, match=says):
        Explorer(Code(*replacements), threads, 1, crashes, exceptions, reuses).run()
