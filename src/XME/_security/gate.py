"""Who may take a lock, and what taking, sharing and giving back mean under each type.

Settings are read again whenever their generation has changed: before a try, after each slice of a wait, and once the
lock has been taken, so that nobody enters under settings that were over before he had it. A lock that was published
lives in the name's own domain from then on; the settings of the old place say where, and whoever comes there follows.
While one thread waits at the old place, another may have followed already: what takes the lock goes by one place from
beginning to end (_Terms), and never by what `_bind` has set meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple, NoReturn

from XME._core import guarded, named
from XME._core.deadlock import of_this_thread
from XME._core.guarded import W_SETTINGS, W_SINCE, Guarded
from XME._core.guarded_mutex import Holder, JudgeAnewError, Person
from XME._core.settings import Settings, decoded, short
from XME._security.kinds import ADMIN, LockType, seconds
from XME._store import keys
from XME.errors import ContainerGone, Deadlock, LockTimeout, NotAuthorised, XMEError

# How soon somebody who may not have the lock, and has time, looks whether he may.
_PERMISSION_POLL_S = 0.01
# The settings have changed meanwhile: try again.
_AGAIN: Final = XMEError("again")
_NOBODY: Final[Any] = (_AGAIN, Person(b"", ""), (Person(b"", ""), -1), None)
_ADMIN_KEY: Final = keys.canonical(ADMIN)
_UNREAD: Final = Settings(0, b"", frozenset(), generation=-1)


def key_of(operator: Any) -> bytes:
    """Return an operator's canonical bytes; TypeError if it has none."""
    # An enum's member takes 3 us, and this one is the usual operator.
    if operator is ADMIN:
        return _ADMIN_KEY
    try:
        return keys.canonical(operator)
    except TypeError as error:
        why = f"it is not the same in every process: {error}"
        if type(operator).__hash__ is None:
            why = f"a {type(operator).__name__} may change: take a str, bytes, a number or a tuple of such"
        msg = f"{text_of(operator)} cannot be an operator, since {why}"
        raise TypeError(msg) from error


def text_of(operator: Any) -> str:
    """Return how messages call an operator."""
    return operator.name if operator is ADMIN else repr(operator)[:60]


class _Terms(NamedTuple):
    """A lock's place, and the settings that count there."""

    at: Guarded
    settings: Settings

    @property
    def hold(self) -> bool:
        """True as long as there are no other settings."""
        return bool(self.at.words[W_SETTINGS] == self.settings.generation)


class Gate:
    """The policy of one Security in this process; the lock and the settings are shared."""

    __slots__ = ("_guarded", "_lock", "_mutex", "_settings", "_usual", "_usual_reader", "_words")

    # The settings that were read last.
    _settings: Settings
    # An operator who may have the lock alone, under settings of that generation, at that place: one tuple, as threads
    # share it. It also keeps the operator's object alive, so that no other can be taken for it.
    _usual: tuple[Any, Person, tuple[Person, int], Guarded]
    # The same for sharing.
    _usual_reader: tuple[Any, Person, tuple[Person, int], Guarded]

    def _bind(self, shared: Guarded) -> None:
        self._guarded = shared
        self._mutex = shared.mutex
        self._lock = shared.lock
        self._words = shared.words
        self._usual = self._usual_reader = _NOBODY
        self._settings = _UNREAD

    def __enter__(self) -> NoReturn:
        """Refuse (TypeError): it is taken on somebody's behalf."""
        raise TypeError("a lock is taken on somebody's behalf: `with lock.holding(lock.ADMIN):`, or any other operator")

    def __exit__(self, *exc_info: object) -> None:
        """Never called."""

    # -- settings --------------------------------------------------------------------------------------------------

    def _current(self) -> Settings:
        """Return the settings that count now, following the lock to where it was published."""
        while True:
            settings = self._settings
            if self._words[W_SETTINGS] == settings.generation:
                return settings
            settings = decoded(*self._guarded.settings.read())
            if settings.moved is not None:
                self._follow(settings)
                continue
            self._settings = settings
            look_every_s = settings.mute_s if settings.kind == LockType.MUTEX else 1.0
            self._guarded.wait_as(look_every_s, spins=settings.kind == LockType.SPIN)
            return settings

    def _terms(self) -> _Terms:
        """Return the settings that count now, and the place where they do."""
        while True:
            at = self._guarded
            settings = self._current()
            # Else another thread has followed the lock meanwhile.
            if self._guarded is at:
                return _Terms(at, settings)

    def _follow(self, settings: Settings) -> None:
        assert settings.moved is not None
        domain_id, serial, name = settings.moved
        try:
            shared = guarded.find(domain_id, serial)
            if shared is None or not shared.domain.joined or shared.domain.ended:
                with named.joining_by_id(domain_id, name) as domain:
                    shared = guarded.attach(domain, serial, name)
        except ContainerGone:
            # Nobody is there any more, nor can anybody come there: the old place counts again.
            self._change(lambda now: now.changed(moved=None) if now.moved == settings.moved else now, here=True)
        else:
            self._bind(shared)

    def _change(self, change: Callable[[Settings], Settings], *, here: bool = False) -> None:
        """Change the settings for all processes; the change is there or not, wherever this process is killed."""
        while True:
            if not here:
                self._current()
            if self._guarded.settings.change(lambda *read: _changed(decoded(*read), change, here=here)):
                return

    # -- persons ---------------------------------------------------------------------------------------------------

    @staticmethod
    def _person(at: Guarded, operator: Any) -> Person:
        key = key_of(operator)
        people = at.mutex.people
        person = people.get(key)
        return people.setdefault(key, Person(key, text_of(operator))) if person is None else person

    @staticmethod
    def _refusal(settings: Settings, person: Person) -> str | None:
        """Return what would let this person have the lock alone; None if nothing is missing."""
        if settings.kind == LockType.AUTHORISATION and short(person.key) not in settings.authorised:
            return "authorize() has not named it"
        if settings.kind == LockType.READWRITE and short(person.key) != settings.registered:
            return "another operator is registered to have it alone: registe() this one, or share it by acquire_read()"
        return None

    # -- taking ----------------------------------------------------------------------------------------------------

    def _take(self, operator: Any, limit_s: float | None, *, shared: bool = False) -> XMEError | None:
        """Take the lock; returns None, or the error that says why not.

        Args:
            operator: on whose behalf.
            limit_s: how long to wait; None: for ever, 0: only try.
            shared: as a reader.
        """
        deadline = None if limit_s is None else time.monotonic() + limit_s
        while True:
            terms = self._terms()
            try:
                error = self._take_under(terms, operator, deadline, limit_s, shared)
            except Deadlock as deadlock:
                return deadlock
            except JudgeAnewError:
                continue
            if error is not _AGAIN:
                return error

    def _take_under(
        self, terms: _Terms, operator: Any, deadline: float | None, limit_s: float | None, shared: bool
    ) -> XMEError | None:
        at, settings = terms
        shares = shared and settings.kind == LockType.READWRITE
        before = _levels(at)
        try:
            person = self._person(at, operator)
            if shares:
                if not settings.wait_s:
                    self._usual_reader = operator, person, (person, settings.generation), at
                return self._share(terms, person, deadline, limit_s)
            error = self._take_alone(terms, person, deadline, limit_s)
            if error is None and shared and _holds(at, person):
                at.mutex.by_readers += 1
        except BaseException:
            _fall_back(at, before)
            raise
        # With a time limit the long way is always taken.
        if error is None and not shared and not settings.wait_s and settings.kind != LockType.DISABLE:
            self._usual = operator, person, (person, settings.generation), at
        return error

    def _take_alone(
        self, terms: _Terms, person: Person, deadline: float | None, limit_s: float | None
    ) -> XMEError | None:
        at, settings = terms
        if at.mutex.held:
            return self._take_again(terms, person)
        if settings.kind == LockType.DISABLE:
            at.domain.require()
            return None
        refusal = self._refusal(settings, person)
        if refusal is not None:
            return self._await_permission(terms, person, deadline, refusal)
        if not at.lock.acquire_write(_left(deadline), (person, settings.generation)):
            return _late(at, person, limit_s)
        if not terms.hold:
            at.mutex.release()
            return _AGAIN
        at.enter(person)
        return None

    @staticmethod
    def _take_again(terms: _Terms, person: Person) -> XMEError | None:
        mutex = terms.at.mutex
        if mutex.operator is person:
            mutex.acquire()
            mutex.settled += 1
            return None
        if terms.settings.kind == LockType.DISABLE:
            return None
        return of_this_thread(mutex.title(), terms.at.lock.title(), person.text)

    @staticmethod
    def _await_permission(terms: _Terms, person: Person, deadline: float | None, refusal: str) -> XMEError:
        domain = terms.at.domain
        while deadline is not None and terms.hold:
            # Who waits has to be known as a process.
            domain.require()
            left = deadline - time.monotonic()
            if left <= 0:
                break
            terms.at.mutex.waiting.enter()
            time.sleep(min(_PERMISSION_POLL_S, left))
        terms.at.mutex.waiting.leave()
        if not terms.hold:
            return _AGAIN
        return NotAuthorised.of(terms.at.lock.title(), person.text, refusal)

    @staticmethod
    def _share(terms: _Terms, person: Person, deadline: float | None, limit_s: float | None) -> XMEError | None:
        lock = terms.at.lock
        if not lock.acquire_read(_left(deadline), (person, terms.settings.generation), person):
            return _late(terms.at, person, limit_s)
        if not terms.hold:
            lock.drop_share(person)
            return _AGAIN
        return None

    def _limit(self, wait_time: float | None) -> float | None:
        """Return how long to wait, None for ever."""
        wait_s = self._current().wait_s if wait_time is None else seconds("WaitTime", wait_time)
        return wait_s or None

    # -- giving back -----------------------------------------------------------------------------------------------

    def _give_back(self, operator: Any, limit_s: float | None, *, shared: bool = False) -> bool:
        """Give the lock back; False if it is not this operator's here, after `limit_s`."""
        deadline = time.monotonic() + (limit_s or 0.0)
        while True:
            at, settings = self._terms()
            person = self._person(at, operator)
            if _give_back_share(at, person) if shared else _give_back_alone(at, person):
                return True
            if settings.kind == LockType.DISABLE:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(_PERMISSION_POLL_S, left))

    def _levels(self) -> tuple[int, int, int, int]:
        return _levels(self._guarded)

    def _heard_of(self) -> Holder | None:
        """Return whose death left the lock to this thread; None also if it has not got it."""
        at = self._guarded
        if at.mutex.held:
            return at.mutex.died
        return at.dead_holder() if at.lock.reads and at.words[W_SINCE] else None

    def _fall_back_to(self, levels: tuple[int, int, int, int]) -> None:
        _fall_back(self._guarded, levels)


def _holds(at: Guarded, person: Person) -> bool:
    return bool(at.mutex.held and at.mutex.operator is person)


def _late(at: Guarded, person: Person, limit_s: float | None) -> LockTimeout:
    holder = at.holder()
    return LockTimeout.of(at.lock.title(), person.text, limit_s or 0.0, None if holder is None else str(holder))


def _levels(at: Guarded) -> tuple[int, int, int, int]:
    """Return how often this thread has it: alone, so many of these finished, and as a reader; and shared."""
    mutex = at.mutex
    # The count is mutex.depth, with fewer calls.
    alone = (mutex._count, mutex.settled, mutex.by_readers) if mutex.held else (0, 0, 0)
    return *alone, at.lock.shares


def _fall_back(at: Guarded, levels: tuple[int, int, int, int]) -> None:
    """Give back what this thread has beyond that, also if a second exception strikes meanwhile."""
    try:
        _fall_back_once(at, *levels)
    finally:
        _fall_back_once(at, *levels)


def _fall_back_once(at: Guarded, depth: int, settled: int, by_readers: int, shares: int) -> None:
    mutex = at.mutex
    mutex.waiting.leave()
    if mutex.held:
        mutex.settled = min(mutex.settled, settled)
        mutex.by_readers = min(mutex.by_readers, by_readers)
        at.fall_back(depth)
    at.lock.drop_shares(shares)


def _give_back_alone(at: Guarded, person: Person) -> bool:
    if not _holds(at, person):
        return False
    before = at.mutex.depth - 1
    try:
        at.leave()
    except BaseException:
        at.fall_back_twice(before)
        raise
    return True


def _give_back_share(at: Guarded, person: Person) -> bool:
    if at.lock.drop_share(person):
        return True
    if not _holds(at, person) or not at.mutex.by_readers:
        return False
    depth, settled, by_readers, shares = _levels(at)
    try:
        at.mutex.by_readers -= 1
        at.leave()
    except BaseException:
        _fall_back(at, (depth - 1, settled - 1, by_readers - 1, shares))
        raise
    return True


def _changed(now: Settings, change: Callable[[Settings], Settings], *, here: bool) -> bytes | None:
    return change(now).encoded() if here or now.moved is None else None


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
