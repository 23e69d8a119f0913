"""RobustMutex: a mutex that survives its holder.

A named semaphore is fast and has no owner: a killed holder leaves it taken for ever. RobustMutex adds an owner that can
be proved dead, and a recovery that cannot make two mutexes of one. In shared memory, 8 bytes each, all-zero at first::

    words[0]        epoch; odd while a recovery runs
    words[1 + k]    state word of participant k; 0 is IDLE, else
                    bits 0-2 state | bits 3-26 epoch (24 bits) | bits 27-63 incarnation (37 bits)
    semaphore S     value 1

A state word is *dead* when it is not IDLE and its incarnation is not its row's, its writer is dead, or it is ABANDONED.

    acquire   e = epoch; odd, or my own word is not IDLE -> recover first
              word = TRYING; epoch != e -> word = IDLE, start again
              S.wait(slice); epoch != e -> what I took is void: word = IDLE, start again
              word = HOLDING
    release   word = RELEASING; S.post; word = IDLE
    recover   (by a waiter whose slice ran out, and who finds a dead word) word = IDLE; take the recovery lock, look
              again; epoch odd; let every store drain; pass everyone once, waiting for whoever is alive and TRYING or
              RELEASING; then in a second pass see who is HOLDING and which words are dead; nobody alive HOLDING ->
              drain S, post one; clear the words seen dead in the second pass; epoch even; free the recovery lock

The intent is stored before the semaphore is taken, so a death between the two is seen. An exception inside acquire or
release (Ctrl-C) stores ABANDONED and goes on; whoever wants the mutex next recovers it. A recoverer that dies leaves
the epoch odd and the recovery lock free, and the next one finishes. Threads of one process pass an RLock first, which
also makes the mutex reentrant. The technique of an owner record with robust recovery is that of POSIX robust mutexes
(pthread_mutex_consistent(3)) and of Golab and Ramaraju, "Recoverable mutual exclusion", PODC 2016.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Self

from XME._core.deadlock import Wait
from XME._core.handles import handles as _handles
from XME._core.handles import recursion_count as _recursion_count
from XME._core.looks import FREE, HELD, LEAVING, TAKING, Looks
from XME._core.recovery import (
    ABANDONED,
    EPOCH,
    EPOCH_SHIFT,
    HOLDING,
    IDLE,
    INCARNATION_SHIFT,
    RELEASING,
    TRYING,
    Party,
    Recoverable,
    is_over,
)
from XME._core.semaphore import Busy
from XME.errors import DomainEnded, MutexError

__all__ = ["FREE", "RobustMutex"]

# How long a waiter sleeps before it looks for dead words. It bounds the recovery, which waits for others' slices too;
# at 25 ms a waiter costs about 0.1 % of a core.
SLICE_S = 0.025
_ABANDON_TRIES = 1000
# Each look takes about 0.1 us. On one core the holder could not go on meanwhile.
SPINS = 100 if (os.cpu_count() or 1) > 1 else 0


class RobustMutex(Looks, Recoverable):
    """A reentrant mutex between processes that a ``kill -9`` of its holder does not leave taken.

    Cost: about 1.3 us a pair when nobody else wants it. After the death of its holder it can be had again within
    200 ms, while nobody that is on his way in or out of it is stopped or kept off the GIL.

    A Ctrl-C inside acquire or release leaves it recoverable. One that strikes before the first instruction of release
    (also at the end of a ``with`` block) leaves it held by this thread, as with every lock written in Python: release
    it again.
    """

    __slots__ = (
        "__weakref__", "_abandoned", "_count", "_ended", "_epoch", "_foreign", "_grab", "_holding", "_local", "_mine",
        "_phase", "_purpose", "_releasing", "_trying", "_wait", "label", "operator",
        "slice_s",
    )  # fmt: skip

    # How messages call it, on whose behalf it is held, and how long a waiter sleeps before it looks: the owner may say.
    label: str | None
    operator: Any
    slice_s: float

    def __init__(self, party: Party, words: Any, semaphore: Any, serial: int) -> None:
        """Bind a mutex to its words and semaphore; `words` has 1 + capacity items of 64 bits."""
        self._party = party
        self._words = words
        self._semaphore = semaphore
        self._serial = serial
        self._grab = semaphore.acquire
        self._post = semaphore.release
        self._ended = party.ended_words
        self._foreign = self.recoveries = 0
        self.label = self.operator = None
        self.slice_s = SLICE_S
        self._forget()
        _handles.add(self)

    def _forget(self) -> None:
        self._local = threading.RLock()
        self._phase = FREE
        self._count = 0
        self._wait: Wait | None = None
        self._purpose: Any = None
        self._recovering = False
        # Not joined, and no epoch learnt: the next acquire takes the long way.
        self._mine = -1
        self._epoch = -1
        self._trying = self._holding = self._releasing = self._abandoned = 0

    # -- taking ----------------------------------------------------------------------------------------------------

    def acquire(self, timeout_s: float | None = None, purpose: Any = None) -> bool:
        """Take the mutex; the thread that has it may take it again.

        Args:
            timeout_s: how long to wait, in seconds; None waits for ever, 0 only tries.
            purpose: what new_wait is told, if it comes to waiting.

        Returns:
            True if it is held now, False if the time ran out.

        Raises:
            Deadlock: this thread and others wait for each other in a circle.
            DomainEnded: the program that owns the mutex has ended.
            MutexError: a signal handler wants what its own thread is in the middle of taking or releasing.
        """
        began = False
        deadline = timeout_s and time.monotonic() + timeout_s
        try:
            if not self._local.acquire(False) and not self._wait_local(deadline, purpose):
                return False
            if self._phase:
                self._enter_again()
                return True
            began = True
            self._phase = TAKING
            self._count = 1
            words = self._words
            mine = self._mine
            epoch = self._epoch
            # An epoch is only kept while the own word is surely IDLE: then this look is one look less.
            if words[0] == epoch and not self._ended[0]:
                words[mine] = self._trying
                if words[0] == epoch:
                    try:
                        self._grab(0)
                    except Busy:
                        self._purpose = purpose
                        if self._wait_turn(epoch, deadline):
                            self._phase = HELD
                            return True
                    else:
                        if words[0] == epoch:
                            words[mine] = self._holding
                            self._phase = HELD
                            return True
                words[mine] = IDLE
            return self._take_or_leave(deadline, purpose)
        except BaseException:
            try:
                self._undo(began)
            finally:
                self._undo(began)
            raise

    def _take_or_leave(self, deadline: float | None, purpose: Any) -> bool:
        self._purpose = purpose
        if self._take_slowly(deadline):
            self._phase = HELD
            return True
        wait, self._wait = self._wait, None
        self._phase = FREE
        self._count = 0
        self._local.release()
        return wait is not None and wait.given_up()

    def _wait_local(self, deadline: float | None, purpose: Any) -> bool:
        """Wait for another thread of this process to be done with the mutex."""
        wait = None
        while not self._local.acquire(timeout=slice_of(deadline, self.slice_s)):
            if wait is None:
                wait = self.new_wait(purpose)
            if is_over(deadline) or not wait.goes_on():
                return wait.given_up()
        if wait is not None:
            wait.end()
        return True

    def _enter_again(self) -> None:
        if self._phase != HELD:
            msg = (
                "a signal handler tried to take a mutex that its own thread is just taking or releasing: "
                "set a flag in the handler, and take the mutex in the main flow"
            )
            raise MutexError(msg)
        self._count += 1

    def _undo(self, began: bool) -> None:
        # Called twice, and the second time does nothing if the first was done: a second Ctrl-C may strike in between.
        # Once the local lock is given back, everything here is the next thread's.
        if not self._local._is_owned():
            return
        # What did not begin here is another acquire's of this thread, which goes on.
        if began:
            self._abandon()
        else:
            self._trim()

    def _take_slowly(self, deadline: float | None) -> bool:
        """Run the whole protocol until the mutex is held (True) or the time is over (False)."""
        party = self._party
        # Until number and incarnation are known, no word is ours: an exception must not store into one.
        self._epoch = self._mine = -1
        party.require()
        words = self._words
        while self._wait is None or self._wait.error is None:
            epoch = words[EPOCH]
            self._learn(epoch)
            mine = self._mine
            if epoch & 1 or words[mine] != IDLE:
                self._recover(deadline)
            else:
                words[mine] = self._trying
                if words[EPOCH] != epoch:
                    words[mine] = IDLE
                    continue
                if self._wait_turn(epoch, deadline):
                    return True
            if is_over(deadline):
                return False
            if party.ended:
                raise DomainEnded.of(str(getattr(party, "id", "")))
        return False

    def _wait_turn(self, epoch: int, deadline: float | None) -> bool:
        """Wait with the own word TRYING; True: held. False: the own word is IDLE, look at the epoch and the time."""
        words = self._words
        mine = self._mine
        semaphore = self._semaphore
        while True:
            taken = self._spin() or semaphore.wait(slice_of(deadline, self.slice_s))
            if words[EPOCH] != epoch:
                # What was taken belongs to an epoch that is over; the recoverer counts permits anew.
                words[mine] = IDLE
                return False
            if taken:
                words[mine] = self._holding
                if self._wait is not None:
                    self._end_wait()
                return True
            dead = self._find_dead()
            if dead or is_over(deadline) or self._party.ended or not self._makes_sense():
                words[mine] = IDLE
                if dead:
                    self._recover(deadline)
                return False

    def _makes_sense(self) -> bool:
        """Look, at the end of a slice, whether to wait on."""
        if self._wait is None:
            self._wait = self.new_wait(self._purpose)
        return self._wait.goes_on()

    def new_wait(self, _purpose: Any) -> Wait:
        """Return what looks, after each slice, whether to wait on: here, whether there is a deadlock."""
        return Wait(self)

    def _end_wait(self) -> None:
        wait, self._wait = self._wait, None
        if wait is not None:
            wait.end()

    def _spin(self) -> bool:
        """Try for a few microseconds without sleeping: most holders are done before a waiter could fall asleep."""
        grab = self._grab
        is_free = self._semaphore.is_free
        for _ in range(SPINS):
            if is_free():
                try:
                    grab(0)
                except Busy:
                    continue
                return True
        return False

    def _learn(self, epoch: int) -> None:
        """Take over number, incarnation and epoch into the ready-made state words."""
        party = self._party
        self._epoch = self._mine = -1
        if party.number < 0:
            # Another thread has left meanwhile: the word of number -1 would be the epoch.
            party.require()
        base = party.incarnation << INCARNATION_SHIFT | epoch << EPOCH_SHIFT
        self._trying = base | TRYING
        self._holding = base | HOLDING
        self._releasing = base | RELEASING
        self._abandoned = base | ABANDONED
        self._mine = 1 + party.number
        # Never an odd one: acquire would take its short way in the middle of a recovery, and the permit that it took
        # would be lost when the epoch becomes even. Nor beside a word that is not IDLE: that would be overwritten.
        self._epoch = epoch if not epoch & 1 and self._words[self._mine] == IDLE else -1

    # -- giving back -----------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Give the mutex back; in a fork's child, leaving a block that was entered before the fork does nothing.

        Raises:
            MutexError: this thread does not hold it.
        """
        local = self._local
        if self._phase != HELD or not local._is_owned():
            self._release_foreign()
            return
        try:
            if self._count > 1:
                self._count -= 1
                local.release()
                return
            self._phase = LEAVING
            words = self._words
            mine = self._mine
            words[mine] = self._releasing
            self._post()
            words[mine] = IDLE
            self._phase = FREE
            self._count = 0
            local.release()
        except BaseException:
            try:
                self._undo(self._phase != HELD)
            finally:
                self._undo(self._phase != HELD)
            raise

    def _release_foreign(self) -> None:
        if not self._foreign:
            msg = "release() by a thread that does not hold the mutex: acquire it first, in the same thread"
            raise MutexError(msg)
        self._foreign -= 1

    def _abandon(self) -> None:
        """Leave the mutex to whoever recovers it; a second exception does not end this."""
        for _ in range(_ABANDON_TRIES):
            try:
                if self._phase != FREE and self._mine > 0:
                    self._words[self._mine] = self._abandoned
                self._epoch = -1
                self._wait = None
                self._phase = FREE
                self._count = 0
                self._free_recovery_lock()
                self._trim()
            except BaseException:  # noqa: S112 - the first exception is the one that is re-raised
                continue
            return

    def _trim(self) -> None:
        """Give back the entries of the local lock that an exception left unaccounted for."""
        local = self._local
        # TAKING is stored before the count: a signal handler that strikes in between must not give back its own
        # thread's only entry.
        while local._is_owned() and _recursion_count(local) > max(self._count, self._phase != FREE):
            local.release()

    def __enter__(self) -> Self:
        """Take the mutex."""
        self.acquire()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Give the mutex back."""
        self.release()

    def unlearn(self) -> None:
        """Let the next acquire take the long way, which joins anew."""
        self._epoch = -1

    def lose(self) -> None:
        """Forget what is held: the process has forked, or leaves the party."""
        # It is the parent's now, or free; only the thread that forks or leaves can still leave its blocks here.
        if self._phase == HELD and self._local._is_owned():
            self._foreign += self._count
        self._forget()


def slice_of(deadline: float | None, longest: float = SLICE_S) -> float:
    """Return how long to sleep before looking again, in seconds."""
    return longest if deadline is None else max(0.0, min(longest, deadline - time.monotonic()))
