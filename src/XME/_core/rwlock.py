"""RobustRWLock: shared readers or one writer, and neither a dead reader nor a dead writer stops the others.

One RobustMutex M, one word for each participant, a flag, and a semaphore that is only a hint::

    reader words[k]   incarnation (37 bits) << 27 | number of threads of participant k that read (27 bits); 0: none
    flag[0]           NOBODY, READING (somebody may) or DRAINING (a writer waits for readers); stored by M's holder only
    drained           posted by the last reading thread of a process, if a writer waits

    acquire_write   take M and keep it; pass the words once, waiting at each until it is 0 or its writer is dead (dead
                    ones are cleared); flag = NOBODY
    release_write   release M
    acquire_read    take M; flag = READING; raise the own word; release M
    release_read    lower the own word, without M; was it the last, and flag is DRAINING: post `drained`

Words rise only under M, so the writer, who has it, passes them once, and waiting writers keep new readers out. Only
M's holder clears a dead one's word: anybody else could clear that of a successor with the same number. M's own recovery
touches no reader word. A thread that reads already reads again without M, or it would wait behind the writer that
waits for it; a thread that reads and asks to write would wait for itself, and gets a Deadlock at once.
"""

from __future__ import annotations

import threading
import time
from threading import get_ident
from typing import Any

from XME._core.deadlock import SHARED, Wait, of_this_thread
from XME._core.handles import handles
from XME._core.mutex import RobustMutex, slice_of
from XME._core.recovery import INCARNATION_SHIFT, is_over
from XME.errors import DomainEnded, MutexError

NOBODY, READING, DRAINING = range(3)
_COUNT_MASK = (1 << INCARNATION_SHIFT) - 1
# Readers have the mutex for some microseconds each; who loses the GIL or his core meanwhile, for longer.
_ENTERING_S = 0.002


class RobustRWLock:
    """A reader-writer lock between processes and threads that no ``kill -9`` leaves taken; reentrant on both sides.

    The writer may also read. Cost: writing costs a pair of the mutex, reading one and a half.
    """

    __slots__ = (
        "__weakref__", "_base", "_drained", "_flag", "_foreign", "_local", "_mine", "_party", "_readers", "_serial",
        "_words", "_zeros", "mutex",
    )  # fmt: skip

    def __init__(self, mutex: RobustMutex, flag: Any, words: Any, drained: Any) -> None:
        """Bind a lock to its mutex, a word for the flag, a word for each participant, and the hint's semaphore."""
        self.mutex = mutex
        self._party = mutex._party
        self._serial = mutex._serial
        self._flag = flag
        self._words = words
        self._drained = drained
        self._zeros = bytes(8 * len(words))
        self._foreign = 0
        self._forget()
        handles.add(self)

    def _forget(self) -> None:
        # Who reads in each thread of this process, once for each time. The lock: under it that and the word change.
        self._readers: dict[int, list[Any]] = {}
        self._local = threading.RLock()
        self._mine = -1
        self._base = 0

    # -- writing ---------------------------------------------------------------------------------------------------

    def acquire_write(self, timeout_s: float | None = None, purpose: Any = None) -> bool:
        """Take the lock alone; the thread that has it so may take it again.

        Args:
            timeout_s: how long to wait, in seconds; None waits for ever, 0 only tries.
            purpose: see RobustMutex.acquire.

        Returns:
            True if it is held now, False if the time ran out.

        Raises:
            Deadlock: this thread reads, or it and others wait for each other in a circle.
            DomainEnded: the program that owns the lock has ended.
        """
        mutex = self.mutex
        depth = mutex.depth
        if not depth and get_ident() in self._readers:
            raise of_this_thread(f"{self.title()} for reading", f"{self.title()} for writing")
        deadline = timeout_s and time.monotonic() + timeout_s
        try:
            if not mutex.acquire(timeout_s, purpose):
                return False
            if depth or not self._flag[0] or self.drain(deadline, purpose):
                return True
            mutex.release()
        except BaseException:
            try:
                self._fall_back(depth)
            finally:
                self._fall_back(depth)
            raise
        return False

    def release_write(self) -> None:
        """Give the lock back.

        Raises:
            MutexError: this thread does not hold it alone.
        """
        self.mutex.release()

    def _fall_back(self, depth: int) -> None:
        while self.mutex.depth > depth:
            self.mutex.release()

    def drain(self, deadline: float | None, purpose: Any) -> bool:
        """Wait, holding M, until nobody reads any more; False if the time ran out."""
        if self._words.tobytes() == self._zeros:
            self._flag[0] = NOBODY
            return True
        if self._local._is_owned():  # type: ignore[attr-defined] # threading.Condition uses it
            msg = (
                "a signal handler wants alone what its own thread is just beginning or ceasing to read: set a flag in "
                "the handler, and take the lock in the main flow"
            )
            raise MutexError(msg)
        self._flag[0] = DRAINING
        # A barrier; see _lower_word.
        with self._local:
            pass
        wait = None
        number = 0
        capacity = len(self._words)
        while number < capacity:
            word = self._words[number]
            if not word:
                number += 1
            elif self._party.is_dead(number, word >> INCARNATION_SHIFT):
                self._words[number] = 0
            elif is_over(deadline):
                return wait is not None and wait.given_up()
            elif self._party.ended:
                raise DomainEnded.of(str(getattr(self._party, "id", "")))
            elif not self._drained.wait(slice_of(deadline, self.mutex.slice_s)):
                wait = wait or self._new_wait(purpose)
                if not wait.goes_on():
                    return wait.given_up()
        if wait is not None:
            wait.end()
        self._flag[0] = NOBODY
        return True

    def _new_wait(self, purpose: Any) -> Wait:
        wait = self.mutex.new_wait(purpose)
        wait.turn_to(self, SHARED)
        return wait

    # -- reading ---------------------------------------------------------------------------------------------------

    def acquire_read(self, timeout_s: float | None = None, purpose: Any = None, reader: Any = None) -> bool:
        """Take the lock beside other readers; the thread that reads or writes may take it again.

        Args:
            timeout_s: how long to wait, in seconds; None waits for ever, 0 only tries (2 ms at most: another reader who
                is just on his way in or out does not refuse this one).
            purpose: see RobustMutex.acquire.
            reader: on whose behalf; to be given to release_read as well.

        Returns:
            True if it is held now, False if the time ran out.

        Raises:
            Deadlock: this thread and others wait for each other in a circle.
            DomainEnded: the program that owns the lock has ended.
        """
        me = get_ident()
        readers = self._readers
        if me in readers:
            return self._share_again(readers[me], reader)
        mutex = self.mutex
        # What `mutex.depth` says, with fewer calls.
        depth = mutex._count if mutex._phase and mutex._local._is_owned() else 0
        try:
            if not mutex.acquire(_ENTERING_S if timeout_s == 0 else timeout_s, purpose):
                return False
            with self._local:
                if self._mine < 0:
                    self._learn()
                readers[me] = [reader]
                # The flag first: a writer that finds it 0 looks at no word.
                self._flag[0] = READING
                self._words[self._mine] = self._base | len(readers)
            mutex.release()
        except BaseException:
            try:
                self._undo_read(me, depth)
            finally:
                self._undo_read(me, depth)
            raise
        return True

    def _share_again(self, mine: list[Any], reader: Any) -> bool:
        shares = len(mine)
        try:
            mine.append(reader)
            return True
        except BaseException:
            del mine[shares:]
            raise

    def _learn(self) -> None:
        self._base = self._party.incarnation << INCARNATION_SHIFT
        self._mine = self._party.number

    def _undo_read(self, me: int, depth: int) -> None:
        self._lower_word(me)
        self._fall_back(depth)

    def _lower_word(self, me: int) -> None:
        # The word is always made from the table, so that doing this twice changes nothing.
        with self._local:
            self._readers.pop(me, None)
            count = len(self._readers)
            if self._mine >= 0:
                self._words[self._mine] = self._base | count if count else 0
        # Freeing the lock has made the store visible before this look, as has the writer between his store and his
        # look at the words; else both could miss each other, and he would sleep until his slice is over.
        if self._flag[0] == DRAINING and not count:
            self._drained.hint()

    def release_read(self, reader: Any = None) -> None:
        """Give one's share back; in a fork's child, leaving a block that was entered before the fork does nothing.

        Raises:
            MutexError: this thread does not read on that behalf.
        """
        if not self.drop_share(reader):
            if not self._foreign:
                msg = "release_read() by a thread that does not read: acquire_read() first, in the same thread"
                raise MutexError(msg)
            self._foreign -= 1

    def drop_share(self, reader: Any) -> bool:
        """Give one's share back; False if this thread does not read on that behalf."""
        me = get_ident()
        readers = self._readers
        mine = readers.get(me)
        if mine is None or reader not in mine:
            return False
        if len(mine) > 1:
            return self._share_less(mine, reader)
        try:
            # _lower_word without the call.
            with self._local:
                del readers[me]
                self._words[self._mine] = self._base | len(readers) if readers else 0
            if self._flag[0] == DRAINING:
                self._drained.hint()
        except BaseException:
            try:
                self._lower_word(me)
            finally:
                self._lower_word(me)
            raise
        return True

    def _share_less(self, mine: list[Any], reader: Any) -> bool:
        shares = len(mine)
        try:
            mine.remove(reader)
            return True
        except BaseException:
            if len(mine) == shares:
                mine.remove(reader)
            raise

    def drop_shares(self, left: int) -> None:
        """Give this thread's last shares back, until so many are left."""
        mine = self._readers.get(get_ident(), [])
        while len(mine) > left and self.drop_share(mine[-1]):
            pass

    # -- looking ---------------------------------------------------------------------------------------------------

    @property
    def reads(self) -> bool:
        """True if this thread reads."""
        return get_ident() in self._readers

    @property
    def shares(self) -> int:
        """How often this thread reads."""
        return len(self._readers.get(get_ident(), ()))

    @property
    def writes(self) -> bool:
        """True if this thread has the lock alone."""
        return self.mutex.held

    def title(self) -> str:
        """Return how messages call it."""
        return self.mutex.label or f"reader-writer lock {self._serial}"

    def readers(self) -> list[tuple[int, int, int]]:
        """Return (participant, incarnation, number of reading threads) of all who read; some may be dead."""
        found = [(number, word) for number, word in enumerate(self._words) if word]
        return [(number, word >> INCARNATION_SHIFT, word & _COUNT_MASK) for number, word in found]

    def holders_of(self, kind: str) -> list[tuple[int, int]]:
        """Return the participants, and their incarnations, that read."""
        return [(number, incarnation) for number, incarnation, _ in self.readers()] if kind == SHARED else []

    def kinds_held(self) -> str:
        """Return the kinds of hold (see deadlock.py) that the calling thread has beside that on the mutex."""
        return SHARED if self.reads else ""

    def __repr__(self) -> str:
        """Say who reads, and how the mutex is."""
        reading = sum(count for _, _, count in self.readers())
        return f"<RobustRWLock {self._serial}: {reading} reading, {self.mutex!r}>"

    # -- leaving ---------------------------------------------------------------------------------------------------

    @property
    def is_used(self) -> bool:
        """True while a thread of this process reads."""
        return bool(self._readers)

    @property
    def is_used_here(self) -> bool:
        """True if only the calling thread does."""
        return self._readers.keys() == {get_ident()}

    def unlearn(self) -> None:
        """Forget which word is ours, if none is raised."""
        with self._local:
            if not self._readers:
                self._mine = -1

    def lose(self) -> None:
        """Forget what is read: the process has forked, or leaves the party. The word is the parent's, or dead."""
        self._foreign += len(self._readers.get(get_ident(), ()))
        self._forget()
