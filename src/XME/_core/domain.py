"""Domains: which processes belong together, which names are theirs, what is swept when.

A domain is one file in shared memory (layout.py has its bytes). The first process of a program opens the program's
domain; a process joins when it opens or unpickles its first handle, and again after a fork. The domain's life::

    create    file without a name -> header, lease, row -> linked: nobody meets a domain that has no lease
    join      admin lock; not ended; a number whose lease is free and whose last owner is dead; lease, then row
    a name    ledger entry -> create -> look at `ended`: set -> unlink it again, DomainEnded
    leave     own names that nobody else knows; the row; the lease; whoever then finds no lease sweeps
    end       (its opener leaves) `ended` is set, then every name of the ledger is unlinked
    sweep     (last one out, the next program, `python -m XME clean`) admin lock, the path still names the file, no
              participant alive: `ended`, names, the file itself

A killed process leaves through the kernel, which frees its lease and locks. Everything here that waits, waits for a
lock that the kernel frees.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from stat import S_ISREG

from XME._core import layout, ledger, memory, names, ofd, participant
from XME._core.namebook import NameBook, unlink_both
from XME.errors import BadSegment, DomainEnded, DomainFull


def default_capacity() -> int:
    """Return how many processes a new domain holds: XME_CAPACITY, else 256 or four a core.

    Raises:
        ValueError: XME_CAPACITY is not a number from 2 to 4096.
    """
    text = os.environ.get("XME_CAPACITY", "")
    if not text:
        return max(256, 4 * (os.cpu_count() or 1))
    if not text.isdecimal() or not 2 <= int(text) <= layout.CAPACITY_MAX:
        msg = f"XME_CAPACITY must be a number from 2 to 4096, not {text!r}"
        raise ValueError(msg)
    return int(text)


class Domain:
    """One domain, as this process sees it."""

    def __init__(self, domain_id: str, fd: int) -> None:
        self.id = domain_id
        self.path = names.path_of(names.name_of(domain_id, names.DOMAIN_SERIAL))
        self.lock = threading.RLock()
        self._admin = threading.RLock()
        self._map_header(fd)
        self._forget_membership()
        self.fd = fd

    def _map_header(self, fd: int) -> None:
        # The mapping keeps a descriptor of its own open (up to Python 3.12): were it a copy of the lease's, a fork's
        # child would hold its parent's lease.
        other = memory.reopen(fd)
        try:
            with open(other, "rb", closefd=False) as file:
                head = memoryview(file.read(layout.ROWS_AT)).cast("Q")
            self.capacity = head[layout.W_CAPACITY]
            self._map = memory.map_file(other, layout.file_bytes(self.capacity))
        finally:
            os.close(other)
        self.words = memoryview(self._map).cast("Q")
        self.ended_words = self.words[layout.W_ENDED : layout.W_ENDED + 1]
        self.kind = self.words[layout.W_KIND]

    def _forget_membership(self) -> None:
        self.number = -1
        self.incarnation = 0
        self.fd = -1
        self._pid = -1
        self.names = NameBook(self)

    @property
    def label(self) -> str:
        """What `python -m XME ls` shows; a named domain's public name."""
        return bytes(self.words.cast("B")[layout.LABEL]).rstrip(b"\0").decode(errors="replace")

    # -- membership ------------------------------------------------------------------------------------------------

    @property
    def joined(self) -> bool:
        """True while this process has a number and a lease here."""
        return self.number >= 0

    @property
    def ended(self) -> bool:
        """True once the domain's opener has ended."""
        return self.words[layout.W_ENDED] != 0

    @property
    def is_opener(self) -> bool:
        """True in the process that opened the domain."""
        words = self.words
        mine = (self.number + 1, self.incarnation)
        return self.joined and (words[layout.W_OPENER], words[layout.W_OPENER_INCARNATION]) == mine

    def require(self) -> None:
        """Join if this process is not a participant (any more); DomainEnded if there is nothing left to join."""
        if not self.joined:
            with self.lock:
                if not self.joined:
                    self._rejoin()
        if self.ended:
            raise DomainEnded.of(self.id)

    def _rejoin(self) -> None:
        if self.ended:
            raise DomainEnded.of(self.id)
        try:
            fd = memory.open_file(self.path)
        except FileNotFoundError:
            raise DomainEnded.of(self.id) from None
        self._join_or_close(fd)

    def _join_or_close(self, fd: int) -> None:
        try:
            self._join(fd)
        except BaseException:
            # A Ctrl-C may strike after the number was given: it is given back before its lease goes with the file.
            if self.joined:
                self.row(self.number)[layout.R_INCARNATION] = 0
                self._forget_membership()
            os.close(fd)
            raise

    def _join(self, fd: int) -> None:
        with self._administration(fd):
            if self.ended or not memory.still_named(fd, self.path):
                raise DomainEnded.of(self.id)
            self._take_number(fd)
        self.fd = fd
        self._pid = os.getpid()

    def _take_number(self, fd: int) -> None:
        words = self.words
        if words[layout.W_INCARNATION] + 1 >= 1 << layout.INCARNATION_BITS:
            raise DomainFull.of(self.id, self.capacity)
        number = self._free_number(fd)
        # The counter first: were the row first, a kill in between would give an incarnation twice.
        incarnation = words[layout.W_INCARNATION] + 1
        words[layout.W_INCARNATION] = incarnation
        self._write_row(number, incarnation)
        self.incarnation = incarnation
        self.number = number
        self.names.take_over(fd, number)

    def _free_number(self, fd: int) -> int:
        for number in range(self.capacity):
            lease = layout.LEASE_AT + number
            if ofd.try_lock(fd, lease):
                # A process that closed all its descriptors has lost its lease and lives (python-daemon does that).
                if not self._row_found_alive(number):
                    return number
                ofd.unlock(fd, lease)
        raise DomainFull.of(self.id, self.capacity)

    def row(self, number: int) -> memoryview:
        """Return a participant's row as words."""
        first = layout.row_word(number)
        return self.words[first : first + layout.ROW_WORDS]

    def _write_row(self, number: int, incarnation: int) -> None:
        me = participant.myself()
        row = self.row(number)
        row[layout.R_INCARNATION] = 0
        row[layout.R_PID], row[layout.R_START], row[layout.R_NAMESPACE] = me.pid, me.start_time, me.pid_namespace
        row[layout.R_JOINED] = time.time_ns()
        room = layout.R_NAME.stop - layout.R_NAME.start
        row.cast("B")[layout.R_NAME] = participant.display_name().encode()[:room].ljust(room, b"\0")
        row[layout.R_INCARNATION] = incarnation

    def identity(self, number: int) -> participant.Identity:
        """Return the process that a row names."""
        row = self.row(number)
        return participant.Identity(row[layout.R_PID], row[layout.R_START], row[layout.R_NAMESPACE])

    def incarnation_of(self, number: int) -> int:
        """Return the incarnation in a row; 0 if nobody has the number."""
        return self.row(number)[layout.R_INCARNATION]

    def name_of_participant(self, number: int) -> str:
        """Return the display name in a row."""
        return bytes(self.row(number).cast("B")[layout.R_NAME]).rstrip(b"\0").decode(errors="replace")

    def _row_found_alive(self, number: int) -> bool:
        return self.incarnation_of(number) != 0 and participant.is_found_alive(self.identity(number))

    def is_alive(self, number: int) -> bool:
        """True unless whoever had this number last is provably dead; takes nothing (1 to 20 us)."""
        if number == self.number:
            return True
        return ofd.is_locked(self.fd, layout.LEASE_AT + number) or self._row_found_alive(number)

    def is_dead(self, number: int, incarnation: int) -> bool:
        """True if the participant with this number and incarnation is provably dead or has left."""
        if number == self.number and incarnation == self.incarnation:
            return False
        if self.incarnation_of(number) != incarnation:
            return True
        if self.is_alive(number):
            # The number may have been given again between the two looks.
            return self.incarnation_of(number) != incarnation
        return True

    def is_found_dead(self, number: int, incarnation: int) -> bool:
        """True also if the dead one's lease has an heir already, who has not yet written his own row (20 us)."""
        return participant.is_found_dead(self.identity(number)) or self.incarnation_of(number) != incarnation

    def living(self) -> list[int]:
        """Return the numbers of all participants that are not provably dead (20 us)."""
        held = {at - layout.LEASE_AT for at in ofd.locked(self.fd, layout.LEASE_AT, self.capacity)}
        given = layout.incarnations(self.words, self.capacity)
        return [k for k in range(self.capacity) if k in held or (given[k] and self.is_alive(k))]

    def is_inhabited(self) -> bool:
        """True unless all participants are provably dead (2 us while another one lives)."""
        return ofd.is_any_locked(self.fd, layout.LEASE_AT, self.capacity) or bool(self.living())

    def take_block(self) -> int:
        """Return the number of a block of names that nobody else gets; block 0 is the domain's own file."""
        with self.administration():
            block = self.words[layout.W_BLOCK] + 1
            self.words[layout.W_BLOCK] = block
            return int(block)

    def administration(self) -> contextlib.AbstractContextManager[None]:
        """Hold the domain's administration: joining, sweeping, settling, blocks of names."""
        return self._administration(self.fd)

    @contextlib.contextmanager
    def _administration(self, fd: int) -> Iterator[None]:
        # Threads share the descriptor, so the kernel's lock does not keep them apart. Nothing waits for `lock` or for
        # the name book's while it holds this one: enter() comes here from the book, and leave() goes to the book.
        with self._admin:
            ofd.lock(fd, layout.ADMIN_AT)
            try:
                yield
            finally:
                ofd.unlock(fd, layout.ADMIN_AT)

    # -- recovery locks --------------------------------------------------------------------------------------------

    def try_recovery_lock(self, serial: int) -> bool:
        """Take the recovery lock of one mutex if it is free; the kernel frees a dead recoverer's."""
        return ofd.try_lock(self.fd, layout.RECOVERY_AT + serial)

    def free_recovery_lock(self, serial: int) -> None:
        """Free the recovery lock of one mutex."""
        ofd.unlock(self.fd, layout.RECOVERY_AT + serial)

    # -- the end ---------------------------------------------------------------------------------------------------

    def leave(self, *, in_use: bool = False) -> None:
        """Leave the domain; its opener ends it, and the last one out sweeps it.

        If it is still `in_use` by a thread of this process, number and lease stay until the kernel takes the lease.
        """
        with self.lock:
            if not self.joined or self._pid != os.getpid():
                return
            self.names.unlink_private()
            if self.kind == layout.PROGRAM and self.is_opener:
                self.words[layout.W_ENDED] = 1
                self._sweep_names()
            if in_use:
                return
            fd, number = self.fd, self.number
            self.row(number)[layout.R_INCARNATION] = 0
            ofd.unlock(fd, layout.LEASE_AT + number)
            self._forget_membership()
            self._sweep_if_deserted(fd)
            os.close(fd)

    def entries(self, number: int) -> Iterator[ledger.Entry]:
        """Yield the ledger entries of one participant's area."""
        return ledger.read(self.fd, number, self.row(number)[layout.R_LEDGER_END])

    def _sweep_names(self) -> None:
        for number in range(self.capacity):
            for entry in self.entries(number):
                unlink_both(self.id, entry.serial)
                ledger.clear(self.fd, number, entry.place)

    def _sweep_if_deserted(self, fd: int) -> bool:
        with self._administration(fd):
            if not memory.still_named(fd, self.path):
                return False
            self.fd, kept = fd, self.fd
            try:
                if self.is_inhabited():
                    return False
                self.words[layout.W_ENDED] = 1
                self._sweep_names()
            finally:
                self.fd = kept
            memory.unlink(self.path)
            return True

    def sweep_if_dead(self) -> bool:
        """Sweep a domain that this process has not joined, if nobody in it is alive; True if it is gone now."""
        return self._sweep_if_deserted(self.fd)

    def adopt(self) -> None:
        """Turn a view (see inspect) into membership: join with the descriptor that it has."""
        fd, self.fd = self.fd, -1
        self._join_or_close(fd)

    def close_view(self) -> None:
        """Give up a view of a domain that was only looked at (see inspect)."""
        if not self.joined and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def forget_after_fork(self) -> None:
        """In a fork's child: the parent's number, lease and names are not ours."""
        if self.fd >= 0:
            os.close(self.fd)
        self.lock = threading.RLock()
        self._admin = threading.RLock()
        self._forget_membership()


def create(kind: int = layout.PROGRAM, label: str = "", capacity: int | None = None) -> Domain:
    """Make a new domain and join it as its opener.

    Args:
        kind: layout.PROGRAM or layout.NAMED.
        label: what `python -m XME ls` shows.
        capacity: how many processes it holds at once; see default_capacity.
    """
    capacity = default_capacity() if capacity is None else capacity
    domain_id = names.new_id()
    fd = memory.new_file()
    try:
        memory.reserve(fd, layout.file_bytes(capacity))
        os.pwrite(fd, layout.new_header(kind, label, capacity), 0)
        domain = Domain(domain_id, fd)
        domain._take_number(fd)
        domain.words[layout.W_OPENER] = domain.number + 1
        domain.words[layout.W_OPENER_INCARNATION] = domain.incarnation
        memory.link(fd, domain.path)
    except BaseException:
        os.close(fd)
        raise
    domain._pid = os.getpid()
    return domain


def inspect(domain_id: str) -> Domain:
    """Open a domain without joining it.

    Raises:
        DomainEnded: there is no such domain (any more).
        PermissionError: it belongs to another user.
        BadSegment: the file is not a domain's.
    """
    path = names.path_of(names.name_of(domain_id, names.DOMAIN_SERIAL))
    try:
        fd = memory.open_file(path)
    except FileNotFoundError:
        raise DomainEnded.of(domain_id) from None
    except PermissionError:
        raise
    except OSError as error:
        raise BadSegment.of(os.path.basename(path), f"it is no file of shared memory ({error.strerror})") from None
    try:
        _check_file(fd, os.path.basename(path))
        return Domain(domain_id, fd)
    except BaseException:
        os.close(fd)
        raise


def _check_file(fd: int, name: str) -> None:
    stat = memory.require_owner(fd, name)
    if not S_ISREG(stat.st_mode):
        raise BadSegment.of(name, "it is no file")
    head = os.pread(fd, layout.ROWS_AT, 0)
    if len(head) < layout.ROWS_AT:
        raise BadSegment.of(name, "it is shorter than a domain's header")
    words = memoryview(head).cast("Q")
    if words[layout.W_MAGIC] != layout.MAGIC:
        raise BadSegment.of(name, "it does not begin with a domain's magic number")
    if words[layout.W_VERSION] != layout.VERSION:
        raise BadSegment.of(name, f"its layout is version {words[layout.W_VERSION]}, and this is {layout.VERSION}")
    if not 1 <= words[layout.W_CAPACITY] <= layout.CAPACITY_MAX:
        raise BadSegment.of(name, f"its header says that it holds {words[layout.W_CAPACITY]} processes")
    if stat.st_size < layout.file_bytes(words[layout.W_CAPACITY]):
        raise BadSegment.of(name, "it is shorter than its header says")
