"""The ring of calls: who appends, who runs them, who waits, in one segment of raw shared memory.

The payload, in 8-byte words::

    0     slots: how many calls there may be that have not run
    1     tail: the number of the last call that was appended, or one less
    2     settled: the number of the last call that is done, or fewer
    3     1 while whoever runs calls sleeps: an append wakes him
    4     1 while functions run beside the guard (gfun)
    5     1 once anybody has beaten since the guard began
    6     how often a guard has begun since a call was settled last
    7     what `settled` was then
    8     1 if no guard will run what is in the ring
    9     when a guard began last, in seconds of the monotonic clock
    16    for each participant: the serial number of the semaphore on which he waits, 0 if he never did
    ...   for each participant: incarnation << 16 | how many hearts beat in him
    ...   the slots, 32 words each:
      0     number << 2 | state: the only word that says what becomes of a call
      1     who waits for its end: participant number + 1
      2     a hash of the operator
      3     lengths of function (16 bits), operator (16), keywords (31); the last bit: all three are a parcel
      4     their bytes

Call n lies in slot n mod slots. Its life, each step one store, and what a kill just behind it leaves::

    step                      by        under              killed: the next one ...
    body, words 1 to 3        caller    mutex `appending`  ... writes call n over it
    word = n, APPENDED        caller    mutex `appending`  ... finds tail behind, and goes on with n + 1; n is run
    tail = n                  caller    mutex `appending`  (acknowledged when append returns)
    word = n, STARTED         guard     mutex `running`    ... finds it STARTED (below)
    the function runs; failures, result, an object's commit: each a container's, whole or not there
    word = n, DONE            guard     mutex `running`    ... goes on with n + 1, also if the slot was used again
    settled = n               guard     mutex `running`

Whoever has `running` is the only one who runs calls, and the mutex is had after a death only when that is proved. So a
call that he finds STARTED is a dead one's: it is reported (a report is written first, keyed by the call's number), or,
if it is a method of a shared object, that says by the number in its last commit whether it was done. A slot is used
again when its call is DONE. Posts are hints: everybody who sleeps looks again after a slice.
"""

from __future__ import annotations

import struct
import threading
import time
from typing import Any

from XME._core import names, segment
from XME._core.deadlock import Wait, of_this_thread
from XME._core.domain import Domain
from XME._core.ledger import Kind
from XME._core.semaphore import Semaphore
from XME._core.shared_mutex import SharedMutex
from XME.errors import ContainerGone, DomainEnded

SLOTS = 1024
SLOT_WORDS = 32
BODY_AT = 32
BODY_BYTES = 8 * SLOT_WORDS - BODY_AT
APPENDED, STARTED, DONE = 1, 2, 3
PARCEL = 1 << 63
W_SLOTS, W_TAIL, W_SETTLED, W_ASLEEP, W_BESIDE, W_BEATS, W_STARTS, W_STARTED_AT, W_BROKEN, W_STARTED_WHEN = range(10)
_SEMAPHORES_AT = 16
# How long a waiter sleeps before it looks again, and how long it looks before it sleeps.
SLICE_S = 0.025
_SPIN_S = 20e-6
_HEAD = struct.Struct("<QQQ")


class Ring:
    """The ring as one process sees it.

    Attributes:
        appending, running: the mutexes.
        work: the semaphore on which whoever runs calls sleeps.
        words: the memory.
    """

    def __init__(
        self, domain: Domain, block: segment.Segment, appending: SharedMutex, running: SharedMutex, work: Semaphore
    ) -> None:
        self.domain = domain
        self.segment = block
        self.appending = appending
        self.running = running
        running.label = "the guard's turn to run calls"
        appending.label = "the call buffer"
        self.work = work
        self.words: Any = block.words()
        self._data = block.data
        self.slots: int = self.words[W_SLOTS]
        self._beats_at = _SEMAPHORES_AT + domain.capacity
        self.slots_at = self._beats_at + domain.capacity
        self._turn = threading.Lock()
        # The hearts of this process.
        self.beating: set[object] = set()
        self._mine: tuple[int, Semaphore] | None = None
        self._others: dict[int, Semaphore | None] = {}

    def forget(self) -> None:
        """In a fork's child: what its parent waits on is not its own, and neither are its hearts."""
        self._turn = threading.Lock()
        self.beating = set()
        self._mine = None

    def at(self, number: int) -> int:
        """Return where a call's slot begins, as an index of `words`."""
        return int(self.slots_at + number % self.slots * SLOT_WORDS)

    def is_done(self, number: int) -> bool:
        """True if a call that was appended is done."""
        word = self.words[self.at(number)]
        return bool(word >> 2 > number or word == number << 2 | DONE)

    def pending(self) -> range:
        """Return the numbers of all calls that are not done."""
        return range(self._settled() + 1, self._last() + 1)

    def _last(self) -> int:
        last = self.words[W_TAIL]
        # Killed between the two stores.
        if self.words[self.at(last + 1)] >> 2 == last + 1:
            last += 1
        return int(last)

    def _settled(self) -> int:
        settled = self.words[W_SETTLED]
        # Killed between the two stores; the slot may have been used again since.
        while self.is_done(settled + 1):
            settled += 1
        return int(settled)

    # -- appending -------------------------------------------------------------------------------------------------

    def append(self, operator_hash: int, lengths: int, body: bytes, parcels: Any, parcel: Any = None) -> int:
        """Append a call and return its number; waits while the ring is full.

        Args:
            operator_hash: see the module's table.
            lengths: likewise.
            body: function, operator and keywords; empty if they are a parcel.
            parcels: the shared dict that takes parcels.
            parcel: what does not fit into a slot.

        Raises:
            Deadlock: who runs the calls waits for what this thread holds, or is this thread.
        """
        words = self.words
        while True:
            with self.appending:
                number = words[W_TAIL] + 1
                at = self.slots_at + number % self.slots * SLOT_WORDS
                word = words[at]
                if word >> 2 == number:
                    number = self._last() + 1
                    at = self.at(number)
                    word = words[at]
                if not word or word == number - self.slots << 2 | DONE:
                    if parcel is not None:
                        parcels[number] = parcel
                    start = 8 * at + BODY_AT
                    self._data[start : start + len(body)] = body
                    words[at + 1], words[at + 2], words[at + 3] = 0, operator_hash, lengths
                    words[at] = number << 2 | APPENDED
                    words[W_TAIL] = number
                    break
            # Without the mutex: one of those who wait for room then appends many, and the others sleep on.
            self._await_room(number - self.slots)
        if words[W_ASLEEP]:
            self.wake()
        return int(number)

    def wake(self) -> None:
        """Wake whoever runs calls, if he sleeps."""
        self.words[W_ASLEEP] = 0
        self.work.hint()

    def _await_room(self, oldest: int) -> None:
        """Wait until a slot is free; better until a quarter is, so that one is not woken for each call."""
        self.wake()
        self.wait(oldest + self.slots // 4, None, enough=oldest)

    # -- waiting ---------------------------------------------------------------------------------------------------

    def wait(self, number: int, deadline: float | None, *, enough: int | None = None) -> bool:
        """Wait until a call is done (True) or the monotonic clock passes `deadline` (False).

        Args:
            number: which call.
            deadline: None for ever.
            enough: return after a slice if this one is done.

        Raises:
            Deadlock: who runs the calls waits for what this thread holds, or is this thread.
            DomainEnded: the program that owns the buffer has ended.
            RuntimeError: no guard is going to run it.
        """
        if self.is_done(number):
            return True
        if self.running.held:
            raise of_this_thread(self.running.title(), f"the end of call {number}, which comes later")
        wait = Wait(self.running)
        while True:
            done = self._doze(number, deadline)
            if done or (deadline is not None and time.monotonic() >= deadline):
                wait.end()
                return done
            if enough is not None and self.is_done(enough):
                wait.end()
                return True
            self._require_service()
            if not wait.goes_on():
                # Looked at again: it may have been done between the two looks.
                if self.is_done(number):
                    wait.end()
                    return True
                wait.given_up()

    def _require_service(self) -> None:
        if self.domain.ended:
            raise DomainEnded.of(self.domain.id)
        if self.words[W_BROKEN]:
            msg = "the guard has given up (gfun says why), so calls that were appended are not run: call gfun again"
            raise RuntimeError(msg)

    def _doze(self, number: int, deadline: float | None) -> bool:
        """Sleep for a slice at most, or until the call is done."""
        left = SLICE_S if deadline is None else max(0.0, min(SLICE_S, deadline - time.monotonic()))
        is_mine = False
        try:
            # One thread of a process after the other.
            is_mine = self._turn.acquire(timeout=left)
            if not is_mine:
                return self.is_done(number)
            if self._spin(number):
                return True
            semaphore = self._semaphore()
            self.words[self.at(number) + 1] = self.domain.number + 1
            if self.is_done(number):
                return True
            semaphore.wait(left)
            return self.is_done(number)
        finally:
            if is_mine:
                self._turn.release()

    def _spin(self, number: int) -> bool:
        end = time.perf_counter() + _SPIN_S
        while time.perf_counter() < end:
            if self.is_done(number):
                return True
        return False

    def _semaphore(self) -> Semaphore:
        domain = self.domain
        if self._mine is None or self._mine[0] != domain.incarnation:
            domain.require()
            at = _SEMAPHORES_AT + domain.number
            try:
                # That of a dead one who had this number.
                semaphore = Semaphore(names.name_of(domain.id, self.words[at]))
                semaphore.drain()
            except ContainerGone:
                self.words[at], semaphore = new_semaphore(domain)
            self._mine = domain.incarnation, semaphore
        return self._mine[1]

    def post(self, waiter: int) -> None:
        """Wake the participant that waits for a call (his number + 1)."""
        serial = self.words[_SEMAPHORES_AT + waiter - 1]
        if serial not in self._others:
            try:
                self._others[serial] = Semaphore(names.name_of(self.domain.id, serial))
            except ContainerGone:
                self._others[serial] = None
        semaphore = self._others[serial]
        if semaphore is not None:
            semaphore.hint()

    # -- hearts ----------------------------------------------------------------------------------------------------

    def begin_heart(self, heart: object) -> None:
        """Count a heart of this process."""
        self.domain.require()
        with _beats:
            self.beating.add(heart)
            self._tell_hearts()
        self.words[W_BEATS] = 1

    def end_heart(self, heart: object) -> None:
        """Count it no more; nothing happens if it was not counted."""
        self.domain.require()
        with _beats:
            self.beating.discard(heart)
            self._tell_hearts()

    def _tell_hearts(self) -> None:
        # How many there are, and not one more or less: after a Ctrl-C in between, that would be wrong for ever.
        domain = self.domain
        self.words[self._beats_at + domain.number] = domain.incarnation << 16 | len(self.beating)

    def hearts(self) -> int:
        """Return how many hearts beat in processes that are not provably dead."""
        words = self.words[self._beats_at : self._beats_at + self.domain.capacity].tolist()
        return sum(
            word & 0xFFFF
            for number, word in enumerate(words)
            if word & 0xFFFF and not self.domain.is_dead(number, word >> 16)
        )


# Threads of one process count in one word.
_beats = threading.Lock()


def renew_lock() -> None:
    """In a fork's child: a thread of the parent may have had the lock."""
    global _beats
    _beats = threading.Lock()


def new_semaphore(domain: Domain) -> tuple[int, Semaphore]:
    """Make a semaphore without permits; returns (serial number, semaphore)."""
    serial = domain.names.enter(Kind.CONTAINER)
    try:
        semaphore = Semaphore.create(names.name_of(domain.id, serial), 0)
    except BaseException:
        domain.names.unlink(serial)
        raise
    domain.names.confirm(serial)
    return serial, semaphore


def create(domain: Domain, slots: int) -> segment.Segment:
    """Make the memory of a ring."""
    words = _SEMAPHORES_AT + 2 * domain.capacity + slots * SLOT_WORDS
    block = segment.create(domain, 8 * words, Kind.CONTAINER)
    block.words()[W_SLOTS] = slots
    return block
