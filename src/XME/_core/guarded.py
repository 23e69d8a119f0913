"""The shared part of a Security: its lock, who holds it, and its settings, in one segment with two semaphores.

The payload, in 8-byte words::

    0                 magic
    1                 generation of the settings (twin.py)
    2                 flag of the reader-writer lock (rwlock.py)
    3                 since when it is held alone (ns since the epoch), 0: it is not; stored by the mutex's holder
    4                 tag of whoever signed last: incarnation << 27 | participant << 15 | a number of his process's
    5                 how often a holder was found dead
    6                 serial number of the second semaphore
    8                 words of the mutex: 1 + capacity
    9 + capacity      reader words: capacity
    then              words of who waits: capacity (waiting.py)
    then              the signature: what words 3 and 4 mean in words, 768 bytes of JSON
    then              the two records of the settings

Who enters signs, unless the signature is his already, and then stores since when; who leaves stores 0. So whoever
enters and finds word 3 not 0 knows that the holder before him died (or was interrupted on his way in), and who it was.
He leaves that word until he has signed: killed before, he leaves the dead one's name to the next; killed while he signs
(word 4 is 0), that somebody died; killed behind that, his own name.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
import time
import weakref
from collections.abc import Callable
from threading import get_ident

from XME._core import layout, memory, named, names, participant, segment
from XME._core.domain import Domain
from XME._core.guarded_mutex import GuardedMutex, Holder, Person
from XME._core.ledger import Kind
from XME._core.mutex import SLICE_S
from XME._core.recovery import INCARNATION_SHIFT
from XME._core.rwlock import DRAINING, RobustRWLock
from XME._core.semaphore import Semaphore
from XME._core.twin import TWIN_BYTES, TwinRecord
from XME._core.waiting import Waiting
from XME.errors import BadSegment, DomainEnded

_MAGIC = int.from_bytes(b"XMESEC\0\2", "little")
W_MAGIC, W_SETTINGS, W_FLAG, W_SINCE, W_WHO, W_DEATHS, W_HINT = range(7)
_MUTEX_AT = 8
_SIGNATURE_BYTES = 768
_NUMBER_SHIFT = 15
_LONGEST_TEXT = 40


class Guarded:
    """One such segment, as this process sees it; one object a process and segment.

    Attributes:
        domain, serial, name: where it is; its public name or None.
        words: all words up to the signature.
        mutex, lock, settings: see their classes.
    """

    __slots__ = (
        "__weakref__", "_semaphore", "_signature", "domain", "lock", "mutex", "name", "segment", "serial", "settings",
        "words",
    )  # fmt: skip

    def __init__(self, domain: Domain, block: segment.Segment, name: str | None) -> None:
        """Bind to a finished segment and open its semaphores."""
        self.domain, self.segment, self.serial, self.name = domain, block, block.serial, name
        capacity = domain.capacity
        self.words = words = block.words(0, _MUTEX_AT + 1 + 3 * capacity)
        if words[W_MAGIC] != _MAGIC:
            raise BadSegment.of(block.name, "it is no Security's")
        signature_at = 8 * len(words)
        self._signature = block.data[signature_at : signature_at + _SIGNATURE_BYTES]
        twins = block.data[signature_at + _SIGNATURE_BYTES : signature_at + _SIGNATURE_BYTES + TWIN_BYTES]
        self.settings = TwinRecord(domain, words[W_HINT], words[W_SETTINGS : W_SETTINGS + 1], twins)
        self._semaphore = Semaphore(names.name_of(domain.id, block.serial))
        readers_at = _MUTEX_AT + 1 + capacity
        waiting_at = readers_at + capacity
        waiting = Waiting(domain, words[waiting_at:])
        self.mutex = GuardedMutex(
            domain, words[_MUTEX_AT:readers_at], self._semaphore, block.serial, self.settings.word, waiting
        )
        self.mutex.label = f"Security {name!r}" if name else f"Security {block.serial}"
        drained = Semaphore(names.name_of(domain.id, words[W_HINT]))
        self.lock = RobustRWLock(self.mutex, words[W_FLAG : W_FLAG + 1], words[readers_at:waiting_at], drained)

    # -- the holder ------------------------------------------------------------------------------------------------

    def enter(self, person: Person) -> None:
        """Say who holds it from now on; the mutex has just been taken, and nobody reads."""
        words = self.words
        mutex = self.mutex
        mutex.died = self._inherit() if words[W_SINCE] else None
        self.sign(person)
        words[W_SINCE] = time.time_ns()
        mutex.by_readers = 0
        # The operator last: a signal handler in between must not take it for its own to give back.
        mutex.settled = 1
        mutex.operator = person

    def sign(self, person: Person) -> None:
        """Make the signature this person's, unless it is."""
        if person.thread != get_ident():
            person.tag = self._signer << _NUMBER_SHIFT | next(_numbers) & ((1 << _NUMBER_SHIFT) - 1)
            person.thread = get_ident()
        words = self.words
        if words[W_WHO] != person.tag:
            words[W_WHO] = 0
            who = participant.display_name(), os.getpid(), threading.current_thread().name, person.text
            text = json.dumps([str(part)[:_LONGEST_TEXT] for part in who], ensure_ascii=False).encode()
            self._signature[: len(text) + 1] = text + b"\0"
            words[W_WHO] = person.tag

    @property
    def _signer(self) -> int:
        """What the tags of this process's signatures begin with."""
        return self.domain.incarnation << INCARNATION_SHIFT - _NUMBER_SHIFT | self.domain.number

    def _inherit(self) -> Holder | None:
        dead = self.dead_holder()
        if dead is None:
            self.words[W_SINCE] = 0
        else:
            self.words[W_DEATHS] += 1
        return dead

    def dead_holder(self) -> Holder | None:
        """Return who held it alone and is dead, for one who has it; None if he left it, or somebody entered since."""
        since, tag = self.words[W_SINCE], self.words[W_WHO]
        # Who was only interrupted on his way in is no dead one.
        if not since or (tag and not self._is_of_dead(tag)):
            return None
        return self._signed() or Holder("?", 0, "?", "somebody", since / 1e9)

    def _is_of_dead(self, tag: int) -> bool:
        domain = self.domain
        number, incarnation = tag >> _NUMBER_SHIFT & (layout.CAPACITY_MAX - 1), tag >> INCARNATION_SHIFT
        if number >= domain.capacity:
            return False
        # He may be the dead one whose death is looked at once only: what says that he lives is to be true.
        return domain.is_dead(number, incarnation) or domain.is_found_dead(number, incarnation)

    def _signed(self) -> Holder | None:
        since, tag = self.words[W_SINCE], self.words[W_WHO]
        text = bytes(self._signature).partition(b"\0")[0]
        if not since or not tag or self.words[W_WHO] != tag:
            return None
        try:
            process, pid, thread, operator = json.loads(text)
        except ValueError:
            return None
        return Holder(process, int(pid), thread, operator, since / 1e9)

    def holder(self) -> Holder | None:
        """Return who holds it alone now, as far as can be seen from outside."""
        return self._signed() if self.mutex.holders() else None

    def waiting(self) -> int:
        """Return how many threads wait for it; see Waiting.count."""
        states, draining = self.mutex._words[1:], self.words[W_FLAG] == DRAINING
        return self.mutex.waiting.count(states, self._knower_of_the_dead(), draining=draining)

    def _knower_of_the_dead(self) -> Callable[[int, int], bool]:
        # Only a member of the domain can find that out; whoever comes too late to be one takes nobody for dead.
        with contextlib.suppress(DomainEnded):
            self.domain.require()
        return self.domain.is_dead if self.domain.joined else _nobody_is_dead

    def reading(self) -> int:
        """Return how many threads share it."""
        is_dead = self._knower_of_the_dead()
        return sum(count for number, incarnation, count in self.lock.readers() if not is_dead(number, incarnation))

    def fall_back(self, before: int = 0) -> None:
        """Give back what this thread has taken and no acquire has finished; done twice, it changes nothing.

        Args:
            before: how deep it was held when what failed began. In a signal handler, an acquire that it has interrupted
                may have taken it and not finished: that one's is not given back.
        """
        mutex = self.mutex
        mutex.waiting.leave()
        if not before and mutex.held and mutex.operator is None:
            mutex.settled = 0
        while mutex.depth > max(mutex.settled, before):
            if not mutex.settled and not before:
                self._withdraw()
                mutex.operator = None
            mutex.release()

    def _withdraw(self) -> None:
        # What somebody else has left there is for the next one, and so is a death of which nobody here has heard yet:
        # our name over it says nothing, as we live.
        words = self.words
        if words[W_WHO] >> _NUMBER_SHIFT == self._signer:
            words[W_SINCE if self.mutex.died is None else W_WHO] = 0
        self.mutex.died = None

    def fall_back_twice(self, before: int = 0) -> None:
        """Fall back also if a second exception strikes meanwhile."""
        try:
            self.fall_back(before)
        finally:
            self.fall_back(before)

    def leave(self) -> None:
        """Undo one acquire of the holder."""
        mutex = self.mutex
        if mutex.settled == 1:
            mutex.died = None
        mutex.settled -= 1
        if not mutex.settled:
            self.words[W_SINCE] = 0
            mutex.operator = None
        mutex.release()

    def wait_as(self, look_every_s: float, *, spins: bool) -> None:
        """Let waiters look again after so long at the latest, and first try for a while without sleeping, or not."""
        self.mutex.slice_s = min(SLICE_S, max(0.001, look_every_s))
        self.mutex.spins = spins

    # -- names -----------------------------------------------------------------------------------------------------

    def mark_handed(self) -> None:
        """Remember that another process may know it."""
        book = self.domain.names
        book.mark_handed(self.serial)
        book.mark_handed(self.words[W_HINT])

    def succeed(self, former: Guarded) -> None:
        """Take the place of another one, which nobody has: a dead holder who is known there is "somebody" here."""
        # It belongs to all who attach: its maker's leaving must not unlink it.
        self.mark_handed()
        self.words[W_DEATHS] = former.words[W_DEATHS]
        if former.dead_holder() is not None:
            self.words[W_SINCE] = former.words[W_SINCE]

    def unlink(self) -> None:
        """Take its names away, also if another process made them."""
        for serial in (self.serial, self.words[W_HINT]):
            self.domain.names.unlink(serial)
            memory.unlink(names.path_of(names.name_of(self.domain.id, serial)))
            memory.unlink(names.semaphore_path(names.name_of(self.domain.id, serial)))


def _nobody_is_dead(_number: int, _incarnation: int) -> bool:
    return False


_numbers = itertools.count()


def create(domain: Domain, settings: bytes, name: str | None = None) -> Guarded:
    """Make the shared part of a Security (some 200 us).

    Raises:
        SharedMemoryFull: there is no room.
        DomainEnded: the program that owns the domain has ended.
    """
    book = domain.names
    serial = book.enter(Kind.CONTAINER)
    # In the making until it is there: another thread takes back the places of names that belong to one and are gone.
    hint = book.enter(Kind.MAKING, serial)
    try:
        # The semaphores first: who finds the segment finds them too.
        Semaphore.create(names.name_of(domain.id, serial), 1)
        Semaphore.create(names.name_of(domain.id, hint), 0)
        block = segment.make(domain, serial, *_payload(domain, hint, settings))
    except BaseException:
        book.unlink(serial)
        book.unlink(hint)
        raise
    book.confirm(serial)
    book.confirm(hint)
    book.make_public(hint, Kind.CONTAINER, serial)
    segment.remember(block)
    weakref.finalize(block, book.note_drop, hint).atexit = False
    return _kept(Guarded(domain, block, name))


def _payload(domain: Domain, hint: int, settings: bytes) -> tuple[int, Kind, memoryview]:
    count = _MUTEX_AT + 1 + 3 * domain.capacity
    begin = bytearray(8 * count + _SIGNATURE_BYTES + TWIN_BYTES)
    words = memoryview(begin)[: 8 * _MUTEX_AT].cast("Q")
    words[W_MAGIC], words[W_HINT] = _MAGIC, hint
    first = TwinRecord.first(settings)
    at = 8 * count + _SIGNATURE_BYTES
    begin[at : at + len(first)] = first
    return len(begin), Kind.CONTAINER, memoryview(begin)


def _kept(guarded: Guarded) -> Guarded:
    _guarded[guarded.domain.id, guarded.serial] = guarded
    if guarded.name is not None:
        named.hold(guarded.domain, guarded)
    return guarded


def attach(domain: Domain, serial: int, name: str | None) -> Guarded:
    """Return this process's view of the shared part of a Security.

    Raises:
        ContainerGone: it was unlinked.
        DomainEnded: the program that owns it has ended.
        BadSegment: the segment is something else, or damaged.
    """
    with _lock:
        found = _guarded.get((domain.id, serial))
        return found or _kept(Guarded(domain, segment.attach(domain, serial), name))


def find(domain_id: str, serial: int) -> Guarded | None:
    """Return the view that this process has, or None."""
    return _guarded.get((domain_id, serial))


_guarded: weakref.WeakValueDictionary[tuple[str, int], Guarded] = weakref.WeakValueDictionary()
# Reentrant: a signal handler may unpickle a Security.
_lock = threading.RLock()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    for guarded in list(_guarded.values()):
        guarded.settings.renew_lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
