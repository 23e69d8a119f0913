"""A RobustMutex whose memory and semaphore can be let go while nobody uses it, and come back when somebody does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from XME._core.mutex import FREE, RobustMutex
from XME._core.recovery import Party
from XME.errors import ContainerGone, DomainEnded

# An epoch that is odd and that no mutex remembers: acquire goes its long way.
_NO_WORDS = (1,)


class IdleMutex(RobustMutex):
    """One object for as long as its process has the container, whether its memory is mapped or not.

    Two objects of one mutex in one process would share a state word (and could both hold it), so it is the memory that
    comes and goes, and not the object.
    """

    __slots__ = ("_open", "_public_name")

    def __init__(
        self, party: Party, serial: int, reopen: Callable[[], tuple[Any, Any]], public_name: str | None = None
    ) -> None:
        """Make a mutex whose memory and semaphore are opened when it is first taken.

        Args:
            party: whose mutex it is.
            serial: its number.
            reopen: returns its words and semaphore when they are wanted.
            public_name: of the container that it belongs to, whose domain ends when that goes.
        """
        self._open = reopen
        self._public_name = public_name
        super().__init__(party, _NO_WORDS, _Unopened, serial)
        self._semaphore = None

    def let_go(self, forget: Callable[[], bool]) -> bool:
        """Forget words and semaphore; False if a thread is using the mutex.

        Args:
            forget: forgets what the mutex guards, while no thread is in it; False if that is in use.
        """
        try:
            if not self._local.acquire(blocking=False):
                return False
            if self._phase != FREE or not forget():
                return False
            # In this order: after a Ctrl-C in between, the next acquire goes the long way, and opens what is not there.
            self._epoch = self._mine = -1
            self._semaphore = None
            self._words = _NO_WORDS
            self._grab = self._post = _refuse
            return True
        finally:
            # Not release(): a Ctrl-C may strike before the local lock was taken, and between the two here.
            try:
                self._trim()
            finally:
                self._trim()

    def _take_slowly(self, deadline: float | None) -> bool:
        try:
            if self._semaphore is None:
                self._words, semaphore = self._open()
                self._grab = semaphore.acquire
                self._post = semaphore.release
                # Last: after a Ctrl-C in between, the next acquire opens it once more.
                self._semaphore = semaphore
            return super()._take_slowly(deadline)
        except (ContainerGone, DomainEnded) as error:
            if self._public_name is not None:
                raise ContainerGone.of(self._public_name) from None
            if self._party.ended and isinstance(error, ContainerGone):
                raise DomainEnded.of(str(getattr(self._party, "id", ""))) from None
            raise


def _refuse(*_args: Any) -> None:
    msg = "a mutex was used whose memory was let go"
    raise RuntimeError(msg)


class _Unopened:
    """Stands where a semaphore is not open."""

    acquire = release = staticmethod(_refuse)
