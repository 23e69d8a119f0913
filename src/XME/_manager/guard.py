"""XMEGuard: runs the calls that are appended to an XMEManager, one after the other, in a process of its own.

When it ends, if no call waits::

    in gfun      when the functions beside it have ended, and then at once if it was told to stop or hearts have beaten,
                 else when nothing was appended for ExitTime
    elsewhere    when it was told to stop, or hearts have beaten and none does, or nothing was appended for ExitTime

Its script ends first: the guard tells it (``Status`` False) and goes on running calls until it has ended, or has taken
too long (script.py). It sleeps on a semaphore that an append posts. Killed, it is started again by gfun, and the call
that it was on is settled first (buffer.py).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any, Self

from XME._core.semaphore import Busy
from XME._manager.ring import SLICE_S, W_ASLEEP, W_BEATS, W_BESIDE, W_BROKEN
from XME._manager.script import Script
from XME.errors import DomainEnded, SharedMemoryFull

# So many calls are run before others, who run calls by hand, get a turn.
_BATCH = 64
# How long the guard looks for a call before it sleeps.
_LINGER_S = 20e-6 if (os.cpu_count() or 1) > 1 else 0.0
# macOS has no sched_yield.
_give_way: Callable[[], None] = getattr(os, "sched_yield", lambda: time.sleep(0))


class XMEGuard:
    """The guard of a gfun: ``XME.XME(fun, xmeguard.Guard).gfun(...)``.

    Args:
        ExitTime: how long nothing is appended before it ends by itself, in seconds; 0: never.
        LoopTime: how long it waits at most before it looks again, in seconds, when there was a call; an append wakes
            it at once.
        EmpLoopTime: the same when there was none.
        VerboseTime: after how many seconds it prints what it is doing; 0: never.
        script: Python code that runs in the guard's process beside it, with ``__GUARD__`` (this object), ``XMEManager``
            and ``print``; an error in it is raised by gfun. ``guard + "more"`` appends to it. ``__GUARD__.Status`` is
            True until the guard wants to end, and a script that makes it False tells it to stop. The guard waits for
            it: a script that runs in a loop asks for ``__GUARD__.Status`` in it.

    Raises:
        ValueError: a time is negative or no number.

    >>> guard = XMEGuard(ExitTime=1)
    >>> guard + "__GUARD__.seen = 1"
    <XMEGuard ExitTime=1, script of 18 characters>
    """

    Status = False

    def __init__(
        self, ExitTime: float = 10, LoopTime: float = 1e-6, EmpLoopTime: float = 0.1, VerboseTime: float = 5,
        script: str = "",
    ) -> None:  # fmt: skip
        times = {"ExitTime": ExitTime, "LoopTime": LoopTime, "EmpLoopTime": EmpLoopTime, "VerboseTime": VerboseTime}
        for name, seconds in times.items():
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
                msg = f"{name} is a number of seconds, 0 or more, not {seconds!r}"
                raise ValueError(msg)
        _require_text(script)
        self.ExitTime = ExitTime
        self.LoopTime = LoopTime
        self.EmpLoopTime = EmpLoopTime
        self.VerboseTime = VerboseTime
        self.script = script

    def __add__(self, script: str) -> Self:
        _require_text(script)
        self.script += script if not self.script or self.script.endswith("\n") else "\n" + script
        return self

    def __repr__(self) -> str:
        return f"<XMEGuard ExitTime={self.ExitTime:g}, script of {len(self.script)} characters>"

    def Guard(self, XMEManager: Any = None, print: Callable[..., None] = print) -> int:
        """Run calls until it is time to end; returns how many.

        Raises:
            what the script raises, when all calls have run.
            TimeoutError: the script had not ended ten seconds after the guard wanted to.
            RuntimeError: guards died again and again before they could run one call.
        """
        if XMEManager is None:
            msg = "a guard runs an XMEManager's calls: XME.XME(fun, guard.Guard).gfun(...), or Guard(XMEManager=...)"
            raise TypeError(msg)
        names = {"__name__": "__guard_script__", "__GUARD__": self, "XMEManager": XMEManager, "print": print}
        script = Script(self.script, names, XMEManager._ring.wake)
        service = _Service(self, XMEManager, print, script)
        try:
            service.begin()
            self.Status = True
            script.start()
            service.run()
        except BaseException as error:
            service.failed(error)
            script.leave()
            raise
        finally:
            self.Status = False
        script.end()
        return service.count


def _require_text(script: Any) -> None:
    if not isinstance(script, str):
        msg = f"script is Python code as text, not {script!r}"
        raise TypeError(msg)


# A guard's calls are settled by the one that is started after it: it may be started again.
XMEGuard.Guard.is_restartable = True  # type: ignore[attr-defined] # functions take attributes


class _Service:
    def __init__(self, guard: XMEGuard, manager: Any, print: Callable[..., None], script: Script) -> None:
        self._guard = guard
        self._print = print
        self._script = script
        self._shared = manager._shared
        self._ring = manager._ring
        self._buffer = manager._buffer
        self.count = 0

    def begin(self) -> None:
        """Be counted, before anything of the user's runs that might end this process."""
        if not self._ring.words[W_BESIDE]:
            self._shared.guard.update(Status=True)
        self._buffer.begin_guard()
        self._shared.guard.update(pid=os.getpid(), since=time.time())

    def run(self) -> None:
        words = self._ring.words
        try:
            self._loop(words)
            self._buffer.end_guard()
        finally:
            if not words[W_BESIDE]:
                words[W_BEATS] = 0

    def failed(self, error: BaseException) -> None:
        """Tell who waits for a call that this guard runs none any more, and that none follows it by itself."""
        words = self._ring.words
        # A guard that was stopped by Ctrl-C or a signal's handler is like one that was killed: another may be started.
        # In gfun that is done after a death only.
        if isinstance(error, Exception) or words[W_BESIDE]:
            words[W_BROKEN] = 1

    def _loop(self, words: Any) -> None:
        ring = self._ring
        used = said = time.monotonic()
        before = first = ring._settled()
        while True:
            self._run_batch()
            now = time.monotonic()
            settled = ring._settled()
            self.count = settled - first
            if said + self._guard.VerboseTime <= now and self._guard.VerboseTime:
                said = now
                self._say(now - used)
            if settled != before or words[W_BESIDE]:
                used = now
            if settled == before:
                if self._may_end(words, now - used):
                    return
                self._sleep(words)
            before = settled

    def _run_batch(self) -> None:
        try:
            self._buffer.run(_BATCH)
        except SharedMemoryFull:
            # There is no room for a result, nor for a failure: the call stays STARTED until there is.
            time.sleep(SLICE_S)

    def _may_end(self, words: Any, unused_s: float) -> bool:
        if not self._is_over(words, unused_s) or self._ring.pending():
            return False
        self._guard.Status = False
        # In this order: what the script has appended last is run as well.
        return not self._script.is_worth_waiting() and not self._ring.pending()

    def _is_over(self, words: Any, unused_s: float) -> bool:
        if self._ring.domain.ended:
            raise DomainEnded.of(self._ring.domain.id)
        if words[W_BESIDE]:
            return False
        if not self._guard.Status or not self._shared.guard.get("Status", True):
            return True
        if words[W_BEATS] and not self._ring.hearts():
            return True
        return bool(self._guard.ExitTime) and unused_s >= self._guard.ExitTime

    def _sleep(self, words: Any) -> None:
        """Wait for a call, for a moment without sleeping."""
        ring = self._ring
        end = time.perf_counter() + _LINGER_S
        following = ring._settled() + 1
        at = ring.at(following)
        while time.perf_counter() < end:
            if words[at] >> 2 == following:
                return
            # Whom it has just woken may have to run on this core.
            _give_way()
        try:
            while True:
                ring.work.acquire(0)
        except Busy:
            pass
        words[W_ASLEEP] = 1
        if words[at] >> 2 != following and (words[W_BESIDE] or not self._may_end(words, 0.0)):
            ring.work.wait(min(self._guard.EmpLoopTime or SLICE_S, 1.0))
        words[W_ASLEEP] = 0

    def _say(self, unused_s: float) -> None:
        waiting = len(self._ring.pending())
        # Both can be done later as well, and the calls that wait may be those that make room.
        with contextlib.suppress(SharedMemoryFull):
            self._buffer.clear_parcels()
            self._shared.guard.update(calls=self.count)
        self._print(
            f"XMEGuard: {self.count} calls done, {waiting} wait, {self._ring.hearts()} hearts beat, "
            f"nothing to do for {unused_s:.1f} s"
        )
