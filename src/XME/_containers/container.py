"""What xmem_list, xmem_dict and xmem_object have in common: changing, committing, reading, handing over, ending.

A change, and what a kill leaves::

    values are encoded, large ones get segments        in flight: settled by whoever comes next (flight.py)
    the mutex is taken                                  recovered by whoever wants it
    records, slots                                      not public: voided by the next writer
    root word                                           the commit: all of it is public
    what was dropped is unlinked                        in flight, as above

A process has one handle of a container: unpickling it again gives the same object. `_stamp` is a view of the root
word; whatever may not be answered from the cache lets it point to a word that no cached value was read under: memory
that was let go, and a transaction, whose own thread must see what it has written.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from itertools import starmap
from typing import Any, Self

from XME._containers import checking, flight, opening
from XME._containers import home as homes
from XME._containers.atomic import Atomic
from XME._containers.handing import Handed
from XME._containers.home import MUTEX_AT, W_EVEN, W_GONE, W_ROOT, W_SETTLED
from XME._core.domain import Domain
from XME._core.ledger import Kind
from XME._store.change import Change
from XME._store.log import PLACE_MASK, Generation
from XME.errors import ContainerGone, MutexError

# Stands for a change that nothing of its own thread may come between.
BUSY: Any = object()
# No root word is this: its place would lie behind all that a generation can hold. Not zero: entries have that stamp.
NEVER = memoryview(b"\xff" * 8).cast("Q")
# So many decoded values are kept a container; then all are forgotten.
CACHED = 1 << 14
# How long a container that goes is waited for, if somebody is changing it.
_WAIT_S = 0.2


class Container(Handed):
    """The base of the shared containers."""

    __slots__ = (
        "_cache", "_change", "_doubtful", "_is_dirty", "_is_nested", "_is_open", "_large", "_made", "_marks", "_notes",
        "_stamp",
    )  # fmt: skip

    _KIND = 0
    _CHANGE: type[Any] = Change

    # -- becoming one ----------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        self._cache: dict[Any, Any] = {}
        # Keys of cached values that keep memory of their own mapped, the oldest first.
        self._large: list[Any] = []
        self._stamp: Any = NEVER
        self._change: Any = None
        # Where the change stood when the calls in progress began.
        self._marks: list[Any] = []
        # What the change in progress has made.
        self._made: dict[int, Kind] = {}
        # What a commit dropped and nobody has unlinked yet: serial numbers, and the ledger's notes of them.
        self._notes: dict[int, int] = {}
        # The same of a commit under way, or ended by an exception: whether it dropped them, only the root tells.
        self._doubtful: dict[int, int] = {}
        # True if the next change must look first at what is in flight: an exception's in the middle of a commit, or
        # what this process has inherited with its number.
        self._is_dirty = True
        self._is_nested = False
        # True while code of the user's runs within a change.
        self._is_open = False
        self._public_name = None
        self._member = None
        self._parent = None

    def _found(self, domain: Domain, *, parent: int = 0, nested: bool = False) -> None:
        """Become a new container of a domain."""
        self._reset()
        homes.create(self, domain, self._KIND, parent=parent, nested=nested)
        self._is_nested = nested
        opening.keep(self)
        if not parent:
            # The finalizer takes no lock and unlinks nothing: it may run in the middle of anything.
            weakref.finalize(self, domain.names.note_drop, self.serial).atexit = False

    def _forget_mapped(self) -> bool:
        """Forget what is mapped (see Home); nothing is answered from the cache before it is back."""
        if self._change is not None or not super()._forget_mapped():
            return False
        self._stamp = NEVER
        return True

    # -- reading ---------------------------------------------------------------------------------------------------

    def _look(self) -> tuple[int, Generation, int]:
        """Return (stamp, generation, limit) of what the calling thread may see: its own change, else what is public.

        The stamp is 0 within a change: what is read then must not be kept.
        """
        change = self._change
        if change is not None and change is not BUSY and self.mutex.held:
            return 0, change.generation, PLACE_MASK
        root, generation = self.current()
        words = self.words
        # Meanwhile another thread may have let the container go, or begun to run its user's code.
        if change is None and self._stamp is NEVER and words is not None:
            self._stamp = words[W_ROOT : W_ROOT + 1]
            if self._change is not None:
                self._stamp = NEVER
        return root, generation, root & PLACE_MASK

    def _numbers(self) -> tuple[int, int, int]:
        """Return (count, end, extra) of what the calling thread may see; see log.Fields."""
        change = self._change
        if change is not None and change is not BUSY and self.mutex.held:
            return change.count, change.end, change.extra
        root, generation = self.current()
        _, count, end, _, extra = generation.fields(root & PLACE_MASK)
        return count, end, extra

    def _open_value(self, serial: int) -> memoryview:
        return flight.open_value(self.domain, serial)

    # -- changing --------------------------------------------------------------------------------------------------

    def _begin(self, made: dict[int, Kind] | None = None) -> Any:
        """Take the mutex and return the change in progress, a new one in the outermost call.

        Args:
            made: segments that were made for it; they are unlinked if it fails.

        Raises:
            ContainerGone: it was unlinked.
            DomainEnded: the program that owns it has ended.
        """
        mutex = self.mutex
        levels = None
        try:
            mutex.acquire()
            try:
                change = self._change
                levels = -1 if change is None else len(self._marks)
                if change is None:
                    # Until there is one: a signal handler must not make its own of the same root.
                    self._change = BUSY
                    change = self._change = self._new_change()
                    self._marks.append(None)
                else:
                    self._require_open()
                    self._marks.append((change.mark(), len(self._made)))
                self._is_open = False
                if made:
                    self._made.update(made)
                    flight.taken(made)
            except BaseException:
                if levels is not None:
                    del self._marks[max(0, levels) :]
                # Not what another call has open that this one came into the middle of.
                if levels == -1:
                    self._change = None
                mutex.release()
                raise
        except BaseException:
            self._unlink(made or {})
            raise
        return change

    def _begin_with_user_code(self) -> Any:
        """Begin a change in which the user's code runs: nothing that it reads is answered from the cache."""
        change = self._begin()
        self._stamp = NEVER
        self._is_open = True
        return change

    def _require_open(self) -> None:
        """Refuse what a signal handler wants in the middle of its own thread's change."""
        if not self._is_open:
            msg = (
                f"a signal handler (or a finalizer) changes the shared container {self._called!r} in the middle of a "
                "change that its own thread makes: set a flag in the handler, and change it in the main flow"
            )
            raise MutexError(msg)

    def _once_more(self, root: int, read: Callable[[], Any]) -> Any:
        """Read again what was dropped while it was read; once more under the mutex if nothing seems to have changed.

        Called while the ContainerGone is handled, which goes on if the value is missing for good.
        """
        if not root or self.mutex.held:
            raise  # noqa: PLE0704 - it is called inside an except block
        if self.map()[W_ROOT] != root:
            return read()
        with self.mutex:
            return read()

    def atomic(self) -> Atomic[Self]:
        """Return a context manager: what its block does to this container is one transaction.

        Inside, this thread reads what it has written, and keeps the container's mutex; all others, threads and
        processes, read what was there before, and wait if they want to change something. At the end everything becomes
        public at once. An exception that leaves the block, or a kill, publishes nothing. A block inside a block is a
        savepoint: an exception that leaves it, and is caught outside, undoes what it did. Two containers are two
        transactions, also where one lies in the other. What is stored through numpy views of an `xmem_array` is no part
        of it.

        Raises:
            ContainerGone: it was unlinked.
            DomainEnded: the program that owns it has ended.
            Deadlock: the transactions of several threads wait for each other in a circle.

        Costs some 2 us; while it lasts, what is read costs as much as when it is read for the first time.

        >>> from XME._containers.shared_dict import xmem_dict
        >>> accounts = xmem_dict(a=100, b=0)
        >>> with accounts.atomic():
        ...     accounts["a"] -= 30
        ...     accounts["b"] += 30
        >>> accounts
        xmem_dict({'a': 70, 'b': 30})
        """
        return Atomic(self)

    def _new_change(self) -> Any:
        words = self.words
        if words is None:
            words = self.map()
        if words[W_GONE]:
            raise ContainerGone.of(self._called)
        book = self.domain.names
        if book.inherited:
            flight.settle_inherited(self.domain)
        root, generation = self.current()
        change = self._CHANGE(generation, root & PLACE_MASK, self)
        # After what a dead writer has begun was voided: what only that refers to is not in use.
        if words[W_SETTLED] != words[MUTEX_AT]:
            flight.settle(self, root, generation)
        if self._is_dirty:
            if self._made or self._doubtful:
                self._settle_own()
            self._is_dirty = False
        return change

    def _end(self) -> None:
        """Leave a change; the outermost call commits it."""
        if len(self._marks) > 1:
            self._marks.pop()
            self._is_open = True
            self.mutex.release()
            return
        try:
            self._commit(self._change)
        except BaseException:
            # Whether what it has made is in use, the next change finds out.
            self._is_dirty = True
            raise
        finally:
            self._leave()
        if self._notes:
            self._drop_noted()

    def _leave(self) -> None:
        self._is_open = False
        self._marks.clear()
        if self._stamp is NEVER and self.words is not None:
            self._stamp = self.words[W_ROOT : W_ROOT + 1]
        # Last: from here on a signal handler may make a change of its own.
        self._change = None
        self.mutex.release()

    def _fail(self) -> None:
        """Leave a change after an exception: what the call has changed is undone."""
        mark = self._marks[-1]
        if mark is not None:
            self._change.back(mark[0])
            self._unlink_made_since(mark[1])
            self._marks.pop()
            self._is_open = True
            self.mutex.release()
            return
        try:
            self._unlink_made_since(0, all_kinds=True)
        except BaseException:
            self._is_dirty = True
            raise
        finally:
            self._leave()

    def _unlink_made_since(self, count: int, *, all_kinds: bool = False) -> None:
        """Unlink what a call has made that is undone; outgrown generations go with the commit."""
        for serial, kind in list(self._made.items())[count:]:
            if all_kinds or kind != Kind.GENERATION:
                self._unlink({serial: kind})
                del self._made[serial]

    def _unlink(self, made: dict[int, Kind]) -> None:
        for serial in made:
            self.domain.names.unlink(serial)

    def _commit(self, change: Any) -> None:
        if change.is_empty:
            self._unlink_made_since(0, all_kinds=True)
        elif change.dropped or change.orphaned or self._made:
            self._commit_parts(change)
        else:
            self.words[W_ROOT] = change.root

    def _commit_parts(self, change: Any) -> None:
        words = self.words
        book = self.domain.names
        dropped = change.dropped
        if change.fresh:
            number = change.generation.number
            if change.origin.number:
                dropped = [*dropped, words[W_EVEN + (change.origin.number & 1)]]
            # Before the root, and behind the number that is in the segment already.
            words[W_EVEN + (number & 1)] = change.fresh
        # One note each: a transaction may have put a child in and out several times.
        for serial in dict.fromkeys((*dropped, *change.orphaned)):
            self._doubtful[serial] = book.note_dropping(serial, self.serial)
        words[W_ROOT] = change.root
        self.adopt(change.generation)
        if change.orphaned:
            self._keep_others(change.orphaned, self._doubtful)
        self._believe()
        for serial in dropped:
            self._drop_one(serial)
        for serial in change.given_up:
            book.unlink(serial)
            del self._made[serial]
        for serial, kind in list(self._made.items()):
            book.make_public(serial, kind, self.serial)
            del self._made[serial]

    def _believe(self) -> None:
        """Let what was doubtful be unlinked: the root does without it."""
        doubtful = self._doubtful
        # In one call of C code: in both after a Ctrl-C, a note's place would be freed twice and given to two names.
        self._notes.update(starmap(doubtful.popitem, [()] * len(doubtful)))

    def _drop_one(self, serial: int) -> None:
        """Unlink a segment that a commit has dropped; under the mutex, so that its epoch tells of a death in here."""
        flight.unlink(self.domain, serial)
        # Noted until it is done: after a Ctrl-C the next change tries again.
        self._clear_note(serial)

    def _clear_note(self, serial: int) -> None:
        note = self._notes.pop(serial, None)
        if note is not None:
            self.domain.names.cleared(note)

    def _keep_others(self, orphaned: list[int], notes: dict[int, int]) -> None:
        """Forget the notes of containers that stand in another place of this one as well."""
        if any(flight.stands_in_many_places(self.domain, serial) for serial in orphaned):
            in_use = flight.in_use_now(self)
            for serial in orphaned:
                if serial in in_use and serial in notes:
                    self.domain.names.cleared(notes.pop(serial))

    def _drop_noted(self) -> None:
        """Unlink what a commit has dropped; outside the mutex, because a container that goes takes its own."""
        for serial in list(self._notes):
            if not flight.dispose(self.domain, serial, _WAIT_S):
                # Somebody is using a container that goes; the next change tries again.
                return
            # Noted until it is done; another thread may have done it too.
            self._clear_note(serial)

    def _settle_own(self) -> None:
        """Settle what an exception in the middle of a commit has left; the mutex is held."""
        in_use = flight.in_use_now(self)
        book = self.domain.names
        for serial, kind in list(self._made.items()):
            if serial in in_use:
                book.make_public(serial, kind, self.serial)
            else:
                book.unlink(serial)
            del self._made[serial]
        for serial in [serial for serial in self._doubtful if serial in in_use]:
            book.cleared(self._doubtful.pop(serial))
        self._believe()

    def _check(self, *, settled: bool = False) -> None:
        """Raise an AssertionError that says what is wrong (see checking.check)."""
        checking.check(self, settled=settled)

    def new_memory(self, nbytes: int) -> tuple[memoryview, Any, int]:
        """Return memory for a new generation (see change.Room)."""
        data, keeper, serial = flight.new_memory(self, nbytes)
        self._made[serial] = Kind.GENERATION
        flight.taken((serial,))
        return data, keeper, serial
