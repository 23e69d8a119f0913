"""Locks for operators: who may take one, who has it, and what happens when somebody cannot get it.

    type            acquire(operator)
    DISABLE         True, always
    MUTEX           one holder; waiters are woken by a release
    AUTHORISATION   MUTEX, for operators named by authorize() only (ADMIN is)
    READWRITE       the registered operator (ADMIN, or whom registe() names) alone; anyone may share by acquire_read()
    SPIN            one holder; a waiter first tries without sleeping

An operator is a credential: any value that would do as a key of a shared dict. A holder is an operator in one thread of
one process. No lock stays taken when its holder is killed, and waiting in a circle is noticed. It is a convention
between the processes of one user: whoever does not ask is not stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from time import time_ns
from typing import Any, ClassVar, Self

from XME._containers import by_name
from XME._core import guarded, named, program, registry
from XME._core.callable_module import name_the_class
from XME._core.domain import Domain
from XME._core.guarded import W_DEATHS, W_FLAG, W_SETTINGS, W_SINCE, W_WHO
from XME._core.guarded_mutex import Holder, JudgeAnewError
from XME._core.settings import Settings, short
from XME._security.answers import call, packed, require_callable
from XME._security.gate import Gate, key_of
from XME._security.held import Held
from XME._security.kinds import (
    ADMIN,
    DEADLOCKMARK_ONLOCK,
    DEADLOCKMARK_UNLOCK,
    DeadLockMark,
    LockType,
    Operator,
    Statistics,
    kind_of,
    seconds,
)
from XME.errors import Deadlock, MutexError

__all__ = [
    "ADMIN", "AUTHORISATION", "DEADLOCKMARK_ONLOCK", "DEADLOCKMARK_UNLOCK", "DISABLE", "MUTEX", "READWRITE", "SPIN",
    "DeadLockMark", "Held", "Holder", "LockType", "Operator", "Security", "Statistics",
]  # fmt: skip

DISABLE, MUTEX, AUTHORISATION, READWRITE, SPIN = LockType

_KIND = "security"
_ONE_WRITER = "name one; for several use the lock type AUTHORISATION and authorize()"
_Answer = Callable[[], Any]


class Security(Gate):
    """A lock between processes and threads, for operators; it pickles as a name and means the same lock everywhere.

    Args:
        LockType: DISABLE, MUTEX, AUTHORISATION, READWRITE (the default) or SPIN.

    Costs about 0.2 ms to make, and some 2 us for a pair of acquire and release that nobody else wants.

    >>> lock = Security(MUTEX)
    >>> if lock.acquire(lock.ADMIN):
    ...     lock.release(lock.ADMIN)
    True
    >>> with lock.holding("me"):
    ...     lock.try_acquire("you")
    False
    """

    __slots__ = ("__weakref__",)

    ADMIN: ClassVar = ADMIN

    def __init__(self, LockType: Any = READWRITE) -> None:
        """Make a new lock in this program's domain.

        Raises:
            ValueError: there is no such lock type.
            SharedMemoryFull: shared memory has no room for it.
        """
        kind = kind_of(LockType)
        named.tidy()
        admin = short(key_of(ADMIN))
        settings = Settings(int(kind), admin, frozenset({admin}))
        self._bind(guarded.create(program.program_domain(), settings.encoded()))

    # -- taking ----------------------------------------------------------------------------------------------------

    def acquire(self, Operator: Any, WaitTime: float | None = None, DeadLockFun: _Answer | None = None) -> Any:
        """Take the lock alone; the holder may take it again.

        Args:
            Operator: on whose behalf.
            WaitTime: how long to wait at most, in seconds; 0: no limit; None: what WaitTime() has set.
            DeadLockFun: what to call, without arguments, if it is not had; None: what DeadLockFun() has set.

        Returns:
            True if it is held now. Else what the DeadLockFun gives, by default the false text DEADLOCKMARK_ONLOCK:
            when the time is over, at once when waiting would be a deadlock, and at once for an operator who may not
            have it while there is no time limit (with one, it may still be authorized in time).

        Raises:
            TypeError: the operator is nothing that every process sees as the same.
            ValueError: WaitTime is negative or no number.
            DomainEnded: the program that owns the lock has ended.
        """
        known, person, purpose, at = self._usual
        # A thread that reads must hear at once that it cannot have it.
        if Operator is not known or WaitTime is not None or at.words[W_SETTINGS] != purpose[1] or at.lock._readers:
            return self._acquire(Operator, WaitTime, DeadLockFun, shared=False)
        # The usual case, with as little as possible: the long way's steps are in gate.py.
        mutex, words = at.mutex, at.words
        try:
            mutex.acquire(None, purpose)
            if mutex.settled:
                if mutex.operator is person:
                    mutex.settled += 1
                    return True
            # No dead holder, no readers, the same settings.
            elif not words[W_SINCE] and not words[W_FLAG] and words[W_SETTINGS] == purpose[1]:
                if person.thread != get_ident() or words[W_WHO] != person.tag:
                    at.sign(person)
                words[W_SINCE] = time_ns()
                mutex.by_readers = 0
                # The operator last: see Guarded.enter.
                mutex.settled = 1
                mutex.operator = person
                return True
            mutex.release()
        except Deadlock:
            return call(DeadLockFun, self._settings.on_acquire, DEADLOCKMARK_ONLOCK)
        except JudgeAnewError:
            pass
        except BaseException:
            at.fall_back_twice()
            raise
        return self._acquire(Operator, WaitTime, DeadLockFun, shared=False)

    def _acquire(self, Operator: Any, WaitTime: float | None, DeadLockFun: _Answer | None, *, shared: bool) -> Any:
        require_callable("DeadLockFun", DeadLockFun)
        error = self._take(Operator, self._limit(WaitTime), shared=shared)
        return True if error is None else call(DeadLockFun, self._settings.on_acquire, DEADLOCKMARK_ONLOCK)

    def try_acquire(self, Operator: Any) -> bool:
        """Take the lock alone if that is possible now, and say whether it was; DeadLockFuns are not called.

        >>> Security(MUTEX).try_acquire("me")
        True
        """
        return self._take(Operator, 0.0) is None

    def acquire_read(self, Operator: Any, WaitTime: float | None = None, DeadLockFun: _Answer | None = None) -> Any:
        """Share the lock with other readers; any operator may. Who has it alone may read as well.

        Waiting writers keep new readers out. Under MUTEX, AUTHORISATION and SPIN, which do not share, this is acquire.

        Args and result are those of `acquire`. To acquire what one reads is a deadlock at once.
        """
        known, person, purpose, at = self._usual_reader
        if Operator is known and WaitTime is None and at.words[W_SETTINGS] == purpose[1]:
            try:
                at.lock.acquire_read(None, purpose, person)
            except Deadlock:
                return call(DeadLockFun, self._settings.on_acquire, DEADLOCKMARK_ONLOCK)
            except JudgeAnewError:
                pass
            except BaseException:
                at.mutex.waiting.leave()
                raise
            else:
                if at.words[W_SETTINGS] == purpose[1]:
                    return True
                at.lock.drop_share(person)
        return self._acquire(Operator, WaitTime, DeadLockFun, shared=True)

    def release(self, Operator: Any, WaitTime: float | None = None, DeadLockFun: _Answer | None = None) -> Any:
        """Give the lock back.

        Args:
            Operator: who acquired it.
            WaitTime: how long to wait before the DeadLockFun is called; 0: not at all; None: what WaitTime() has set.
            DeadLockFun: what to call, without arguments, if this is not the holder; None: what DeadLockFun() has set.

        Returns:
            True. If this operator does not hold it in this thread, nothing changes, and what the DeadLockFun gives is
            returned, by default the false text DEADLOCKMARK_UNLOCK.
        """
        known, person, _, at = self._usual
        if Operator is known and (mutex := at.mutex).operator is person and mutex._local._is_owned():
            try:
                if mutex.settled == 1:
                    mutex.died = None
                mutex.settled -= 1
                if not mutex.settled:
                    at.words[W_SINCE] = 0
                    mutex.operator = None
                mutex.release()
            except BaseException:
                at.fall_back_twice()
                raise
            return True
        return self._released(Operator, WaitTime, DeadLockFun, shared=False)

    def release_read(self, Operator: Any, WaitTime: float | None = None, DeadLockFun: _Answer | None = None) -> Any:
        """Give a share of the lock back; arguments and result are those of `release`."""
        known, person, _, at = self._usual_reader
        if Operator is known and at.lock.drop_share(person):
            return True
        return self._released(Operator, WaitTime, DeadLockFun, shared=True)

    def _released(self, Operator: Any, WaitTime: float | None, DeadLockFun: _Answer | None, *, shared: bool) -> Any:
        require_callable("DeadLockFun", DeadLockFun)
        if self._give_back(Operator, self._limit(WaitTime), shared=shared):
            return True
        return call(DeadLockFun, self._settings.on_release, DEADLOCKMARK_UNLOCK)

    def holding(self, Operator: Any, WaitTime: float | None = None) -> Held:
        """Return a context manager that holds the lock alone, and raises where acquire gives marks.

        On entering: LockTimeout, Deadlock or NotAuthorised. It gives an object whose ``owner_died`` is the `Holder`
        whose death left the lock to this one, or None.

        >>> with Security(MUTEX).holding("me") as held:
        ...     held.owner_died
        """
        return Held(self, Operator, WaitTime, shared=False)

    def reading(self, Operator: Any, WaitTime: float | None = None) -> Held:
        """Return a context manager that shares the lock; see `holding`."""
        return Held(self, Operator, WaitTime, shared=True)

    # -- settings, for all processes -------------------------------------------------------------------------------

    def update_lock(self, LockType: Any) -> None:
        """Change the type of the lock. Its holder keeps it; who waits is judged anew at once."""
        kind = int(kind_of(LockType))
        self._change(lambda now: now.changed(kind=kind))

    def authorize(self, *Operator: Any) -> None:
        """Let more operators have an AUTHORISATION lock."""
        if not Operator:
            msg = "authorize() wants at least one operator"
            raise TypeError(msg)
        more = frozenset(short(key_of(one)) for one in Operator)
        self._change(lambda now: now.changed(authorised=now.authorised | more))

    def registe(self, Operator: Any, *others: Any) -> None:
        """Let this operator have a READWRITE lock alone, in the place of the one before it, ADMIN included."""
        if others:
            msg = f"registe() names the one operator who may write, and got {1 + len(others)}: {_ONE_WRITER}"
            raise TypeError(msg)
        key = short(key_of(Operator))
        self._change(lambda now: now.changed(registered=key))

    def WaitTime(self, waittime: float) -> None:
        """Set how long acquire waits where it does not say, in seconds; 0 (the default): no limit."""
        wait_s = seconds("WaitTime", waittime)
        self._change(lambda now: now.changed(wait_s=wait_s))

    def MuteTime(self, mutetime: float) -> None:
        """Set after how many seconds a waiter for a MUTEX looks again at the latest (0.1)."""
        mute_s = seconds("MuteTime", mutetime)
        self._change(lambda now: now.changed(mute_s=mute_s))

    def DeadLockFun(self, acquire: _Answer | None = None, release: _Answer | None = None) -> None:
        """Set what acquire and release call, without arguments, and return when they do not succeed.

        It is called in the process that did not succeed. What is None stays as it is; DEADLOCKMARK_ONLOCK for acquire,
        or DEADLOCKMARK_UNLOCK for release, brings back the default, which returns that mark.

        Raises:
            TypeError: it is no function, or cannot be called without arguments.
            UnshareableArgument: the function cannot travel to another process.
        """
        fields = {}
        if acquire is not None:
            fields["on_acquire"] = packed("acquire", acquire, DEADLOCKMARK_ONLOCK)
        if release is not None:
            fields["on_release"] = packed("release", release, DEADLOCKMARK_UNLOCK)
        self._change(lambda now: now.changed(**fields))

    # -- looking ---------------------------------------------------------------------------------------------------

    def statistics(self) -> Statistics:
        """Return what is going on at this moment, as far as one process can see it (some 60 us)."""
        kind = LockType(self._current().kind)
        at = self._guarded
        return Statistics(kind, at.holder(), at.waiting(), at.reading(), at.words[W_DEATHS])

    def get_str(self) -> str:
        """Return what repr says: type, holder, since when, and how many wait."""
        return repr(self)

    @property
    def name(self) -> str | None:
        """The public name under which `XME.attach` finds it, or None."""
        self._current()
        return self._guarded.name

    def __repr__(self) -> str:
        now = self.statistics()
        parts = [f"held by {now.holder}" if now.holder else f"{now.reading} reading" if now.reading else "free"]
        if now.waiting:
            parts.append(f"{now.waiting} waiting")
        name = "" if self._guarded.name is None else f" {self._guarded.name!r}"
        return f"<Security{name} {now.type.name}, {', '.join(parts)}>"

    # -- names -----------------------------------------------------------------------------------------------------

    def publish(self, name: str) -> Self:
        """Give the lock a public name, under which `XME.attach` finds it from any program of this user.

        Waits until nobody has the lock. All handles that there are follow it there.

        Raises:
            NameTaken: the name is in use.
            ValueError: it has another one already.
            MutexError: this thread has the lock.
        """
        registry.check_name(name)
        named.tidy()
        self._current()
        if self._guarded.name is not None:
            if self._guarded.name == name:
                # Who published it may have been killed before the name could be found.
                registry.add(_entry(self._guarded, name))
                return self
            msg = f"this lock is published as {self._guarded.name!r} already"
            raise ValueError(msg)
        old = self._guarded
        if old.mutex.held or old.lock.reads:
            msg = "publish() by a thread that has this lock: give it back first, since publishing has to take it"
            raise MutexError(msg)
        old.lock.acquire_write()
        try:
            # Somebody else may have published it, or changed it, meanwhile.
            settings = self._current()
            if self._guarded is old:
                self._move(settings, name)
        finally:
            old.lock.release_write()
        return self if self._guarded.name == name else self.publish(name)

    def _move(self, settings: Settings, name: str) -> None:
        with named.founding(name) as domain:
            shared = guarded.create(domain, settings.encoded(), name)
            shared.succeed(self._guarded)
            self._change(lambda now: now.changed(moved=(domain.id, shared.serial, name)), here=True)
            try:
                registry.add(_entry(shared, name))
            except BaseException:
                self._change(lambda now: now.changed(moved=None), here=True)
                raise
            self._bind(shared)

    def __reduce__(self) -> Any:
        self._current()
        shared = self._guarded
        shared.domain.require()
        shared.mark_handed()
        return _restored, (shared.domain.id, shared.serial, shared.name)


def _entry(shared: guarded.Guarded, name: str) -> registry.Entry:
    return registry.Entry(name, shared.domain.id, shared.serial, _KIND)


def _restored(domain_id: str, serial: int, name: str | None) -> Security:
    """Return the Security that another process pickled."""
    security = Security.__new__(Security)
    security._bind(_find(domain_id, serial, name))
    return security


def _find(domain_id: str, serial: int, name: str | None) -> guarded.Guarded:
    shared = guarded.find(domain_id, serial)
    if shared is not None:
        return shared
    if name is None:
        named.tidy()
        return guarded.attach(program.join(domain_id), serial, None)
    with named.joining_by_id(domain_id, name) as domain, named.explaining(domain, name):
        return guarded.attach(domain, serial, name)


def open_entry(domain: Domain, entry: registry.Entry) -> Security:
    """Open a published Security from its registry entry; named.lock is held."""
    security = Security.__new__(Security)
    with named.explaining(domain, entry.name):
        security._bind(guarded.attach(domain, entry.serial, entry.name))
    return security


by_name.add_opener(_KIND, open_entry)
name_the_class(__name__, "Security")
