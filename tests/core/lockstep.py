"""Running the real code of several participants directly, one operation at a time, beside what was learnt of it."""

import queue
import random
import threading

from tests.core import automaton as a
from tests.core.explorer import WORDS, Explorer

PATIENCE_S = 20.0


class Participant:
    """A thread that runs the real code and waits before each operation for its answer."""

    def __init__(self, code, number, incarnation, participants, rounds):
        self._answers = queue.SimpleQueue()
        self._questions = queue.SimpleQueue()
        self._ended = False
        self._life = (code, number, incarnation, participants, rounds)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.question = self._questions.get(timeout=PATIENCE_S)

    def _run(self):
        code, number, incarnation, participants, rounds = self._life
        a.begin(code, self, number, incarnation, participants)
        try:
            a.live(self, rounds, None)
        except a.StopReplayError:
            pass

    def ask(self, question):
        if self._ended:
            if question[0] in {a.STORE, a.FREE}:
                return None
            raise a.StopReplayError
        self._questions.put(question)
        answer = self._answers.get(timeout=PATIENCE_S)
        if self._ended:
            raise a.StopReplayError
        if answer is a.STRUCK:
            raise KeyboardInterrupt
        return answer

    def answer(self, answer):
        """Let the thread go on to its next operation."""
        self._answers.put(answer)
        self.question = self._questions.get(timeout=PATIENCE_S)

    def end(self):
        """Let the thread go: nothing that it does from now on counts."""
        self._ended = True
        self._answers.put(None)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


def run(code, seed, participants=3, rounds=2, misfortunes=3, steps=400):
    """Follow one random schedule; AssertionError where the real code and the automaton part. Returns the questions."""
    dice = random.Random(seed)
    explorer = Explorer(code, participants, rounds, misfortunes, misfortunes, misfortunes)
    state = explorer.initial()
    asked = []
    with code.simulated():
        crew = [Participant(code, k, 1 + k, participants, rounds) for k in range(participants)]
        try:
            for _ in range(steps):
                step = _one_step(explorer, state, crew, dice)
                if step is None:
                    break
                state, who = step
                asked.append((who, crew[who].question))
                _compare(explorer, state, crew)
        finally:
            for participant in crew:
                participant.end()
    return asked


def _compare(explorer, state, crew):
    for who, participant in enumerate(crew):
        place = state[WORDS + explorer.count + who]
        if place >= 0:
            assert participant.question == explorer.automaton.questions[place]


def _one_step(explorer, state, crew, dice):
    choices = []
    for who in range(explorer.count):
        place = state[WORDS + explorer.count + who]
        if place >= 0:
            question = explorer.automaton.questions[place]
            effects = explorer.effects(state, who, question)
            choices += [(who, place, answer, after) for answer, after in effects]
    if not choices:
        return None
    who, place, answer, after = dice.choice(choices)
    if dice.random() < 0.04:
        return _misfortune(explorer, state, crew, dice)
    crew[who].answer(answer)
    here = WORDS + explorer.count + who
    return (*after[:here], explorer.automaton.next(place, answer), *after[here + 1 :]), who


def _misfortune(explorer, state, crew, dice):
    possible = list(explorer.misfortunes(state))
    if not possible:
        return state, 0
    who, after = dice.choice(possible)
    here = WORDS + explorer.count + who
    if after[here] < 0:
        crew[who].end()
    elif state[here] < 0:
        crew[who] = Participant(explorer.automaton.code, who, after[here + explorer.count], explorer.count,
                                explorer.automaton.rounds)  # fmt: skip
    else:
        crew[who].answer(a.STRUCK)
    return after, who
