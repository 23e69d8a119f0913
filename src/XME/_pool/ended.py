"""Calls that have ended, by their first table: have all workers let go of their arguments?"""

from __future__ import annotations

import threading
from itertools import starmap

from XME._pool.crew import Crew
from XME._pool.warm import LetGo


class EndedCalls:
    """What is asked before the memory of a call's arguments is used again."""

    def __init__(self, crew: Crew, lock: threading.RLock) -> None:
        """Bind to a crew; `lock` is the dispatcher's."""
        self._crew = crew
        self._lock = lock
        self._calls: dict[int, range] = {}

    def add(self, calls: range) -> None:
        """Note that the tables of a call are off the board."""
        self._calls[calls.start] = calls

    def state(self, first_call: int) -> LetGo:
        """Say what is known; what is not NOT_YET is said once."""
        # Under the lock: between a death's burial and its being noted, nothing would speak against using it again.
        # Not waited for: who asks is sending, and whoever submits waits for that with the lock in his hands.
        held: list[bool] = []
        try:
            # In one call of C code: a Ctrl-C must not strike with the lock in nobody's hands.
            held.extend(starmap(self._lock.acquire, [(False,)]))
            if not held[0]:
                return LetGo.NOT_YET
            calls = self._calls.get(first_call)
            # None: a Ctrl-C struck after the answer, and before what it was about was put elsewhere.
            state = LetGo.NEVER if calls is None else self._crew.let_go(calls)
            if state is not LetGo.NOT_YET:
                self._calls.pop(first_call, None)
            return state
        finally:
            if True in held:
                self._lock.release()
