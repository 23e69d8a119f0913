"""The first segment of a shared container: its root word, its mutex, and its first, small generation.

The payload, in 8-byte words::

    0     what it is: magic, layout version, kind (list, dict, object)
    1     the root word: generation << 32 | place of the last public record. Only this store publishes anything
    2, 3  the serial number of generation g's segment, at 2 + (g & 1); generation 0 lies in this segment
    4     1 once the container is unlinked: nobody may change it any more
    5     1 if plain lists and dicts that are put in become shared ones
    6     the mutex's epoch up to which everything that a dead writer left in flight is settled
    7     the serial number of the container that it belongs to, 0 if it stands for itself
    8     1 once some record has referred to segments or containers of its own
    9     in how many places of its parent it stands: 0, 1, or 2 for more; 3: its messages may have moved (Monitor)
    10    1 once it has been given a public name where it lies (publish)
    11    the mutex's words, one for each participant and one more; then generation 0

A generation's number is in its segment before the segment's serial number is here, and that is here before the root
names the generation. So whoever finds another number there has an old root, and reads it again.
"""

from __future__ import annotations

import functools
import os
import resource
import sys
import threading
import weakref
from collections import deque
from typing import Any

from XME._core import layout, names, segment
from XME._core.domain import Domain
from XME._core.idle_mutex import IdleMutex
from XME._core.ledger import Kind
from XME._core.semaphore import Semaphore
from XME._store import log
from XME._store.log import COMMIT, PLACE_MASK, Generation
from XME.errors import BadSegment, ContainerGone, DomainEnded

W_WHAT, W_ROOT, W_EVEN, W_ODD, W_GONE, W_NESTED, W_SETTLED, W_PARENT, W_REFERS, W_STORED, W_PUBLISHED = range(11)
MUTEX_AT = 11
LIST, DICT, OBJECT = 1, 2, 3
NAMES = {LIST: "list", DICT: "dict", OBJECT: "object"}

_MAGIC = 0x454D58 << 32
_VERSION = 2 << 8
_PAGE = 4096
# A home fits a page, with its semaphore's that is all that a small container takes; at least this much is for records.
_LEAST_RECORDS = 1024


def what(kind: int) -> int:
    """Return the first word of a container of this kind."""
    return _MAGIC | _VERSION | kind


@functools.cache
def _template(kind: int, capacity: int) -> bytes:
    """Return the payload of a new, empty container."""
    generation_at = _generation_at(capacity)
    least = segment.HEADER_BYTES + generation_at + _LEAST_RECORDS
    nbytes = -(-least // _PAGE) * _PAGE - segment.HEADER_BYTES
    payload = memoryview(bytearray(nbytes))
    slots, order = (0, 0) if kind == LIST else (32, 20)
    generation = log.lay_out(payload[generation_at:], 0, slots, order)
    first = generation.first
    generation.append(first, COMMIT, b"", b"", (0, 0, 0, 0, 0))
    words = payload.cast("Q")
    words[W_WHAT], words[W_ROOT] = what(kind), first
    return bytes(payload)


def _generation_at(capacity: int) -> int:
    return -(-8 * (MUTEX_AT + 1 + capacity) // log.UNIT) * log.UNIT


def _mutex_words(words: Any, domain: Domain) -> Any:
    return words[MUTEX_AT : MUTEX_AT + 1 + domain.capacity]


def _opened(home: weakref.ref[Home], domain: Domain, serial: int) -> tuple[Any, Any]:
    here = home()
    words = segment.attach_anew(domain, serial).words() if here is None else here.map()
    return _mutex_words(words, domain), Semaphore(names.name_of(domain.id, serial))


# Two objects of one mutex in one process would share a state word.
_mutexes: weakref.WeakValueDictionary[tuple[str, int], IdleMutex] = weakref.WeakValueDictionary()
_lock = threading.RLock()


class Home:
    """A shared container's first segment and what is mapped of the rest; one a process and container.

    Attributes:
        domain: the domain whose names its segments bear.
        serial: the serial number of the first segment and of the semaphore.
        kind: LIST, DICT or OBJECT.
        mutex: the container's; held by whoever changes it.
        words: the first segment's payload, None while nothing is mapped.
    """

    __slots__ = ("__weakref__", "_generation", "_recent", "domain", "kind", "mutex", "serial", "words")

    domain: Domain
    serial: int
    kind: int
    mutex: IdleMutex

    def set_up(self, domain: Domain, serial: int, kind: int) -> None:
        """Say which container this is; nothing is mapped yet."""
        self.domain = domain
        self.serial = serial
        self.kind = kind
        self.words: Any = None
        self._generation: Generation | None = None
        self._recent = True

    @property
    def segment_name(self) -> str:
        """The name of its first segment."""
        return names.name_of(self.domain.id, self.serial)

    # -- mapping ---------------------------------------------------------------------------------------------------

    def map(self) -> Any:
        """Return the words, mapped if they were not (some 20 us).

        Raises:
            ContainerGone: its name was unlinked.
            DomainEnded: the program that owns it has ended.
            BadSegment: it is damaged, or not a container of this kind.
        """
        words = self.words
        if words is None:
            words = self._bind(self._attached(self.serial))
            _make_room(self)
        self._recent = True
        return words

    def _attached(self, serial: int) -> segment.Segment:
        try:
            return segment.attach_anew(self.domain, serial)
        except DomainEnded:
            if self.domain.kind != layout.NAMED:
                raise
            raise ContainerGone.of(self.domain.label) from None

    def _bind(self, block: segment.Segment) -> Any:
        words = block.words()
        if block.nbytes < 64 or words[W_WHAT] != what(self.kind):
            raise BadSegment.of(self.segment_name, f"it is no shared {NAMES[self.kind]} of this version of XME")
        self.words = words
        return words

    def use_mutex(self) -> None:
        """Take this process's one object of the mutex, or make it; its semaphore is opened when it is first taken."""
        key = (self.domain.id, self.serial)
        with _lock:
            mutex = _mutexes.get(key)
            if mutex is None:
                reopen = functools.partial(_opened, weakref.ref(self), self.domain, self.serial)
                public_name = self.domain.label if self.domain.kind == layout.NAMED else None
                mutex = _mutexes[key] = IdleMutex(self.domain, self.serial, reopen, public_name)
            self.mutex = mutex

    def let_go(self) -> bool:
        """Let mappings and semaphore go; they come back when they are used. False if something is in use."""
        return self.mutex.let_go(self._forget_mapped)

    def _forget_mapped(self) -> bool:
        """Forget what is mapped, while no other thread is in the mutex; False if it is in use."""
        self.words = self._generation = None
        _lately.pop((self.domain.id, self.serial), None)
        return True

    # -- generations -----------------------------------------------------------------------------------------------

    def current(self) -> tuple[int, Generation]:
        """Return the root word and its generation.

        Raises:
            BadSegment: the segment of a public generation is missing or damaged.
        """
        words = self.words
        if words is None:
            words = self.map()
        root = words[W_ROOT]
        generation = self._generation
        if generation is not None and generation.number == root >> 32:
            return root, generation
        while True:
            found = self._attach(words, root)
            if found is not None:
                self.adopt(found)
                return root, found
            root, former = words[W_ROOT], root
            if root == former:
                return self._under_mutex(words)

    def _attach(self, words: Any, root: int) -> Generation | None:
        number = root >> 32
        try:
            data, keeper = self._memory_of(words, number)
        except ContainerGone:
            return None
        generation = Generation(data, keeper)
        if generation.number != number:
            return None
        if not generation.is_sound or not generation.first <= root & PLACE_MASK < generation.whole:
            raise BadSegment.of(self.segment_name, f"generation {number} of its records is damaged")
        return generation

    def _memory_of(self, words: Any, number: int) -> tuple[memoryview, Any]:
        if not number:
            return words.cast("B")[_generation_at(self.domain.capacity) :], words
        block = self._attached(words[W_EVEN + (number & 1)])
        return block.data, block

    def _under_mutex(self, words: Any) -> tuple[int, Generation]:
        """Look once more while nobody can change anything: what is missing now is missing for good."""
        if words[W_GONE]:
            raise ContainerGone.of(self.segment_name)
        with self.mutex:
            root = words[W_ROOT]
            found = self._attach(words, root)
        if found is None:
            if words[W_GONE]:
                raise ContainerGone.of(self.segment_name)
            raise BadSegment.of(self.segment_name, f"the segment of generation {root >> 32} of its records is missing")
        self.adopt(found)
        return root, found

    def adopt(self, generation: Generation) -> None:
        """Go on with a generation that is public now."""
        self._generation = generation
        lately = _lately.get((self.domain.id, self.serial))
        if lately is not None:
            lately.generation = generation if generation.data.nbytes <= _LATELY_BYTES else None

    # -- opened again ----------------------------------------------------------------------------------------------

    def _take_mapped(self) -> bool:
        """Take what the last handle of a nested container has left mapped; False if that will not do."""
        key = (self.domain.id, self.serial)
        lately = _lately.pop(key, None)
        if lately is None or lately.domain is not self.domain or self.domain.ended:
            return False
        if lately.words[W_GONE] or lately.words[W_WHAT] != what(self.kind):
            return False
        _lately[key] = lately
        self.words, self._generation, self.mutex = lately.words, lately.generation, lately.mutex
        _make_room(self)
        return True

    def _leave_mapped(self) -> None:
        """Keep mapped what the next handle of a nested container will need."""
        words = self.map()
        if words[W_PARENT]:
            _lately[self.domain.id, self.serial] = _Lately(self.domain, words, self.mutex)
            # A list first: other threads change it meanwhile.
            for key in list(_lately)[:-_LATELY]:
                _lately.pop(key, None)


class _Lately:
    """What is mapped of a nested container, whether anybody has a handle of it or not."""

    __slots__ = ("domain", "generation", "mutex", "words")

    def __init__(self, domain: Domain, words: Any, mutex: IdleMutex) -> None:
        self.domain = domain
        self.words = words
        self.mutex = mutex
        # The one that was current when somebody looked last (see adopt), if it is small.
        self.generation: Generation | None = None


# Those that were opened last, the newest last: d["a"]["b"] = 1 makes a handle of d["a"] and drops it, and its memory
# would be unmapped and mapped again each time. What was unlinked meanwhile keeps its memory until it goes from here.
_lately: dict[tuple[str, int] | None, _Lately] = {}
_LATELY = 8
_LATELY_BYTES = 1 << 20


def create(home: Home, domain: Domain, kind: int, *, parent: int = 0, nested: bool = False) -> None:
    """Make a new, empty container, which `home` then is (some 100 us).

    Args:
        home: not set up yet.
        domain: whose it is.
        kind: LIST, DICT or OBJECT.
        parent: the serial number of the container that it belongs to, 0 if it stands for itself.
        nested: whether plain lists and dicts that are put in become shared ones.

    Raises:
        SharedMemoryFull: there is no room.
        DomainEnded: the program that owns the domain has ended.
    """
    serial = domain.names.enter(Kind.MAKING if parent else Kind.CONTAINER, parent)
    home.set_up(domain, serial, kind)
    try:
        # The semaphore first: who finds the segment finds it too.
        Semaphore.make(names.name_of(domain.id, serial), 1)
        payload = _template(kind, domain.capacity)
        block = segment.make(domain, serial, len(payload), Kind.CONTAINER, memoryview(payload))
        words = home._bind(block)
        words[W_NESTED], words[W_PARENT] = nested, parent
    except BaseException:
        domain.names.unlink(serial)
        raise
    domain.names.confirm(serial)
    # Before others may let it go.
    home.use_mutex()
    _make_room(home)


def attach(home: Home, domain: Domain, serial: int, kind: int) -> None:
    """Open an existing container, which `home` then is (some 50 us, whatever its size).

    Raises:
        ContainerGone: it was unlinked.
        DomainEnded: the program that owns it has ended.
        BadSegment: it is damaged, foreign, or of another kind.
        PermissionError: it belongs to another user.
    """
    home.set_up(domain, serial, kind)
    if not home._take_mapped():
        home.use_mutex()
        home.map()
        home._leave_mapped()


# -- how many are mapped at once ---------------------------------------------------------------------------------------

_mapped: deque[weakref.ref[Home]] = deque()
_MOST = 4096


def _bound() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or sys.version_info >= (3, 13):
        return _MOST
    # Up to Python 3.12 each mapping keeps a descriptor, and a container may have two; half is the user's own.
    return max(16, min(_MOST, soft // 4))


def _make_room(home: Home) -> None:
    """Note that a home is mapped, and let others go that were not used lately."""
    _mapped.append(weakref.ref(home))
    most = _bound() if len(_mapped) > 16 else _MOST
    for _ in range(len(_mapped)):
        if len(_mapped) <= most:
            return
        oldest = _mapped.popleft()
        other = oldest()
        if other is None or other.words is None:
            continue
        if other._recent or other is home or not other.let_go():
            other._recent = False
            _mapped.append(oldest)




def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    _lately.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
