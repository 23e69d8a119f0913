"""All interleavings of the real RobustRWLock code of several processes, one of them with several threads.

A global state: who has M (process and thread), permits of `drained`, the flag, the reader words, what has happened to
whom, and where each process stands (rw_automaton.py). Checked at every state: no writer in the section beside a reader
or another writer, both alive; and at the end: from every state all who live can finish without another misfortune.
"""

from collections import deque

from tests.core import rw_automaton as a
from XME._core.recovery import INCARNATION_SHIFT


class ViolationError(AssertionError):
    """The code under test broke a promise."""


class Explorer:
    """One search: how many threads each process has, how many rounds a thread does, and how many misfortunes happen."""

    def __init__(self, code, threads, rounds, crashes=0, exceptions=0, reuses=0):
        self.count = len(threads)
        self.budget = (crashes, exceptions, reuses)
        self.automaton = a.Automaton(code, threads, rounds)
        self.seen = {}

    # state: (M's owner or None, permits, flag, words, places, incarnations, misfortunes)

    def initial(self):
        incarnations = tuple(range(1, 1 + self.count))
        places = tuple(self.automaton.start(k, incarnations[k]) for k in range(self.count))
        return (None, 0, 0, (0,) * self.count, places, incarnations, (0, 0, 0))

    def is_dead(self, state, number, incarnation):
        return state[4][number] < 0 or (incarnation >= 0 and state[5][number] != incarnation)

    def effects(self, state, who, thread, question):
        """All (answer, state after it) that an operation can have now; none if it waits."""
        owner, permits, flag, words, *rest = state
        kind = question[0]
        if kind == a.TAKE:
            if owner is None or self.is_dead(state, owner[0], owner[2]):
                yield True, ((who, thread, state[5][who]), permits, flag, words, *rest)
        elif kind == a.GIVE:
            yield None, (None, permits, flag, words, *rest)
        elif kind == a.LOAD:
            yield words[question[1]], state
        elif kind == a.STORE:
            index = question[1]
            if index != who and words[index] and not self._is_dead_word(state, index):
                raise ViolationError(f"{who} clears the word of {index}, who lives")
            yield None, (owner, permits, flag, (*words[:index], question[2], *words[index + 1 :]), *rest)
        elif kind == a.LOOK:
            yield not any(words), state
        elif kind == a.FLAG:
            yield flag, state
        elif kind == a.SET_FLAG:
            yield None, (owner, permits, question[1], words, *rest)
        elif kind == a.IS_DEAD:
            yield self.is_dead(state, question[1], question[2]), state
        elif kind == a.WAIT:
            if permits:
                yield True, (owner, permits - 1, flag, words, *rest)
            yield False, state
        elif kind == a.HINT:
            yield None, (owner, 1, flag, words, *rest)
        elif kind == a.LOCAL:
            if self.automaton.local_owners[state[4][who]] is None:
                yield None, state
        elif kind == a.CHOOSE:
            yield a.READ, state
            yield a.WRITE, state
        elif kind in {a.UNLOCAL, a.SECTION}:
            yield None, state

    def _is_dead_word(self, state, number):
        return self.is_dead(state, number, state[3][number] >> INCARNATION_SHIFT)

    def moves(self, state):
        for who in range(self.count):
            place = state[4][who]
            if place < 0:
                continue
            for thread, question in enumerate(self.automaton.questions[place]):
                for answer, after in self.effects(state, who, thread, question):
                    yield self._placed(after, who, self.automaton.next(place, thread, answer))

    @staticmethod
    def _placed(state, who, place):
        places = state[4]
        return (*state[:4], (*places[:who], place, *places[who + 1 :]), *state[5:])

    def misfortunes(self, state):
        crashes, exceptions, reuses = state[6]
        for who in range(self.count):
            place = state[4][who]
            if place < 0:
                if reuses < self.budget[2]:
                    yield self._born_again(state, who)
                continue
            if crashes < self.budget[0] and any(q[0] != a.DONE for q in self.automaton.questions[place]):
                yield (*self._placed(state, who, -1)[:6], (crashes + 1, exceptions, reuses))
            if exceptions < self.budget[1]:
                yield from self._struck(state, who, place)

    def _struck(self, state, who, place):
        crashes, exceptions, reuses = state[6]
        for thread, question in enumerate(self.automaton.questions[place]):
            if question[0] in {a.DONE, a.UNLOCAL, a.CHOOSE, a.SECTION}:
                continue
            struck = [("before", state)]
            if question[0] != a.LOCAL:
                struck += [("after", after) for _, after in self.effects(state, who, thread, question)]
            for when, after in struck:
                there = self.automaton.next(place, thread, (a.STRUCK, when))
                yield (*self._placed(after, who, there)[:6], (crashes, exceptions + 1, reuses))

    def _born_again(self, state, who):
        crashes, exceptions, reuses = state[6]
        incarnation = self.count + 1 + reuses
        incarnations = (*state[5][:who], incarnation, *state[5][who + 1 :])
        born = self._placed(state, who, self.automaton.start(who, incarnation))
        return (*born[:5], incarnations, (crashes, exceptions, reuses + 1))

    def run(self, limit=None):
        """Search everything; ViolationError with the way there. Returns self."""
        first = self.initial()
        self.seen = {first: None}
        back = {}
        good = []
        todo = deque([first])
        while todo:
            state = todo.popleft()
            self._check(state)
            if self._has_finished(state):
                good.append(state)
            try:
                moves = list(self.moves(state))
                others = list(self.misfortunes(state))
            except ViolationError as error:
                raise ViolationError(f"{error}\n{self.story(state)}") from None
            for after in moves:
                back.setdefault(after, []).append(state)
            for after in moves + others:
                if after not in self.seen:
                    self.seen[after] = state
                    todo.append(after)
            if limit is not None and len(self.seen) > limit:
                raise ViolationError(f"more than {limit:,} states")
        self._check_that_all_can_finish(good, back)
        return self

    def _kinds(self, state):
        for place in state[4]:
            if place >= 0:
                yield from self.automaton.questions[place]

    def _check(self, state):
        inside = [question[1] for question in self._kinds(state) if question[0] == a.SECTION]
        if a.WRITE in inside and len(inside) > 1:
            raise ViolationError(f"not excluded: {inside}\n{self.story(state)}")
        if any(question[0] == a.LEFT for question in self._kinds(state)):
            raise ViolationError(f"a thread has what it did not get\n{self.story(state)}")

    def _has_finished(self, state):
        return all(question[0] == a.DONE for question in self._kinds(state))

    def _check_that_all_can_finish(self, good, back):
        fine = set(good)
        todo = list(good)
        while todo:
            for source in back.get(todo.pop(), ()):
                if source not in fine:
                    fine.add(source)
                    todo.append(source)
        for state in self.seen:
            if state not in fine:
                raise ViolationError(f"somebody can never finish\n{self.story(state)}")

    def story(self, state, last=40):
        """The states that lead to this one, the last of them."""
        lines = []
        while state is not None and len(lines) < last:
            at = [
                "dead" if place < 0 else " ".join(a.NAMES[q[0]] + "".join(f" {part}" for part in q[1:])
                                                  for q in self.automaton.questions[place])
                for place in state[4]
            ]  # fmt: skip
            lines.append(f"M {state[0]} drained {state[1]} flag {state[2]} words {state[3]} | next: {' | '.join(at)}")
            state = self.seen[state]
        return "\n".join(reversed(lines))
