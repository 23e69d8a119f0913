"""All interleavings of the real RobustMutex code: explicit-state search over what is shared and who stands where.

A global state is a tuple: epoch, permits, owner of the recovery lock (-1: nobody), crashes, exceptions, reuses and
timeouts that have happened, and of each participant its state word, where it stands (automaton.py; -1: dead) and its
incarnation.
At every step a participant may do its next operation, be killed, or be struck by an exception before or after the
effect of the operation. Checked: never two living participants in the critical section; nobody clears the word of
somebody who lives; the permits are right when all have finished; from every state all who live can finish without
another misfortune.

To keep it finite and small, an operation that would only be repeated is enabled when its answer can change something:
a slice runs out when the epoch changed or a dead word is there, a pause ends when the word it waits for changed or is
dead, and a refused recovery lock is noticed when the epoch is even. Where a step can neither influence nor be
influenced by anybody else (see Explorer._is_private), only it is followed.
"""

from array import array
from collections import deque

import numpy as np

from tests.core import automaton as a
from tests.core.automaton import Automaton
from XME._core.recovery import ABANDONED

EPOCH, PERMITS, OWNER, CRASHES, EXCEPTIONS, REUSES, TIMEOUTS, WORDS = range(8)


class ViolationError(AssertionError):
    """The code under test broke a promise."""


class Explorer:
    """One search.

    Args:
        code: what is tested.
        participants, rounds: how many, and how often each takes the mutex.
        crashes, exceptions, reuses, timeouts: how many misfortunes happen at most.
        false_dead: the party may say of a living one that it is dead.
        reduce: follow private steps alone.
    """

    def __init__(
        self, code, participants, rounds, crashes=0, exceptions=0, reuses=0, timeouts=0, *,
        false_dead=False, reduce=True,
    ):  # fmt: skip
        self.count = participants
        self.budget = (crashes, exceptions, reuses, timeouts)
        self.false_dead = false_dead
        self.reduce = reduce
        self.automaton = Automaton(code, participants, rounds, 1.0 if timeouts else None)
        self.states = []
        self._index = {}
        self._parents = array("q")
        self._steps = array("I")
        self._good = []

    # -- the shared state ------------------------------------------------------------------------------------------

    def initial(self):
        count = self.count
        places = tuple(self.automaton.start(k, 1 + k) for k in range(count))
        return (0, 1, -1, 0, 0, 0, 0, *(0,) * count, *places, *range(1, 1 + count))

    def is_dead(self, state, number, incarnation):
        place = state[WORDS + self.count + number]
        if place < 0:
            return True
        return incarnation >= 0 and state[WORDS + 2 * self.count + number] != incarnation

    def _is_dead_word(self, state, number):
        word = state[WORDS + number]
        return word != 0 and (word & 7 == ABANDONED or self.is_dead(state, number, word >> 3))

    def _is_live_word(self, state, number):
        return state[WORDS + number] != 0 and not self._is_dead_word(state, number)

    def _has_dead_word(self, state):
        return any(self._is_dead_word(state, number) for number in range(self.count))

    def effects(self, state, who, question):
        """All (answer, shared state after it) that an operation can have now; none if it waits."""
        kind, first, second = question
        if kind == a.LOAD:
            yield (state[EPOCH] if first == 0 else state[WORDS + first - 1]), state
        elif kind == a.STORE:
            if self.reduce and first not in {0, 1 + who} and self._is_live_word(state, first - 1):
                raise ViolationError(f"{who} clears the word of {first - 1}, who lives")
            yield None, _with(state, EPOCH if first == 0 else WORDS + first - 1, second)
        elif kind == a.IS_DEAD:
            dead = self.is_dead(state, first, second)
            yield dead, state
            if self.false_dead and not dead and first != who:
                yield True, state
        elif kind == a.GRAB:
            yield (True, _with(state, PERMITS, state[PERMITS] - 1)) if state[PERMITS] else (False, state)
        elif kind == a.WAIT:
            yield from self._wait(state, who)
        elif kind == a.POST:
            yield None, _with(state, PERMITS, state[PERMITS] + 1)
        elif kind == a.LOCK:
            # The lock belongs to an open file description, so whoever has it gets it again.
            if state[OWNER] in {-1, who}:
                yield True, _with(state, OWNER, who)
            elif not state[EPOCH] & 1:
                yield False, state
        elif kind == a.FREE:
            yield None, _with(state, OWNER, -1 if state[OWNER] == who else state[OWNER])
        elif kind == a.CLOCK:
            yield False, state
        elif kind == a.AGAIN:
            yield True, state
            yield False, state
        elif kind == a.SECTION or (kind == a.PAUSE and self._may_go_on(state, first, second)):
            yield None, state

    def _wait(self, state, who):
        if state[PERMITS]:
            yield True, _with(state, PERMITS, state[PERMITS] - 1)
            return
        epoch = self.automaton.epochs[state[WORDS + self.count + who]]
        if epoch != state[EPOCH] or self.false_dead or self._has_dead_word(state):
            yield False, state

    def _may_go_on(self, state, number, word):
        return number < 0 or self.false_dead or state[WORDS + number] != word or self._is_dead_word(state, number)

    def _is_private(self, state, who, question):
        """Nobody else's step changes the answer, and this one changes nothing for others, whatever they do before it.

        A dead one stays dead, and one's own word, unless it is dead, is stored by nobody else: effects() checks that.
        """
        kind, first, second = question
        if kind == a.CLOCK:
            return self.budget[3] == 0
        if kind == a.IS_DEAD:
            return first == who or self.is_dead(state, first, second)
        if kind == a.PAUSE:
            return self._may_go_on(state, first, second)
        return kind == a.LOAD and first == 1 + who and not self._is_dead_word(state, who)

    # -- steps -----------------------------------------------------------------------------------------------------

    def moves(self, state):
        """The states after one operation of somebody."""
        places = state[WORDS + self.count : WORDS + 2 * self.count]
        questions = self.automaton.questions
        if self.reduce:
            for who, place in enumerate(places):
                if place >= 0 and self._is_private(state, who, questions[place]):
                    yield from self._steps_of(state, who, place)
                    return
        for who, place in enumerate(places):
            if place >= 0:
                yield from self._steps_of(state, who, place)

    def _steps_of(self, state, who, place):
        for answer, after in self.effects(state, who, self.automaton.questions[place]):
            yield who, _with(after, WORDS + self.count + who, self.automaton.next(place, answer))

    def misfortunes(self, state):
        """The states after a crash, an exception or the birth of a successor."""
        crashes, exceptions, reuses, timeouts = self.budget
        questions = self.automaton.questions
        for who in range(self.count):
            here = WORDS + self.count + who
            place = state[here]
            if place < 0:
                if state[REUSES] < reuses:
                    yield who, self._born_again(state, who)
                continue
            kind = questions[place][0]
            if state[CRASHES] < crashes and (kind != a.DONE or state[WORDS + who]):
                owner = -1 if state[OWNER] == who else state[OWNER]
                yield who, _with(_with(_with(state, OWNER, owner), CRASHES, state[CRASHES] + 1), here, -1)
            if state[TIMEOUTS] < timeouts and kind == a.CLOCK:
                late = self.automaton.next(place, True)
                yield who, _with(_with(state, TIMEOUTS, state[TIMEOUTS] + 1), here, late)
            if state[EXCEPTIONS] < exceptions and kind not in {a.SECTION, a.DONE, a.AGAIN}:
                struck = self.automaton.next(place, a.STRUCK)
                before = _with(_with(state, EXCEPTIONS, state[EXCEPTIONS] + 1), here, struck)
                yield who, before
                for _, after in self.effects(state, who, questions[place]):
                    if after is not state:
                        yield who, _with(_with(after, EXCEPTIONS, state[EXCEPTIONS] + 1), here, struck)

    def _born_again(self, state, who):
        incarnation = self.count + 1 + state[REUSES]
        born = _with(_with(state, REUSES, state[REUSES] + 1), WORDS + 2 * self.count + who, incarnation)
        return _with(born, WORDS + self.count + who, self.automaton.start(who, incarnation))

    # -- the search ------------------------------------------------------------------------------------------------

    def run(self, limit=None):
        """Search everything, or until `limit` states; ViolationError with the way there. Returns self."""
        self._add(self.initial(), -1, 0)
        edges = array("I")
        at = 0
        while at < len(self.states):
            state = self.states[at]
            try:
                for who, after in self.moves(state):
                    edges.append(at)
                    edges.append(self._add(after, at, who))
                for who, after in self.misfortunes(state):
                    self._add(after, at, who)
            except ViolationError as error:
                if "\n" in str(error):
                    raise
                raise ViolationError(f"{error}\n{self.story(at)}") from None
            at += 1
            if limit is not None and at >= limit:
                raise ViolationError(f"more than {limit:,} states")
        self._check_that_all_can_finish(edges)
        return self

    def _add(self, state, parent, who):
        number = self._index.get(state)
        if number is None:
            number = self._index[state] = len(self.states)
            self.states.append(state)
            self._parents.append(parent)
            self._steps.append(who)
            self._check(state, number)
        return number

    def _check(self, state, number):
        places = state[WORDS + self.count : WORDS + 2 * self.count]
        kinds = [self.automaton.questions[place][0] for place in places if place >= 0]
        if kinds.count(a.SECTION) > 1:
            raise ViolationError(f"two holders\n{self.story(number)}")
        if all(kind == a.DONE for kind in kinds):
            self._good.append(number)
            words = state[WORDS : WORDS + self.count]
            if not state[EPOCH] & 1 and (state[PERMITS] > 1 or (state[PERMITS] != 1 and not any(words))):
                raise ViolationError(f"{state[PERMITS]} permits when all have finished\n{self.story(number)}")

    def _check_that_all_can_finish(self, edges):
        """Go back from the states in which all have finished, along steps that are no misfortune."""
        pairs = np.frombuffer(edges, dtype=np.uint32).reshape(-1, 2)
        order = np.argsort(pairs[:, 1], kind="stable")
        sources = pairs[order, 0].tolist()
        first = np.searchsorted(pairs[order, 1], np.arange(len(self.states) + 1)).tolist()
        fine = bytearray(len(self.states))
        todo = deque(self._good)
        for number in todo:
            fine[number] = 1
        while todo:
            number = todo.pop()
            for source in sources[first[number] : first[number + 1]]:
                if not fine[source]:
                    fine[source] = 1
                    todo.append(source)
        stuck = fine.find(0)
        if stuck >= 0:
            raise ViolationError(f"somebody can never finish\n{self.story(stuck)}")

    def story(self, number, last=40):
        """The steps that lead to a state, the last of them."""
        lines = []
        while number >= 0 and len(lines) < last:
            parent = self._parents[number]
            lines.append(self._tell(parent, number))
            number = parent
        return "\n".join(reversed(lines))

    def _tell(self, parent, number):
        state = self.states[number]
        places = state[WORDS + self.count : WORDS + 2 * self.count]
        at = [
            "dead" if place < 0 else " ".join(map(str, (a.OP_NAMES[self.automaton.questions[place][0]],
                                                        *self.automaton.questions[place][1:])))
            for place in places
        ]  # fmt: skip
        head = f"{self._steps[number]}: " if parent >= 0 else "   "
        words = [f"{word >> 3}.{word & 7}" for word in state[WORDS : WORDS + self.count]]
        return (
            f"{head}epoch {state[EPOCH]} permits {state[PERMITS]} lock {state[OWNER]} "
            f"misfortunes {state[CRASHES:WORDS]} words {' '.join(words)} | next: {' | '.join(at)}"
        )


def _with(state, index, value):
    return (*state[:index], value, *state[index + 1 :])
