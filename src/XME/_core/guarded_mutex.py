"""The mutex of a Security: on whose behalf it is held, how often, and how long its waiters spin before they sleep."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

from XME._core.deadlock import Wait
from XME._core.mutex import RobustMutex
from XME._core.recovery import Party
from XME._core.semaphore import Busy
from XME._core.waiting import Waiting

# A SPIN lock's turns without sleeping (some 0.1 us each), and the turns that let others run. Alone on a core, the
# holder could not go on meanwhile.
_SPINS = 1000 if (os.cpu_count() or 1) > 1 else 0
_YIELDS = 20
# With more processes than cores a single yield can take milliseconds, and a dead holder goes unnoticed meanwhile.
_YIELD_S = 0.001


@dataclass(frozen=True)
class Holder:
    """Who has (or had) a lock: process name, pid, thread name, operator, and since when (seconds since the epoch)."""

    process: str
    pid: int
    thread: str
    operator: str
    since: float

    def __str__(self) -> str:
        """Say it in words."""
        since = time.strftime("%H:%M:%S", time.localtime(self.since))
        return f"{self.operator} in process {self.process} (pid {self.pid}, thread {self.thread}) since {since}"


class Person:
    """An operator in this process: its canonical bytes, its text, and the tag under which it signed last."""

    __slots__ = ("key", "tag", "text", "thread")

    def __init__(self, key: bytes, text: str) -> None:
        self.key = key
        self.text = text
        self.tag = 0
        # The thread for which the tag was made; 0: it must be made anew.
        self.thread = 0

    def __str__(self) -> str:
        return self.text


class JudgeAnewError(Exception):
    """The settings have changed: who waits may not have to any more."""


class _GuardedWait(Wait):
    """A wait that ends also when the settings change."""

    def __init__(self, mutex: GuardedMutex, purpose: tuple[Person, int]) -> None:
        super().__init__(mutex, operator=purpose[0].text)
        self._word = mutex.settings
        self._waiting = mutex.waiting
        self._judged = purpose[1]

    def goes_on(self) -> bool:
        # At each slice: a signal handler's own wait for the same lock may have ended this thread's entry.
        self._waiting.enter()
        if self._word[0] != self._judged:
            self.error = JudgeAnewError()
            return False
        return super().goes_on()

    def end(self) -> None:
        self._waiting.leave()
        super().end()


class GuardedMutex(RobustMutex):
    """The mutex of a Security; knows on whose behalf it is held, and how often that was finished.

    Attributes:
        settled: how many acquires of the holder have returned; what is held beyond that is given back by `fall_back`.
        by_readers: how many of those came as readers, under a lock type that does not share.
        died: the holder before this one, if he was found dead; until the lock is left.
        spins: whether a waiter tries for long before it sleeps, as the type SPIN has it.
        waiting: who waits for the lock.
    """

    __slots__ = ("by_readers", "died", "people", "settings", "settled", "spins", "waiting")

    def __init__(
        self, party: Party, words: Any, semaphore: Any, serial: int, settings: Any, waiting: Waiting
    ) -> None:
        """Bind; `settings` is a view of the word that changes with the settings."""
        self.people: dict[bytes, Person] = {}
        self.waiting = waiting
        self.settings = settings
        self.spins = False
        super().__init__(party, words, semaphore, serial)

    def _forget(self) -> None:
        super()._forget()
        self.settled = self.by_readers = 0
        self.operator = None
        self.died: Holder | None = None
        self.waiting.forget()
        self._disown_tags()

    def unlearn(self) -> None:
        """Let the next acquire join anew, and sign anew."""
        super().unlearn()
        self._disown_tags()

    def _disown_tags(self) -> None:
        for person in list(self.people.values()):
            person.thread = 0

    def _spin(self) -> bool:
        if super()._spin():
            return True
        if not self.spins:
            return False
        if self._try_often(_SPINS):
            return True
        limit = time.monotonic() + _YIELD_S
        for _ in range(_YIELDS):
            os.sched_yield()
            if self._try_often(1):
                return True
            if time.monotonic() >= limit:
                break
        return False

    def _try_often(self, turns: int) -> bool:
        is_free = self._semaphore.is_free
        for _ in range(turns):
            if is_free():
                try:
                    self._grab(0)
                except Busy:
                    continue
                return True
        return False

    def new_wait(self, purpose: Any) -> Wait:
        """Return what looks, after each slice, whether to wait on."""
        return _GuardedWait(self, purpose) if purpose else super().new_wait(purpose)
