"""One face for every kind of lock: acquire(timeout_s) -> bool and release()."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class LockLike(Protocol):
    """What the harness calls; a lock that has this needs no adapter."""

    def acquire(self, timeout_s: float | None) -> bool:
        """Take it: None waits for ever, 0 only tries; False: it was not to be had."""

    def release(self) -> None:
        """Give it back."""


Take = Callable[[float | None], Any]
Give = Callable[[], Any]


@dataclass(frozen=True)
class Adapted:
    """A lock behind callables.

    Attributes:
        lock, take, give, take_read, give_read: see `adapt`.
        tries, waits: whether it can try, and can wait with a limit.
        died: says whether the last owner died; None: the lock's ``owner_died`` does, if there is one.
    """

    lock: Any
    take: Take
    give: Give
    take_read: Take | None = None
    give_read: Give | None = None
    tries: bool = True
    waits: bool = True
    died: Callable[[], bool] | None = None

    def acquire(self, timeout_s: float | None) -> bool:
        """Take it."""
        return _said_yes(self.take(timeout_s))

    def release(self) -> None:
        """Give it back."""
        self.give()

    def acquire_read(self, timeout_s: float | None) -> bool:
        """Take it for reading."""
        assert self.take_read is not None
        return _said_yes(self.take_read(timeout_s))

    def release_read(self) -> None:
        """Give the reader's part back."""
        assert self.give_read is not None
        self.give_read()

    @property
    def owner_died(self) -> bool:
        """True if the lock says that its last owner died."""
        return bool(getattr(self.lock, "owner_died", False)) if self.died is None else self.died()

    @property
    def closes(self) -> bool:
        """True if what is behind it can be closed."""
        return callable(getattr(self.lock, "close", None))

    def close(self) -> None:
        """Close what is behind it, if that can be closed."""
        if self.closes:
            self.lock.close()


def _said_yes(answer: Any) -> bool:
    # Locks that only raise when they fail return None, or the file or proxy that they have locked.
    return answer is not False and (answer is None or not isinstance(answer, str))


def adapt(
    lock: Any = None,
    *,
    acquire: Take | None = None,
    release: Give | None = None,
    acquire_read: Take | None = None,
    release_read: Give | None = None,
    tries: bool = True,
    waits: bool = True,
) -> Adapted:
    """Give a lock the face that the harness calls.

    Recognised: XME's own Security (taken as ADMIN; with readers if it is READWRITE), locks and semaphores of threading
    and multiprocessing, filelock, fasteners, portalocker, posix_ipc, and everything whose ``acquire`` takes
    ``timeout_s``, or any of ``blocking``, ``timeout`` and redis-py's ``blocking_timeout``. Anything else says how it is
    taken by callables: they get None (wait for ever), 0 (try) or seconds.

    Args:
        lock: the lock; it is also what ``close`` and ``owner_died`` are asked of.
        acquire: takes it; what it returns is a success unless it is False.
        release: gives it back.
        acquire_read: takes it for reading.
        release_read: gives the reader's part back.
        tries: False if ``acquire`` cannot try.
        waits: False if ``acquire`` cannot wait with a limit.

    Raises:
        TypeError: the lock is of an unknown kind, and no callables were given.

    >>> import threading
    >>> lock = adapt(threading.Lock())
    >>> lock.acquire(0), lock.acquire(0)
    (True, False)
    """
    if acquire is not None and release is not None:
        return Adapted(lock, acquire, release, acquire_read, release_read, tries, waits)
    if isinstance(lock, Adapted):
        return lock
    for recognise in (_with_timeout_s, _fasteners_read_write, _by_home, _with_blocking):
        adapted = recognise(lock)
        if adapted is not None:
            return adapted
    msg = (
        f"{type(lock).__name__} is no lock that adapt() knows: pass "
        "adapt(lock, acquire=lambda timeout_s: ..., release=lambda: ...)"
    )
    raise TypeError(msg)


def _parameters(function: Any) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return ()


def _with_timeout_s(lock: Any) -> Adapted | None:
    if "timeout_s" not in _parameters(getattr(lock, "acquire", None)):
        return None
    tries, waits = getattr(lock, "tries", True), getattr(lock, "waits", True)
    take_read = getattr(lock, "acquire_read", None)
    return Adapted(lock, lock.acquire, lock.release, take_read, getattr(lock, "release_read", None), tries, waits)


def _fasteners_read_write(lock: Any) -> Adapted | None:
    if not hasattr(lock, "acquire_read_lock") or not hasattr(lock, "acquire_write_lock"):
        return None
    if "blocking" in _parameters(lock.acquire_write_lock):
        return Adapted(
            lock, _blocking(lock.acquire_write_lock), lock.release_write_lock,
            _blocking(lock.acquire_read_lock), lock.release_read_lock,
        )  # fmt: skip
    return Adapted(
        lock, _endless(lock.acquire_write_lock), lock.release_write_lock,
        _endless(lock.acquire_read_lock), lock.release_read_lock, tries=False, waits=False,
    )  # fmt: skip


def _blocking(take: Callable[..., Any]) -> Take:
    def call(timeout_s: float | None) -> Any:
        return take(blocking=True) if timeout_s is None else take(blocking=timeout_s > 0, timeout=timeout_s or None)

    return call


def _endless(take: Callable[[], Any]) -> Take:
    def call(timeout_s: float | None) -> Any:
        if timeout_s is not None:
            raise TypeError("this lock can only wait for ever")
        take()

    return call


def _refusing(take: Callable[[float | None], Any], refusals: tuple[type[BaseException], ...]) -> Take:
    def call(timeout_s: float | None) -> bool:
        try:
            take(timeout_s)
        except refusals:
            return False
        return True

    return call


def _by_home(lock: Any) -> Adapted | None:
    """Recognise a lock by the module that a class of it comes from, without importing any that is not there."""
    homes = {cls.__module__.partition(".")[0] for cls in type(lock).__mro__}
    if "XME" in homes:
        return _security(lock)
    if "filelock" in homes:
        return _filelock(lock)
    if "portalocker" in homes:
        return _portalocker(lock)
    if "posix_ipc" in homes:
        return _posix_ipc(lock)
    return None


class _AsAdmin:
    """A Security's calls as ADMIN, which raise what the harness should not take for a refusal."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._died = False

    def take(self, timeout_s: float | None) -> None:
        """Take it alone."""
        block = self._lock.holding(self._lock.ADMIN, _wait_time(timeout_s))
        block.__enter__()
        self._died = block.owner_died is not None

    def take_read(self, timeout_s: float | None) -> None:
        """Share it."""
        # Of a death the next one hears who has it alone.
        self._died = False
        self._lock.reading(self._lock.ADMIN, _wait_time(timeout_s)).__enter__()

    def give(self) -> None:
        """Give it back."""
        _require_given(self._lock.release(self._lock.ADMIN, None, _not_had))

    def give_read(self) -> None:
        """Give the share back."""
        _require_given(self._lock.release_read(self._lock.ADMIN, None, _not_had))

    def died(self) -> bool:
        """Say whether the owner before this one died."""
        return self._died


def _wait_time(timeout_s: float | None) -> float:
    # 0 is no limit there. Another reader on his way in or out has it for some microseconds, and refuses nobody.
    return 0.0 if timeout_s is None else timeout_s or 0.005


def _not_had() -> bool:
    return False


def _require_given(given: bool) -> None:
    if not given:
        raise RuntimeError("ADMIN does not hold this Security in this thread")


def _security(lock: Any) -> Adapted | None:
    from XME.errors import LockTimeout
    from XME.Security import LockType, Security

    if not isinstance(lock, Security):
        return None
    face = _AsAdmin(lock)
    shares = lock.statistics().type == LockType.READWRITE
    return Adapted(
        lock, _refusing(face.take, (LockTimeout,)), face.give,
        _refusing(face.take_read, (LockTimeout,)) if shares else None, face.give_read if shares else None,
        died=face.died,
    )  # fmt: skip


def _filelock(lock: Any) -> Adapted:
    import filelock

    def take(timeout_s: float | None) -> Any:
        return lock.acquire(timeout=-1 if timeout_s is None else timeout_s)

    return Adapted(lock, _refusing(take, (filelock.Timeout,)), lock.release)


def _portalocker(lock: Any) -> Adapted:
    import portalocker

    def take(timeout_s: float | None) -> Any:
        # Without a limit it has one of its own, so "for ever" is a day.
        return lock.acquire(timeout=86_400.0 if timeout_s is None else timeout_s, fail_when_locked=timeout_s == 0)

    # AlreadyLocked says no; any other of its exceptions is an error.
    return Adapted(lock, _refusing(take, (portalocker.AlreadyLocked,)), lock.release)


def _posix_ipc(lock: Any) -> Adapted:
    import posix_ipc

    return Adapted(lock, _refusing(lock.acquire, (posix_ipc.BusyError,)), lock.release)


# What locks call the limit of a wait, and the switch to try only. Beside a blocking_timeout, a timeout is that of the
# hold.
_LIMITS = ("blocking_timeout", "timeout")
_SWITCHES = ("blocking", "block")


def _with_blocking(lock: Any) -> Adapted | None:
    """Recognise what threading and multiprocessing have: acquire(block, timeout), by position since names differ."""
    if not callable(getattr(lock, "acquire", None)) or not callable(getattr(lock, "release", None)):
        return None
    home = type(lock).__module__.partition(".")[0]
    names = _parameters(lock.acquire)
    if names and not {*_LIMITS, *_SWITCHES} & set(names):
        return None
    if not names or home in {"threading", "_thread", "multiprocessing", "_multiprocessing"}:
        return Adapted(lock, _positional(lock.acquire), lock.release)
    waits = any(name in names for name in _LIMITS)
    return Adapted(lock, _named(lock.acquire, names), lock.release, waits=waits)


def _positional(take: Callable[..., Any]) -> Take:
    def call(timeout_s: float | None) -> Any:
        if timeout_s is None:
            return take()
        return take(True, timeout_s) if timeout_s else take(False)

    return call


def _named(take: Callable[..., Any], names: tuple[str, ...]) -> Take:
    limit = next((name for name in _LIMITS if name in names), None)
    switch = next((name for name in _SWITCHES if name in names), None)

    def call(timeout_s: float | None) -> Any:
        if timeout_s is None:
            return take()
        if not timeout_s and switch is not None:
            return take(**{switch: False})
        if limit is None:
            raise TypeError("this lock cannot wait with a limit")
        return take(**{limit: timeout_s})

    return call
