"""The board: the memory that a crew and its parent share, for as long as the crew lives.

The bytes (words of 8 bytes, offsets from the payload of one segment)::

    0                       stop: 1 tells idle workers to end
    8                       calls begun so far (the last call id)
    64                      the mutex: 1 + capacity words (see mutex.py)
    ids_at                  64 words: the call id in each table slot, 0 a free one; stored last, cleared first
    heads_at                64 heads of 8 words (see table.py)
    workers_at              one slot of 16 words a worker:
        0 incarnation       stored last when the worker is ready; 0: starting, or nobody
        1 participant number
        2 the worker's serial number in the crew (24 bits, never given twice)
        3 the call whose arguments it may have mapped; stored under the mutex with its first claim of that call
        4, 5                lowest and highest call whose arguments it could not let go of; 0: none
        6 rows run          7 claims made
        8, 9                ns working, ns waiting
        10 result segment   it is writing to (serial number)
        11 result bytes put into shared memory     12 result bytes pickled
        13 retired          1: it has ended by itself (max_tasks_per_child, stop), owing nothing
        14 end              the parent sets it to 1: end when idle
        15 refused          1: the domain held no more processes when it wanted to join
    reasons_at              512 bytes a worker: why it could not start, UTF-8, zero-padded
    tables_at               64 areas of 8 KiB: tables that are small enough lie here
"""

from __future__ import annotations

from XME._core import names, segment
from XME._core.domain import Domain, inspect
from XME._core.ledger import Kind
from XME._core.mutex import RobustMutex
from XME._core.semaphore import Semaphore

TABLES = 64
HEAD_WORDS = 8
WORKER_WORDS = 16
REASON_BYTES = 512
SMALL_TABLE_BYTES = 8192
SERIAL_BITS = 24

W_STOP, W_LAST_CALL = 0, 1
_MUTEX_AT = 64

(
    S_INCARNATION,
    S_NUMBER,
    S_SERIAL,
    S_CALL,
    S_DIRTY_LOW,
    S_DIRTY_HIGH,
    S_ROWS,
    S_CLAIMS,
    S_WORKING,
    S_WAITING,
    S_ARENA,
    S_SHARED,
    S_PICKLED,
    S_RETIRED,
    S_END,
    S_REFUSED,
) = range(16)


def _aligned(offset: int) -> int:
    return -(-offset // 64) * 64


class Layout:
    """Where things lie on a board for so many participants and workers."""

    def __init__(self, capacity: int, workers: int) -> None:
        self.workers = workers
        self.ids_at = _aligned(_MUTEX_AT + 8 * (1 + capacity))
        self.heads_at = self.ids_at + 8 * TABLES
        self.workers_at = self.heads_at + 8 * HEAD_WORDS * TABLES
        self.reasons_at = self.workers_at + 8 * WORKER_WORDS * workers
        self.tables_at = _aligned(self.reasons_at + REASON_BYTES * workers)
        self.nbytes = self.tables_at + SMALL_TABLE_BYTES * TABLES


class Board:
    """A crew's board, as its parent or one of its workers sees it."""

    def __init__(self, domain: Domain, memory: segment.Segment, workers: int, wake: Semaphore, lock: Semaphore) -> None:
        self.domain = domain
        self.segment = memory
        self.layout = Layout(domain.capacity, workers)
        self.wake = wake
        self._lock = lock
        self.words = memory.words(0, 2)
        self.ids = memory.words(self.layout.ids_at, TABLES)
        self.mutex = RobustMutex(domain, memory.words(_MUTEX_AT, 1 + domain.capacity), lock, memory.serial)
        self._waiters: dict[int, Semaphore] = {}
        self._heads: dict[int, memoryview] = {}

    def head(self, slot: int) -> memoryview:
        """Return the head of a table slot as words."""
        found = self._heads.get(slot)
        if found is None:
            at = self.layout.heads_at + 8 * HEAD_WORDS * slot
            found = self._heads[slot] = self.segment.words(at, HEAD_WORDS)
        return found

    def worker(self, index: int) -> memoryview:
        """Return a worker's slot as words."""
        return self.segment.words(self.layout.workers_at + 8 * WORKER_WORDS * index, WORKER_WORDS)

    def small_table(self, slot: int) -> memoryview:
        """Return the bytes of a table slot's own area."""
        first = self.layout.tables_at + SMALL_TABLE_BYTES * slot
        return self.segment.data[first : first + SMALL_TABLE_BYTES]

    def reason(self, index: int) -> str:
        """Return why a worker could not start, or an empty string."""
        return bytes(self._reason(index)).rstrip(b"\0").decode(errors="replace")

    def set_reason(self, index: int, text: str) -> None:
        """Leave word why a worker cannot start."""
        self._reason(index)[:] = text.encode()[-REASON_BYTES:].ljust(REASON_BYTES, b"\0")

    def _reason(self, index: int) -> memoryview:
        first = self.layout.reasons_at + REASON_BYTES * index
        return self.segment.data[first : first + REASON_BYTES]

    def waiter(self, serial: int) -> Semaphore:
        """Return the semaphore on which a caller waits for its table."""
        found = self._waiters.get(serial)
        if found is None:
            found = self._waiters[serial] = Semaphore(names.name_of(self.domain.id, serial))
        return found

    def forget_waiter(self, serial: int) -> None:
        """Close a waiter's semaphore here; its name is its maker's."""
        found = self._waiters.pop(serial, None)
        if found is not None:
            found.close()

    def close(self) -> None:
        """Close the semaphores."""
        for semaphore in (self.wake, self._lock, *self._waiters.values()):
            semaphore.close()
        self._waiters.clear()


def new_semaphore(domain: Domain, value: int, owner: int = 0) -> tuple[int, Semaphore]:
    """Make a named semaphore of a crew; returns (its serial number, the semaphore)."""
    serial = domain.names.enter(Kind.CREW, owner)
    try:
        semaphore = Semaphore.create(names.name_of(domain.id, serial), value)
    except BaseException:
        domain.names.unlink(serial)
        raise
    domain.names.confirm(serial)
    return serial, semaphore


def create(domain: Domain, workers: int) -> tuple[Board, tuple[int, int, int]]:
    """Make a board for so many worker slots; returns it and the serial numbers (board, wake, lock) to attach by."""
    wake_serial, wake = new_semaphore(domain, 0)
    lock_serial, lock = new_semaphore(domain, 1, wake_serial)
    memory = segment.create(domain, Layout(domain.capacity, workers).nbytes, Kind.CREW, owner=wake_serial)
    return Board(domain, memory, workers, wake, lock), (memory.serial, wake_serial, lock_serial)


def note_refusal(domain_id: str, serials: tuple[int, int, int], workers: int, index: int, text: str) -> None:
    """Leave word on a crew's board why a worker could not even join the domain.

    Raises:
        ContainerGone, DomainEnded: the crew has been shut down.
    """
    board = attach(inspect(domain_id), serials, workers)
    board.set_reason(index, text)
    board.worker(index)[S_REFUSED] = 1
    board.close()


def attach(domain: Domain, serials: tuple[int, int, int], workers: int) -> Board:
    """Open a crew's board in a worker.

    Raises:
        ContainerGone: the crew has been shut down.
    """
    memory_serial, wake, lock = serials
    memory = segment.attach_anew(domain, memory_serial)
    wake_semaphore, lock_semaphore = (Semaphore(names.name_of(domain.id, serial)) for serial in (wake, lock))
    return Board(domain, memory, workers, wake_semaphore, lock_semaphore)
