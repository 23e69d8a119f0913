"""Calls that have ended, by their first table: have all workers let go of their arguments?"""

from __future__ import annotations

import threading

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
        with self._lock:
            calls = self._calls.get(first_call)
            # None: a Ctrl-C struck after the answer, and before what it was about was put elsewhere.
            state = LetGo.NEVER if calls is None else self._crew.let_go(calls)
            if state is not LetGo.NOT_YET:
                self._calls.pop(first_call, None)
            return state
