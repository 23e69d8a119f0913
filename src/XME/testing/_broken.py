"""The zoo: twelve locks, each broken in one way, that the harness must catch; who tests the tester.

Every one works across processes, in the room of a run, and keeps most of its promises. What is wrong with it, and which
checker must say so, stands in its docstring.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import time
from collections.abc import Callable, Iterator

from XME.testing._room import Room

_POLL_S = 0.0005
_LIVES = 8
_WORDS = 64


class Shared:
    """Words in a mapped file, and a guard that the kernel frees when its holder dies."""

    tries = True
    waits = True

    def __init__(self, room: Room) -> None:
        """Open the files of the room; the first who comes makes them."""
        self._room = room
        self.me = room.worker + 1 + (room.life << 16)
        fd = os.open(room.path("words"), os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(fd, 8 * _WORDS)
        self._map = mmap.mmap(fd, 8 * _WORDS)
        os.close(fd)
        self.words = memoryview(self._map).cast("Q")
        self._guard = os.open(room.path("guard"), os.O_RDWR | os.O_CREAT, 0o600)
        self._lease = os.open(self._lease_path(room.worker + 1), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lease, fcntl.LOCK_EX)
        self.words[_LIVES + room.worker] = self.me

    def _lease_path(self, pid: int) -> str:
        return self._room.path(f"lease{pid & 0xFFFF}")

    @contextlib.contextmanager
    def atomic(self) -> Iterator[None]:
        """Nobody else is in such a block meanwhile."""
        fcntl.flock(self._guard, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._guard, fcntl.LOCK_UN)

    def is_alive(self, pid: int) -> bool:
        """True if somebody lives in that slot; as with a pid, it need not be the one who was meant."""
        if pid & 0xFFFF == self.me & 0xFFFF:
            return True
        fd = os.open(self._lease_path(pid), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def lives(self, owner: int) -> bool:
        """True if that very owner lives."""
        return self.words[_LIVES + (owner & 0xFFFF) - 1] == owner and self.is_alive(owner)

    def poll(self, attempt: Callable[[], bool], timeout_s: float | None) -> bool:
        """Repeat an attempt until it succeeds or the time is over."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not attempt():
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def close(self) -> None:
        """Let go of everything."""
        self.words.release()
        self._map.close()
        os.close(self._guard)
        os.close(self._lease)


class Owned(Shared):
    """A correct base: words[0] is the owner, and only he releases it. It stays locked when he dies."""

    def take(self) -> bool:
        """Take it, if nobody has it."""
        with self.atomic():
            if self.words[0]:
                return False
            self.words[0] = self.me
            return True

    def acquire(self, timeout_s: float | None) -> bool:
        """Take it."""
        return self.poll(self.take, timeout_s)

    def release(self) -> None:
        """Give it back."""
        with self.atomic():
            if self.words[0] != self.me:
                raise RuntimeError("not the owner")
            self.words[0] = 0


class Kernel(Shared):
    """A correct one that recovers: the kernel frees it when its holder dies."""

    def __init__(self, room: Room) -> None:
        """Open the file that is locked."""
        super().__init__(room)
        self._fd = os.open(room.path("kernel"), os.O_RDWR | os.O_CREAT, 0o600)
        self._held = False

    def take(self) -> bool:
        """Take it, if nobody has it."""
        if self._held:
            return False
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._held = True
        return True

    def acquire(self, timeout_s: float | None) -> bool:
        """Take it."""
        return self.poll(self.take, timeout_s)

    def release(self) -> None:
        """Give it back."""
        if not self._held:
            raise RuntimeError("not the owner")
        self._held = False
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)
        super().close()


class NoLock(Shared):
    """It locks nothing. MutualExclusion and Tripwire."""

    def acquire(self, timeout_s: float | None) -> bool:
        """Say yes."""
        del timeout_s
        return True

    def release(self) -> None:
        """Do nothing."""


class CheckThenSet(Shared):
    """It looks whether it is free, and then takes it. MutualExclusion, with a preemption in between."""

    def take(self) -> bool:
        """Look, and take."""
        owner = self.words[0]
        if owner:
            return False
        self.words[0] = self.me
        return True

    def acquire(self, timeout_s: float | None) -> bool:
        """Take it."""
        return self.poll(self.take, timeout_s)

    def release(self) -> None:
        """Give it back."""
        self.words[0] = 0


class AnyoneReleases(Owned):
    """A stranger's release frees it. OwnerOnly."""

    def release(self) -> None:
        """Give it back, whoever has it."""
        with self.atomic():
            self.words[0] = 0


class LostWakeup(Owned):
    """It wakes one waiter and forgets that there are others. Progress.

    words[1] says that somebody waits, words[2] counts wake-ups that nobody has taken yet.
    """

    def _take_or_wait(self) -> bool:
        with self.atomic():
            if not self.words[0]:
                self.words[0] = self.me
                return True
            self.words[1] = 1
            return False

    def _was_woken(self) -> bool:
        with self.atomic():
            if not self.words[2]:
                return False
            self.words[2] -= 1
            return True

    def acquire(self, timeout_s: float | None) -> bool:
        """Take it."""
        if timeout_s is not None:
            return self.poll(self.take, timeout_s)
        while not self._take_or_wait():
            self.poll(self._was_woken, None)
        return True

    def release(self) -> None:
        """Give it back, and wake one if there is one."""
        super().release()
        with self.atomic():
            if self.words[1]:
                self.words[1] = 0
                self.words[2] += 1


class EarlyTimeout(Owned):
    """It gives up after half the time. NoFalseRefusal."""

    def acquire(self, timeout_s: float | None) -> bool:
        """Take it."""
        return super().acquire(timeout_s if timeout_s is None else timeout_s / 2)


class WriterStarves(Shared):
    """Readers come in beside a waiting writer, for ever. BoundedWait.

    words[0] is the writer, words[1] the number of readers.
    """

    def acquire(self, timeout_s: float | None) -> bool:
        """Take it for writing."""
        return self.poll(lambda: self._take(write=True), timeout_s)

    def acquire_read(self, timeout_s: float | None) -> bool:
        """Take it for reading."""
        return self.poll(lambda: self._take(write=False), timeout_s)

    def _take(self, *, write: bool) -> bool:
        with self.atomic():
            if self.words[0] or (write and self.words[1]):
                return False
            self.words[0] = self.me if write else 0
            self.words[1] += not write
            return True

    def release(self) -> None:
        """Give back what was taken for writing."""
        self.words[0] = 0

    def release_read(self) -> None:
        """Give back what was taken for reading."""
        with self.atomic():
            self.words[1] -= 1


class DepthForgets(Owned):
    """The owner may take it again, and the first release frees it. Reentrancy."""

    def __init__(self, room: Room) -> None:
        """Nothing is taken yet."""
        super().__init__(room)
        self._depth = 0

    def take(self) -> bool:
        """Take it, perhaps again."""
        if not self._depth and not super().take():
            return False
        self._depth += 1
        return True

    def release(self) -> None:
        """Give it back once."""
        if not self._depth:
            raise RuntimeError("not the owner")
        self._depth -= 1
        with self.atomic():
            self.words[0] = 0


class DiesLocked(Owned):
    """It says that it recovers, and stays locked when its holder dies. CrashRecovery."""


class PidReuseSteals(Owned):
    """It knows owners by a number that the next process gets again. CrashRecovery and MutualExclusion.

    A dead owner whose number lives again is never recovered; and who was seen dead once is robbed when he lives again.
    """

    def __init__(self, room: Room) -> None:
        """Nobody is known to be dead."""
        super().__init__(room)
        self.me = room.worker + 1
        self._dead: set[int] = set()

    def take(self) -> bool:
        """Take it, also from the dead."""
        with self.atomic():
            owner = self.words[0]
            if owner and owner not in self._dead and self.is_alive(owner):
                return False
            if owner:
                self._dead.add(owner)
            self.words[0] = self.me
            return True


class TwoHeirs(Shared):
    """Everybody who sees that the holder died frees it, each for himself. CrashRecovery.

    words[0] counts how often it was taken, less how often it was freed; words[1] is the last who took it.
    """

    def _take(self) -> bool:
        with self.atomic():
            owner = self.words[1]
            if not self.words[0]:
                self.words[0], self.words[1] = 1, self.me
                return True
        if owner and not self.lives(owner):
            # Long enough for others to see the same.
            time.sleep(0.01)
            with self.atomic():
                self.words[1] = self.me
                return True
        return False

    def acquire(self, timeout_s: float | None) -> bool:
        """Take it."""
        return self.poll(self._take, timeout_s)

    def release(self) -> None:
        """Give it back."""
        with self.atomic():
            self.words[0] = self.words[1] = 0


class OwnerWrittenLate(Shared):
    """It recovers from the dead whose name it knows, and the name is written after it was taken. CrashRecovery.

    Only a kill between the two lines shows it: crash_sweep. words[0] says that it is taken, words[1] by whom.
    """

    def _set_flag(self) -> bool:
        with self.atomic():
            if self.words[0]:
                return False
            self.words[0] = 1
            return True

    def _take(self) -> bool:
        if self._set_flag():
            self.words[1] = self.me
            return True
        with self.atomic():
            owner = self.words[1]
            if owner and not self.lives(owner):
                self.words[1] = self.me
                return True
        return False

    def acquire(self, timeout_s: float | None) -> bool:
        """Take it."""
        return self.poll(self._take, timeout_s)

    def release(self) -> None:
        """Give it back."""
        with self.atomic():
            self.words[0], self.words[1] = 0, 0


class Leaky(Kernel):
    """Every time it is taken, a descriptor more stays open. NoLeak."""

    def release(self) -> None:
        """Give it back."""
        super().release()
        os.open(os.devnull, os.O_RDONLY)
